"""A server that speaks a Hugging Face hub's protocol, as far as reading a repository needs it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Files of this size or more are kept as LFS objects, known by their SHA-256.
LFS_BYTES = 1000


@dataclass
class FakeHub:
    """Repositories by name, each with commits (files by name) and refs (branch or tag to commit).

    ``breaks`` is after how many bytes each of the next downloads of weights breaks off; ``token``,
    if set, is asked for; ``down`` answers 503 so many times.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refs: dict[tuple[str, str], str] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    token: str | None = None
    gated: bool = False
    down: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    ranges: bool = True
    url: str = ""

    def commit(self, repository: str, files: dict[str, bytes], ref: str = "main") -> str:
        """Add a commit and let a ref name it."""
        described = repr(sorted((n, hashlib.sha256(c).hexdigest()) for n, c in files.items()))
        sha = hashlib.sha1(described.encode(), usedforsecurity=False).hexdigest()
        self.repositories.setdefault(repository, {})[sha] = dict(files)
        self.refs[repository, ref] = sha
        return sha

    def resolve(self, repository: str, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        if revision in self.repositories.get(repository, {}):
            return revision
        return self.refs.get((repository, revision))

    def downloads(self, name: str) -> list[str | None]:
        """The ``Range`` of each request for a file, None for the whole."""
        return [asked for path, asked in self.asked if path.endswith(f"/{name}")]


def blob_id(content: bytes) -> str:
    """The git id of a blob."""
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def described(name: str, content: bytes) -> dict[str, Any]:
    """A file as the hub's API lists it."""
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob_id(content)}
    if len(content) >= LFS_BYTES:
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return entry


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub on a free port."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            hub.asked.append((self.path, self.headers["Range"]))
            if hub.down > 0:
                hub.down -= 1
                return self.fail(503, "")
            if hub.token and self.headers["Authorization"] != f"Bearer {hub.token}":
                return self.fail(401, "GatedRepo" if hub.gated else "RepoNotFound")
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^?]+)\?.*", self.path):
                return self.describe(found[1], found[2].replace("%2F", "/"))
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)", self.path):
                return self.send_file(found[1], found[2], found[3])
            return self.fail(404, "EntryNotFound")

        def describe(self, repository: str, revision: str) -> None:
            if repository not in hub.repositories:
                return self.fail(404, "RepoNotFound")
            sha = hub.resolve(repository, revision)
            if sha is None:
                return self.fail(404, "RevisionNotFound")
            files = hub.repositories[repository][sha]
            body = json.dumps(
                {"id": repository, "sha": sha, "siblings": [described(*f) for f in files.items()]}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None

        def send_file(self, repository: str, revision: str, name: str) -> None:
            sha = hub.resolve(repository, revision)
            content = hub.repositories.get(repository, {}).get(sha or "", {}).get(name)
            if content is None:
                return self.fail(404, "EntryNotFound")
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            start = int(wanted[1]) if wanted and hub.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{blob_id(content)}"')
            self.send_header("X-Repo-Commit", sha or "")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if name.endswith(".safetensors") and hub.breaks:
                self.wfile.write(body[: hub.breaks.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return None
            self.wfile.write(body)
            return None

        def fail(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
