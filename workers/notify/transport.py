"""Requests to receivers: to permitted addresses only, with one deadline, and no redirects."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx

from gate.hooks.addresses import Network, may_connect

#: What is read of an answer to a webhook at most, in bytes.
LONGEST_ANSWER = 64 * 1024
#: What a socket may be told besides, in the words of httpcore.
SocketOptions = Iterable[Any]


class BlockedAddressError(Exception):
    """A receiver's name leads to an address that the gate must not connect to."""


class UnreachableError(Exception):
    """A receiver gave no answer in time, or none at all."""


@dataclass(frozen=True)
class Answer:
    """What a receiver said: its status, headers, and the beginning of its body."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status says that it was taken."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Sending:
    """How requests are sent.

    ``seconds`` bounds a whole request, from the connection to the answer; ``longest`` is how many
    bytes of an answer are read.
    """

    allowed: Sequence[Network] = ()
    seconds: float = 15.0
    longest: int = LONGEST_ANSWER
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def request(
        self, method: str, url: str, headers: dict[str, str], content: bytes | None = None
    ) -> Answer:
        """Send one request over a connection of its own and read the answer.

        Name lookup is the operating system's and keeps its own time; all else ends with the
        deadline. No proxy of the environment is used: it would connect where nobody looks.

        Raises:
            BlockedAddressError: no permitted address.
            UnreachableError: no answer in time, or none that is HTTP.
        """
        backend = _GuardedBackend(self.allowed, time.monotonic() + self.seconds)
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self.seconds)
        asked = httpx.Request(method, url, headers=headers, content=content)
        target = asked.url
        try:
            with (
                httpcore.ConnectionPool(self.tls, network_backend=backend) as pool,
                pool.stream(
                    method,
                    httpcore.URL(
                        scheme=target.raw_scheme,
                        host=target.raw_host,
                        port=target.port,
                        target=target.raw_path,
                    ),
                    headers=asked.headers.raw,
                    content=content,
                    extensions={"timeout": timeouts},
                ) as response,
            ):
                body = _start(response, self.longest)
                return Answer(response.status, httpx.Headers(response.headers), body)
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            OSError,
            UnicodeError,
        ) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _start(response: httpcore.Response, longest: int) -> bytes:
    read = bytearray()
    for chunk in response.iter_stream():
        read += chunk
        if len(read) >= longest:
            break
    return bytes(read[:longest])


class _GuardedBackend(httpcore.NetworkBackend):
    """Resolves a name once, and connects to one of the addresses that it has looked at.

    The name stays in the Host header and in TLS, where the certificate is checked against it; a
    name that leads elsewhere on a second lookup therefore gains nothing.
    """

    def __init__(self, allowed: Sequence[Network], deadline: float) -> None:
        self._allowed = allowed
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first permitted address that answers."""
        refused, last = [], None
        for address in _addresses(host, port):
            if not may_connect(address, self._allowed):
                refused.append(address)
                continue
            try:
                stream = self._inner.connect_tcp(
                    address, port, _left(self._deadline, timeout), None, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
            else:
                return _DeadlineStream(stream, self._deadline)
        if last is not None:
            raise last
        raise BlockedAddressError(
            f"{host} leads to {', '.join(refused)}, which is not a public address; "
            "allowed_networks in the hooks file can permit it"
        )

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        """Never: receivers are reached over a network."""
        raise BlockedAddressError("a Unix socket is no receiver")

    def sleep(self, seconds: float) -> None:
        """Wait between attempts at a connection; never asked for without retries."""
        self._inner.sleep(seconds)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose every read and write ends with one deadline.

    Timeouts of single reads would let a receiver that drips bytes hold a sender for days.
    """

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there."""
        return self._inner.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all."""
        self._inner.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Go on under TLS."""
        left = _left(self._deadline, timeout)
        return _DeadlineStream(
            self._inner.start_tls(ssl_context, server_hostname, left), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._inner.get_extra_info(info)


def _addresses(host: str, port: int) -> list[str]:
    """All numeric addresses of a name, each once, as the system orders them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline of the request has passed")
    return left if timeout is None else min(left, timeout)
