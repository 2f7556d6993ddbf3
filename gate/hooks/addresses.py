"""Which addresses the gate may send to: public ones, and those that the hooks file allows."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

#: Addresses that count as public and still lead into the machine's own surroundings.
_INSIDE: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # Azure's wire server
    IPv4Network("192.0.0.0/24"),  # protocol assignments; Oracle's metadata is one of them
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv6Network("fec0::/10"),  # site-local, deprecated and still routed by some
)
#: IPv6 prefixes whose last 32 bits are an IPv4 address that is really reached.
_TRANSLATED: tuple[IPv6Network, ...] = (
    IPv6Network("::/96"),
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("64:ff9b::/96"),
)
_LOCAL_TRANSLATION = IPv6Network("64:ff9b:1::/48")


def may_connect(address: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether a connection to this numeric address is permitted.

    An IPv6 address that carries an IPv4 address is judged by both. Whatever cannot be read as an
    address is refused.

    Law: with nothing allowed, no loopback, private, link-local, multicast, reserved or unspecified
    address is permitted, however it is written.
    """
    try:
        outer = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    faces = [outer, *_carried(outer)]
    if any(_is_in(face, allowed) for face in faces):
        return True
    return all(_is_public(face) for face in faces)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if _is_in(address, _INSIDE):
        return False
    if isinstance(address, IPv6Address):
        if address in _LOCAL_TRANSLATION:
            return False
        if _carried(address):
            # Only what it carries says where it leads; the form itself is never "global".
            return not address.is_multicast
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _carried(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses inside an IPv6 address: mapped, translated, 6to4 and Teredo."""
    if isinstance(address, IPv4Address):
        return []
    found = []
    if any(address in network for network in _TRANSLATED):
        found.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    return found


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address.version == n.version and address in n for n in networks)
