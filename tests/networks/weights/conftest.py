# SPDX-License-Identifier: Apache-2.0
"""Random checkpoints with the names and shapes of the official ones, and an HTTP server that misbehaves on request."""

from __future__ import annotations

import copy
import http.server
import json
import re
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from monai_sam2adapter.networks.nets import PromptFreeSAM2


@pytest.fixture(autouse=True)
def removed_afterwards(tmp_path: Path) -> Iterator[None]:
    """Checkpoints are large, and pytest keeps the folders of three runs."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture
def official_tensors(checkpoint_keys: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """``official_tensors(variant)``: random tensors by the names and shapes of the official SAM 2.1 file."""

    def make(variant: str) -> dict[str, torch.Tensor]:
        shapes = json.loads((checkpoint_keys / f"sam2.1_hiera_{variant}.json").read_text())
        return _random_tensors(shapes, seed=0)

    return make


@pytest.fixture(scope="session")
def untouched_net() -> PromptFreeSAM2:
    torch.manual_seed(0)
    return PromptFreeSAM2(variant="tiny", adapter="hp", in_channels=1, out_channels=4)


@pytest.fixture
def net(untouched_net: PromptFreeSAM2) -> PromptFreeSAM2:
    return copy.deepcopy(untouched_net)


@pytest.fixture(scope="session")
def untouched_tensors(untouched_net: PromptFreeSAM2) -> dict[str, torch.Tensor]:
    state = untouched_net.state_dict()
    shapes = {name: tuple(state[name].shape) for name in untouched_net.sam2_state_names()}
    layers = "sam_mask_decoder.output_hypernetworks_mlps.0.layers"
    shapes |= {f"{layers}.{i}.weight": (width, 256) for i, width in enumerate((256, 256, 32))}
    shapes |= {f"{layers}.{i}.bias": (width,) for i, width in enumerate((256, 256, 32))}
    shapes |= {"sam_mask_decoder.mask_tokens.weight": (4, 256), "obj_ptr_proj.layers.0.weight": (256, 256)}
    return _random_tensors(shapes, seed=1)


@pytest.fixture
def tiny_tensors(untouched_tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random tensors for everything that the tiny net takes from SAM 2, and one that it has no use for."""
    return dict(untouched_tensors)


@pytest.fixture(scope="session")
def tiny_checkpoint(
    untouched_tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A file with ``tiny_tensors``, not to be changed."""
    path = tmp_path_factory.mktemp("weights") / "sam2_hiera_tiny.pt"
    torch.save({"model": untouched_tensors}, path)
    yield path
    path.unlink()


def _random_tensors(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.empty(shapes[name]).uniform_(-0.1, 0.1, generator=generator) for name in sorted(shapes)}


@pytest.fixture
def on_meta() -> torch.device:
    """Large nets get shapes and no memory."""
    return torch.device("meta")


class FileServer(http.server.ThreadingHTTPServer):
    """
    Serves one file on 127.0.0.1 under every path, and keeps the Range header of each request.

    ``drops`` requests are cut off after half of what they should send: by closing the connection, or by a reset.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.drops = 0
        self.reset = False
        self.knows_ranges = True
        self.status = 200
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None  # in the place of the file
        self.requested_ranges: list[str | None] = []
        self.requested_paths: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, requested = self.server, self.headers.get("Range")
        server.requested_ranges.append(requested)
        server.requested_paths.append(self.path)
        if server.answer is not None:
            server.answer(self)
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if requested is not None and server.knows_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", requested).group(1))
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.drops > 0:
            server.drops -= 1
            self._drop(body[: len(body) // 2])
        else:
            self.wfile.write(body)

    def _drop(self, body: bytes) -> None:
        self.wfile.write(body)
        self.close_connection = True
        if self.server.reset:
            threading.Event().wait(0.2)  # a reset discards what the client has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = torch.randint(256, (5_000_000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    server = FileServer(content.numpy().tobytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
