# SPDX-License-Identifier: Apache-2.0
"""Downloads of official files, from a server on this machine that breaks off, resets and lies."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from monai_sam2adapter.networks.weights import SAM2_CATALOG, catalog, download, download_sam2_checkpoint

NAME = "sam2.1_hiera_tiny"


@pytest.fixture(autouse=True)
def catalog_of_the_server(server, monkeypatch):
    """Let the official address be the server's, and the official file the one that it serves."""
    sha256 = hashlib.sha256(server.content).hexdigest()
    entry = dataclasses.replace(SAM2_CATALOG[NAME], size=len(server.content), sha256=sha256)
    monkeypatch.setitem(SAM2_CATALOG, NAME, entry)
    monkeypatch.setattr(catalog, "_FILES_URL", server.url)
    monkeypatch.setattr(download, "_PAUSES", (0.0,) * 5)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "weights" / f"{NAME}.pt"


def get(target: Path, url: str | None = None) -> Path:
    return download_sam2_checkpoint(NAME, target.parent, url=url, progress=False)


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


class TestDownload:
    def test_file_arrives_whole_from_the_official_address(self, server, target):
        assert get(target) == target
        assert target.read_bytes() == server.content
        assert names_in(target.parent) == {target.name}
        assert server.requested_paths == [f"/092824/{NAME}.pt"]

    def test_another_address_is_used_when_given(self, server, target):
        get(target, url=f"{server.url}/mirror/file")
        assert server.requested_paths == ["/mirror/file"]

    def test_default_directory_is_below_torch_home(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        path = download_sam2_checkpoint(NAME, progress=False)
        assert path == tmp_path / "hub" / "checkpoints" / f"{NAME}.pt"
        assert path.read_bytes() == server.content

    def test_progress_bar_counts_to_the_full_size(self, target, capsys):
        download_sam2_checkpoint(NAME, target.parent)
        assert "100%" in capsys.readouterr().err

    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    def test_broken_connection_goes_on_where_it_stopped(self, server, target, reset):
        server.drops, server.reset = 1, reset
        get(target)
        assert target.read_bytes() == server.content
        first, second = server.requested_ranges
        assert first is None
        # after a reset, what had not been read yet may be lost
        assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= len(server.content) // 2

    def test_server_without_ranges_sends_all_again(self, server, target):
        server.drops, server.knows_ranges = 1, False
        get(target)
        assert target.read_bytes() == server.content
        assert len(server.requested_ranges) == 2

    def test_later_call_goes_on_with_the_part_of_a_killed_one(self, server, target):
        put(target.with_name(f"{target.name}.part"), server.content[:1234])
        get(target)
        assert target.read_bytes() == server.content
        assert names_in(target.parent) == {target.name}
        assert server.requested_ranges == ["bytes=1234-"]

    def test_whole_part_of_a_killed_call_needs_no_request(self, server, target):
        put(target.with_name(f"{target.name}.part"), server.content)
        get(target)
        assert target.read_bytes() == server.content
        assert server.requested_ranges == []

    def test_part_longer_than_the_file_is_fetched_anew(self, server, target):
        put(target.with_name(f"{target.name}.part"), server.content + b"more")
        get(target)
        assert target.read_bytes() == server.content
        assert server.requested_ranges == [None]

    def test_present_file_is_not_downloaded_again(self, server, target):
        put(target, server.content)
        assert get(target) == target
        assert server.requested_ranges == []

    def test_two_at_once_download_once(self, server, target):
        results = []
        threads = [threading.Thread(target=lambda: results.append(get(target))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [target, target]
        assert target.read_bytes() == server.content
        assert server.requested_ranges == [None]


def answer(status: int, body: bytes = b"<html>please log in</html>" * 200, times: int = 1, pause: float = 0, **headers):
    """What a server sends in the place of the file, in ``times`` pieces."""

    def send(handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        try:
            for _ in range(times):
                handler.wfile.write(body)
                time.sleep(pause)
        except OSError:
            pass  # the client has heard enough

    return send


# of a file of 5000000 bytes
BAD_ANSWERS = {
    "page_without_length": answer(200),
    "page_with_length": answer(200, Content_Length="5200"),
    "page_of_the_right_length_that_breaks_off": answer(200, Content_Length="5000000"),
    "endless": answer(200, bytes(1 << 20), times=50),
    "endless_part": answer(206, bytes(1 << 20), times=50),
    "another_part": answer(206, Content_Range="bytes 0-5199/5200"),
    "part_of_another_file": answer(206, Content_Range="bytes 1234-5199/5200"),
    "no_bytes": answer(200, b""),
    "length_that_is_no_number": answer(200, Content_Length="abc"),
    "not_found": answer(404),
    "server_error": answer(503),
    "login_elsewhere": answer(302, Location="/login"),
    "silent": answer(200, b"", pause=2),
    "trickling": answer(200, b"x", times=30, pause=0.1),
}


class TestDownloadErrors:
    @pytest.mark.parametrize("kind", BAD_ANSWERS)
    @pytest.mark.parametrize("size", [0, 1234, 2_500_000])
    def test_no_answer_takes_the_place_of_what_came_before(self, server, target, monkeypatch, kind, size):
        monkeypatch.setattr(download, "_TIMEOUT", 0.5)
        part = target.with_name(f"{target.name}.part")
        put(part, server.content[:size])
        server.answer = BAD_ANSWERS[kind]
        with pytest.raises(RuntimeError, match=r"cannot download|official one has 5000000|is not the official one"):
            get(target)
        assert not target.exists()
        if size:
            assert part.read_bytes() == server.content[:size]
        server.answer = None
        if part.exists() and part.stat().st_size == size:
            assert get(target).read_bytes() == server.content
            assert server.requested_ranges[-1] == (f"bytes={size}-" if size else None)

    def test_whole_file_of_unknown_length_is_taken(self, server, target):
        put(target.with_name(f"{target.name}.part"), server.content[:1234])
        server.answer = answer(200, server.content)
        assert get(target).read_bytes() == server.content

    @pytest.mark.parametrize("ending", [".part", ".lock"])
    def test_link_in_the_folder_is_not_followed(self, server, target, tmp_path, ending):
        victim = tmp_path / "victim"
        victim.write_text("precious")
        target.parent.mkdir()
        target.with_name(target.name + ending).symlink_to(victim)
        try:
            get(target)
        except OSError:
            assert ending == ".lock"
        assert victim.read_text() == "precious"

    def test_an_address_that_is_none_is_refused(self, target):
        for url in ("x", "file:///etc/passwd", "ftp://host/file", ""):
            with pytest.raises(ValueError, match=r"must begin with http:// or https://, got"):
                get(target, url=url)
        assert not target.parent.exists()

    def test_folder_in_the_place_of_the_file_is_told_before(self, server, target):
        target.mkdir(parents=True)
        with pytest.raises(RuntimeError, match="is a folder, in the place of the file"):
            get(target)
        assert not server.requested_paths

    def test_unknown_name_is_answered_with_the_nearest(self, tmp_path):
        with pytest.raises(ValueError, match=r"did you mean 'sam2\.1_hiera_tiny'"):
            download_sam2_checkpoint("sam2.1_hiera_tinny", tmp_path)

    def test_server_that_keeps_breaking_off_leaves_only_the_part(self, server, target):
        server.drops = 10**6
        with pytest.raises(RuntimeError, match=r"cannot download http://127.* bytes that came are kept"):
            get(target)
        assert names_in(target.parent) == {f"{target.name}.part"}
        received = target.with_name(f"{target.name}.part").stat().st_size
        assert received > len(server.content) * 0.9
        server.drops = 0
        get(target)
        assert target.read_bytes() == server.content
        assert server.requested_ranges[-1] == f"bytes={received}-"

    def test_wrong_checksum_keeps_the_file_under_another_name(self, server, target):
        good = server.content
        server.content = bytes(len(good))
        with pytest.raises(RuntimeError, match=r"is not the official one: its SHA-256 is .*kept as .*\.pt\.bad"):
            get(target)
        assert names_in(target.parent) == {f"{target.name}.bad"}
        server.content = good
        assert get(target).read_bytes() == good

    def test_present_file_with_a_wrong_checksum_is_left_alone(self, server, target):
        put(target, b"a net of my own")
        with pytest.raises(RuntimeError, match=r"is not the official file: .*\(15 bytes\).*Delete or rename it"):
            get(target)
        assert target.read_bytes() == b"a net of my own"
        assert server.requested_ranges == []

    def test_status_of_a_refusing_server_is_told_at_once(self, server, target):
        server.status = 403
        with pytest.raises(RuntimeError, match=r"cannot download .*HTTP Error 403"):
            get(target)
        assert len(server.requested_ranges) == 1
        assert not target.exists()

    def test_offline_names_the_address_and_the_place_for_the_file(self, target, monkeypatch):
        def no_network(*args, **kwargs):
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        monkeypatch.setattr(catalog, "_FILES_URL", "https://dl.example.org")
        monkeypatch.setattr(socket, "getaddrinfo", no_network)
        monkeypatch.setenv("no_proxy", "*")
        expected = rf"cannot download https://dl\.example\.org/092824/{NAME}\.pt: .*name resolution.*put it at "
        with pytest.raises(RuntimeError, match=expected + re.escape(str(target))):
            get(target)
        assert names_in(target.parent) == set()

    def test_full_disk_is_told_before_the_download(self, server, target, monkeypatch):
        usage = collections.namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
        with pytest.raises(RuntimeError, match=r"needs 5000000 more bytes, .* has 1 free"):
            get(target)
        assert server.requested_ranges == []
