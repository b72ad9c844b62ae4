# SPDX-License-Identifier: Apache-2.0
"""A server that answers as the Hugging Face Hub does, as far as pushing and downloading a repository asks it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_tests"


@dataclass
class Repo:
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {".gitattributes": b""}})
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def resolve(self, revision: str) -> str | None:
        if revision == "main":
            return self.head
        return self.tags.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    address: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, content: Any = None, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, what: str = "RepoNotFound") -> None:
        self.answer({"error": "not found"}, 404, X_Error_Code=what)

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        place = unquote(urlsplit(self.path).path).strip("/")
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        parts = place.split("/")
        if place.startswith("lfs/"):
            self.hub.blobs[parts[1]] = body
            return self.answer({})
        if self.command in ("POST", "DELETE") and not allowed:
            return self.answer({"error": "Invalid username or password."}, 401)
        if place == "api/repos/create":
            return self.create(json.loads(body))
        if place == "api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if parts[:2] == ["api", "models"]:
            return self.model("/".join(parts[2:4]), parts[4:], body, allowed)
        if place.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        if len(parts) > 4 and parts[2] == "resolve":
            return self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), allowed)
        return self.missing("EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        status = 409 if name in self.hub.repos else 200
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repos.setdefault(name, Repo(bool(private)))
        self.answer({"url": f"{self.hub.address}/{name}", "name": name}, status)

    def model(self, name: str, rest: list[str], body: bytes, allowed: bool) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not allowed):
            return self.missing()
        match rest:
            case ["refs"]:
                refs = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": at} for tag, at in repo.tags.items()]
                main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
                return self.answer({"tags": refs, "branches": [main], "converts": []})
            case ["preupload", _]:
                modes = [
                    {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".pt") else "regular"}
                    | {"shouldIgnore": False, "oid": None}
                    for file in json.loads(body)["files"]
                ]
                return self.answer({"files": modes})
            case ["commit", _]:
                return self.commit(name, repo, [json.loads(line) for line in body.splitlines()])
            case ["tag", revision]:
                if self.command == "DELETE":
                    return self.answer({}, 200 if repo.tags.pop(revision, None) else 404)
                tag = json.loads(body)["tag"]
                if tag in repo.tags:
                    return self.answer({"error": "exists"}, 409)
                repo.tags[tag] = repo.resolve(revision) or ""
                return self.answer({})
            case ["tree", revision, *_]:
                files = repo.commits[repo.resolve(revision) or repo.head]
                return self.answer(
                    [{"type": "file", "path": path, "size": len(files[path]), "oid": "0"} for path in files]
                )
            case [] | ["revision", _]:
                at = repo.resolve(rest[1] if rest else "main")
                if at is None:
                    return self.missing("RevisionNotFound")
                files = [{"rfilename": path} for path in repo.commits[at]]
                return self.answer({"id": name, "modelId": name, "sha": at, "private": repo.private, "siblings": files})
        return self.missing("EntryNotFound")

    def commit(self, name: str, repo: Repo, lines: list[dict[str, Any]]) -> None:
        files = dict(repo.commits[repo.head])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        at = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        repo.commits[at] = files
        url = f"{self.hub.address}/{name}/commit/{at}"
        self.answer({"success": True, "commitOid": at, "commitUrl": url, "hookOutput": ""})

    def batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")

    def file(self, name: str, revision: str, path: str, allowed: bool) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not allowed):
            return self.missing()
        at = repo.resolve(revision)
        if at is None or path not in repo.commits[at]:
            return self.missing("EntryNotFound")
        content = repo.commits[at][path]
        return self.answer(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=at)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub without repositories at ``address``, for the time of the block."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        hub.address = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield hub
        http.shutdown()
