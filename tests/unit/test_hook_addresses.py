"""Addresses that the gate may connect to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.hooks.addresses import may_connect

#: Where no message of the gate has any business.
INSIDE = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4",
        "240.0.0.0/4", "168.63.129.16/32",
    )
]  # fmt: skip
INSIDE6 = [
    IPv6Network(network)
    for network in ("::/127", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "64:ff9b:1::/48")
]
PUBLIC = ["1.1.1.1", "140.82.112.3", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"]


def addresses4(networks: list[IPv4Network]) -> st.SearchStrategy[IPv4Address]:
    return st.sampled_from(networks).flatmap(lambda n: st.ip_addresses(network=n)).map(
        lambda a: IPv4Address(int(a))
    )  # fmt: skip


#: Ways in which an IPv6 address leads to an IPv4 one.
FORMS = {
    "mapped": lambda v4: IPv6Address((0xFFFF << 32) | int(v4)),
    "translated": lambda v4: IPv6Address((0xFFFF << 48) | int(v4)),
    "compatible": lambda v4: IPv6Address(int(v4)),
    "nat64": lambda v4: IPv6Address((0x0064FF9B << 96) | int(v4)),
    "6to4": lambda v4: IPv6Address((0x2002 << 112) | (int(v4) << 80)),
    "teredo": lambda v4: IPv6Address(
        (0x20010000 << 96) | (int(IPv4Address("1.1.1.1")) << 64) | (int(v4) ^ 0xFFFFFFFF)
    ),
}


@given(addresses4(INSIDE))
def test_no_inside_address_is_permitted(address: IPv4Address) -> None:
    assert not may_connect(str(address))


@given(addresses4(INSIDE), st.sampled_from(sorted(FORMS)))
def test_nor_is_one_that_an_ipv6_address_carries(address: IPv4Address, form: str) -> None:
    assert not may_connect(str(FORMS[form](address)))


@given(st.sampled_from(INSIDE6).flatmap(lambda n: st.ip_addresses(network=n)))
def test_nor_is_an_inside_address_of_ipv6(address: IPv6Address) -> None:
    assert not may_connect(str(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert may_connect(address)


def test_a_public_address_is_permitted_in_its_mapped_form_too() -> None:
    assert may_connect("::ffff:1.1.1.1")


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "1.1.1.1 ", "[::1]"],
)
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    assert not may_connect(text)


def test_a_zone_does_not_hide_a_link_local_address() -> None:
    assert not may_connect("fe80::1%eth0")


def test_what_is_allowed_is_permitted_and_its_neighbours_are_not() -> None:
    allowed: list[IPv4Network | IPv6Network] = [
        IPv4Network("10.2.0.0/16"),
        IPv6Network("fd00:2::/32"),
    ]
    assert may_connect("10.2.3.4", allowed)
    assert may_connect("::ffff:10.2.3.4", allowed)
    assert may_connect("fd00:2::1", allowed)
    assert not may_connect("10.3.0.1", allowed)
    assert not may_connect("::1", allowed)
