# SPDX-License-Identifier: Apache-2.0
"""Fetching an official SAM 2 file, when the user asks for it."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch
from filelock import FileLock
from monai.utils import look_up_option
from tqdm import tqdm

from ...utils import atomic_path, escaping_logger, sha256_of_file
from .catalog import SAM2_CATALOG, CatalogEntry

__all__ = ["default_weights_directory", "download_sam2_checkpoint", "sha256_of_file"]

logger = escaping_logger(__name__)

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 30.0  # seconds without a byte from the server
_SLOWEST = 1024  # bytes a second, on average over that time
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each request that follows a break with no new byte in between
# what the network does; a full disk is none of these
_NETWORK_ERRORS = (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)


def default_weights_directory() -> Path:
    """The folder where PyTorch keeps downloaded weights (below ``TORCH_HOME`` where that is set)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def download_sam2_checkpoint(
    name: str,
    directory: str | os.PathLike[str] | None = None,
    url: str | None = None,
    progress: bool = True,
) -> Path:
    """
    Download one official SAM 2 file and check it, unless it is there already.

    The bytes go to ``<file>.part``, which gets the final name only after its checksum was found right. A broken
    download goes on where it stopped, also in a later call, and processes that ask for one file at a time (the ranks
    of a distributed run) wait for the first one's.

    huggingface_hub's download is not used: it gives up and starts at zero after a connection reset or a killed run,
    and names the file before its checksum can be looked at (tried with version 2.4.0).

    Args:
        name: name in ``SAM2_CATALOG``, such as ``sam2.1_hiera_tiny``.
        directory: folder to put the file in, created when absent. Defaults to PyTorch's folder of downloaded weights.
        url: another address of the same file, such as a mirror's. Defaults to the official one.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        path of the file.

    Raises:
        ValueError: when ``name`` is not in the catalog, or ``url`` is none of the web.
        RuntimeError: when the server cannot be reached, the file there or in ``directory`` is not the official one, or
            the disk has no room for it.
    """
    entry = look_up_option(name, SAM2_CATALOG)
    folder = default_weights_directory() if directory is None else Path(directory).expanduser()
    target = folder / entry.filename
    if target.is_dir():
        raise RuntimeError(f"{target} is a folder, in the place of the file; move it, or pass another directory.")
    if url is not None and not url.startswith(("http://", "https://")):
        raise ValueError(f"the url must begin with http:// or https://, got {url!r}.")
    # looked at before the lock is taken, so that a folder that cannot be written to serves as well
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_file():
                _download(entry, url or entry.url, target, progress)
                return target
    _check_present(entry, target)
    return target


def _check_present(entry: CatalogEntry, target: Path) -> None:
    sha256 = sha256_of_file(target)
    if sha256 != entry.sha256:
        raise RuntimeError(
            f"{target} is not the official file: its SHA-256 is {sha256} ({target.stat().st_size} bytes), expected "
            f"{entry.sha256} ({entry.size} bytes). Delete or rename it and run again, or pass another directory."
        )
    logger.info(f"{target} is there already, its checksum is right")


def _download(entry: CatalogEntry, url: str, target: Path, progress: bool) -> None:
    part = target.with_name(f"{target.name}.part")
    if part.is_symlink() or _size(part) > entry.size:
        part.unlink()
    _check_space(entry, part)
    logger.info(f"downloading {url} to {target}")
    with tqdm(
        total=entry.size, initial=_size(part), unit="B", unit_scale=True, desc=entry.filename, disable=not progress
    ) as bar:
        _fetch(entry, url, part, target, bar)
    sha256 = sha256_of_file(part)
    if sha256 != entry.sha256:
        bad = target.with_name(f"{target.name}.bad")
        os.replace(part, bad)
        raise RuntimeError(
            f"the file from {url} is not the official one: its SHA-256 is {sha256}, expected {entry.sha256}. "
            f"It was kept as {bad} and is not used; run again to download anew, or pass the url of another server."
        )
    os.replace(part, target)


def _check_space(entry: CatalogEntry, part: Path) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < entry.size - _size(part):
        raise RuntimeError(
            f"{entry.filename} needs {entry.size - _size(part)} more bytes, {part.parent} has {free} free; "
            f"make room or pass another directory."
        )


def _fetch(entry: CatalogEntry, url: str, part: Path, target: Path, bar: tqdm) -> None:
    """Bring ``part`` to the full size, with as many requests as breaks of the connection make necessary."""
    size_before = _size(part)
    breaks = 0
    while (start := _size(part)) != entry.size:
        try:
            _request(entry, url, part, start, bar)
        except _NETWORK_ERRORS as error:
            breaks = 1 if _size(part) > start else breaks + 1
            # with no byte since the call began there is hardly a server to wait for: say so at once
            if _size(part) == size_before or breaks > len(_PAUSES):
                raise RuntimeError(
                    f"cannot download {url}: {error}. Check the connection and run again (the {_size(part)} bytes "
                    f"that came are kept and it goes on from there), or fetch the file by other means, from that "
                    f"address or from https://huggingface.co/{entry.repo_id}, and put it at {target}"
                ) from error
            logger.warning(f"the download of {url} broke off at {_size(part)} bytes ({error}); going on")
            time.sleep(_PAUSES[breaks - 1])


def _request(entry: CatalogEntry, url: str, part: Path, start: int, bar: tqdm) -> None:
    """Ask for the bytes from ``start`` and append them to ``part`` as they come."""
    headers = {"User-Agent": "monai_sam2adapter"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        goes_on = response.status == http.client.PARTIAL_CONTENT
        length = response.headers.get("Content-Length")
        _check_offer(entry, url, start if goes_on else 0, length, response.headers.get("Content-Range"))
        if goes_on or (not start and length is not None and length.isdecimal()):
            _append(response, entry, url, part, bar)
            return
        # a whole file in the place of what is missing, or of unknown length: it may be a login page or never end, and
        # must not take the place of what came already
        bar.n = 0
        with atomic_path(part) as whole:
            _append(response, entry, url, whole, bar)


def _append(response: http.client.HTTPResponse, entry: CatalogEntry, url: str, part: Path, bar: tqdm) -> None:
    """Append what comes, up to the size of the official file."""
    since, received = time.monotonic(), 0
    with open(part, "ab", opener=_open_no_link) as file:
        start = file.tell()
        while chunk := response.read1(min(_CHUNK, entry.size - file.tell() + 1)):
            if file.tell() + len(chunk) > entry.size:
                file.truncate(start)
                raise _no_official_file(entry, url, f"more than {entry.size}")
            file.write(chunk)
            bar.update(len(chunk))
            received += len(chunk)
            if (passed := time.monotonic() - since) > _TIMEOUT:
                if received < _SLOWEST * passed:
                    raise TimeoutError(f"{received} bytes in {passed:.0f} seconds are too slow")
                since, received = time.monotonic(), 0
        missing = entry.size - file.tell()
    if missing:
        raise http.client.IncompleteRead(b"", missing)


def _check_offer(entry: CatalogEntry, url: str, start: int, length: str | None, content_range: str | None) -> None:
    """Before anything is written."""
    if length is not None and length.isdecimal() and start + int(length) != entry.size:
        raise _no_official_file(entry, url, str(start + int(length)))
    if start and content_range not in (None, f"bytes {start}-{entry.size - 1}/{entry.size}"):
        raise _no_official_file(entry, url, f"other ({content_range}, asked to go on at {start})")


def _no_official_file(entry: CatalogEntry, url: str, size: str) -> RuntimeError:
    return RuntimeError(
        f"{url} answers with a file of {size} bytes, the official one has {entry.size}. "
        f"Is there a proxy or a login page in between? See what the address shows in a browser."
    )


def _open_no_link(path: str, flags: int) -> int:
    """Others may write to the folder, too: a link that they have laid there is not followed."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _size(path: Path) -> int:
    return path.lstat().st_size if os.path.lexists(path) else 0
