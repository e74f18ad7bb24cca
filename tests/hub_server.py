"""A small Hugging Face hub on loopback: the part of its protocol that pushing and fetching need.

Small files come with the commit, weights by the LFS protocol. Reading a public repository needs no
token. A repository that a visitor may not read is as one that is not there, as on the hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens: of the owner of everything, and of one who may only read."""


class Hub:
    """Its repositories, and every request that it has had."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.address = ""

    def revision(self, name: str) -> str:
        """The commit of a repository, which its content determines here."""
        digest = hashlib.sha1(name.encode())
        for path, content in sorted(self.repositories[name].items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def answer(self, code: int, content: Any = b"", **headers: str) -> None:
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        """What was sent, as a whole or in chunks."""
        if (length := self.headers["Content-Length"]) is not None:
            return self.rfile.read(int(length))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def readable(self, name: str) -> bool:
        """Whether the visitor may read a repository; if not, the answer says so."""
        if name in self.hub.repositories and (name not in self.hub.private or self.token):
            return True
        code = 404 if self.token else 401
        self.answer(code, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return False

    def writable(self) -> bool:
        if self.token == WRITER:
            return True
        if self.token:
            self.answer(403, {"error": "no"}, X_Error_Message="You have no rights here")
        else:
            self.answer(401, {"error": "Invalid username or password."})
        return False

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if path.startswith("/api/models/"):
            owner, name, *_ = path.removeprefix("/api/models/").split("/")
            name = f"{owner}/{name}"
            if self.readable(name):
                files = self.hub.repositories[name]
                siblings = [{"rfilename": one} for one in files]
                sha = self.hub.revision(name)
                self.answer(200, {"id": name, "sha": sha, "siblings": siblings})
            return
        name, _, rest = path.lstrip("/").partition("/resolve/")
        if self.readable(name):
            self._file(name, rest.partition("/")[2])

    do_HEAD = do_GET

    def _file(self, name: str, path: str) -> None:
        sha = self.hub.revision(name)
        if (content := self.hub.repositories[name].get(path)) is None:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            return
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.answer(200, content, ETag=etag, X_Repo_Commit=sha)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(("POST", path))
        body = self.body()
        if path == "/api/validate-yaml":
            errors = faults(json.loads(body)["content"])
            found = [{"message": error} for error in errors]
            self.answer(400 if errors else 200, {"errors": found, "warnings": []})
        elif not self.writable():
            pass
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif "/preupload/" in path:
            files = [
                {"path": one["path"], "shouldIgnore": False, "uploadMode": mode(one["path"])}
                for one in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        known = name in self.hub.repositories
        self.hub.repositories.setdefault(name, {".gitattributes": b""})
        if wanted.get("visibility") == "private":
            self.hub.private.add(name)
        self.answer(409 if known else 200, {"url": f"{self.hub.address}/{name}"})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def do_PUT(self) -> None:
        content = self.body()
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.objects[oid] = content
        self.answer(200)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        sha = self.hub.revision(name)
        url = f"{self.hub.address}/{name}/commit/{sha}"
        self.answer(200, {"success": True, "commitOid": sha, "commitUrl": url})


def mode(path: str) -> str:
    """How the hub wants a file to be sent."""
    return "lfs" if path.endswith(".safetensors") else "regular"


def faults(card: str) -> list[str]:
    """What the hub's validator says about the metadata of a card, of what is checked here."""
    _, block, _ = card.split("---\n", 2)
    data = yaml.safe_load(block)
    found = []
    if not isinstance(data.get("license", ""), str):
        found.append('"license" must be a string')
    for key in ("base_model", "datasets", "language", "tags"):
        given = data.get(key, [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            found.append(f'"{key}" must be a list of strings')
    results = [one for model in data.get("model-index", []) for one in model["results"]]
    if not all({"task", "dataset", "metrics"} <= one.keys() for one in results):
        found.append('"model-index" lacks a part')
    return found


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
