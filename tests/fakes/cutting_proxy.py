"""A TCP proxy that cuts or holds connections after a number of bytes, as a bad network does."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

CHUNK_BYTES = 16 * 1024
LARGE_BYTES = 100_000


@dataclass
class CuttingProxy:
    """Hands everything on to ``target``, but for what is cut or held.

    ``cuts`` is after how many bytes each of the next large answers is cut. ``hold_after`` is after
    how many bytes the large answer of number ``hold_at_request`` (from 1) is held until ``delay``.
    """

    target: tuple[str, int]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    hold_after: int | None = None
    hold_at_request: int = 1
    held: threading.Event = field(default_factory=threading.Event)
    delay: threading.Event = field(default_factory=threading.Event)
    large_answers: int = 0


@contextlib.contextmanager
def running_proxy(target: tuple[str, int]) -> Iterator[CuttingProxy]:
    """A proxy on a free port."""
    proxy = CuttingProxy(target)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), socket.create_connection(proxy.target) as upstream:
                sending = threading.Thread(target=self.send, args=(upstream,), daemon=True)
                sending.start()
                self.receive(upstream)
                self.request.shutdown(socket.SHUT_RDWR)

        def send(self, upstream: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while chunk := self.request.recv(CHUNK_BYTES):
                    proxy.requests.append(chunk.decode("latin-1"))
                    upstream.sendall(chunk)

        def receive(self, upstream: socket.socket) -> None:
            size = 0
            while chunk := upstream.recv(CHUNK_BYTES):
                before = 0 if chunk.startswith(b"HTTP/1.1 ") else size
                size = before + len(chunk)
                if before <= LARGE_BYTES < size:
                    proxy.large_answers += 1
                if (
                    proxy.hold_after is not None
                    and proxy.large_answers == proxy.hold_at_request
                    and size > proxy.hold_after
                ):
                    proxy.held.set()
                    proxy.delay.wait(60)
                if proxy.cuts and size > max(LARGE_BYTES, proxy.cuts[0]):
                    proxy.cuts.pop(0)
                    return
                self.request.sendall(chunk)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        address: Any = server.server_address
        proxy.url = f"http://127.0.0.1:{address[1]}"
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield proxy
        proxy.delay.set()
        server.shutdown()
        serving.join()
