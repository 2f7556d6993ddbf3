"""The rule while no key exists: only this machine is served, and only where that is certain."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

#: Headers that a proxy adds: behind one, the peer's address says nothing of who asks.
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def is_loopback_address(text: str) -> bool:
    """Whether the text is a loopback address, IPv4 in IPv6 included."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def listens_on_loopback(host: str) -> bool:
    """Whether a server bound to this host is reached from this machine only.

    A name counts when all of its addresses are loopback. The empty host binds every interface.
    """
    if not host:
        return False
    if is_loopback_address(host):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(is_loopback_address(str(entry[4][0])) for entry in found)


def why_not_local(peer: str | None, headers: Mapping[str, str]) -> str | None:
    """Why a request without a key is not certainly from this machine; None if it is.

    Args:
        peer: address of the other end of the connection; None on a Unix socket.
        headers: by lower-case name.

    Besides the peer it looks at what a proxy adds, and at what a browser says that shows a page
    of somebody else the way to this machine (a foreign ``Host``: DNS rebinding; a foreign
    ``Origin``: forged requests).
    """
    for name in _PROXY_HEADERS:
        if name in headers:
            return f"it came through a proxy (it has the header {name})"
    # An address has a digit, a dot or a colon. A plain word is a test client in this process.
    if peer is None or peer.isalpha():
        return None
    if not is_loopback_address(peer):
        return "it came from another machine"
    host = headers.get("host", "")
    if not _is_loopback_name(_host_of(f"//{host}")):
        return "its Host header does not name this machine as localhost"
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in {f"http://{host}".lower()}:
        return "a page of another origin sent it"
    return None


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback_name(name: str) -> bool:
    return name == "localhost" or is_loopback_address(name)
