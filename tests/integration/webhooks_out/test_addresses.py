"""Where requests may go, how long they may take, and whom they trust."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakes.receiver import Reply, dripping, receiving

from integration.webhooks_out.telling import LOOPBACK, Gate
from workers.notify.transport import BlockedAddressError, Sending, UnreachableError


@pytest.mark.parametrize("piece", [b"x-more: 1\r\n", b"x"], ids=["headers", "one header"])
def test_a_receiver_that_drips_bytes_is_left_at_the_deadline(piece: bytes) -> None:
    with dripping(piece) as port, pytest.raises(UnreachableError, match="ReadTimeout"):
        Sending(LOOPBACK, seconds=0.5).request("POST", f"http://127.0.0.1:{port}/", {}, b"{}")


def test_a_body_without_end_is_read_to_a_bound() -> None:
    with receiving(lambda _request: Reply(200, b"x" * 5_000_000)) as receiver:
        answer = Sending(LOOPBACK).request("POST", receiver.url, {}, b"{}")
    assert answer.status == 200
    assert len(answer.body) == 64 * 1024


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "0"])
def test_nothing_is_sent_to_loopback_unless_it_is_allowed(
    make_gate: Callable[..., Gate], host: str
) -> None:
    with receiving() as receiver:
        url = f"http://{host}:{receiver.port}/hook"
        gate = make_gate(url, networks=(), notify_schedule=[3600])
        gate.decide_one()
        gate.notifier.deliver_due()
    assert receiver.requests == []
    (one,) = gate.log()
    assert one.state == "pending"
    assert "not a public address" in str(one.last_error)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "10.0.0.1", "[fd00:ec2::254]", "100.64.0.1"]
)
def test_nothing_is_sent_to_metadata_or_private_addresses(address: str) -> None:
    with pytest.raises(BlockedAddressError):
        Sending(LOOPBACK, seconds=5).request("POST", f"http://{address}/", {}, b"{}")


def named(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Lookups of ``bot.example`` give these addresses, one list after the other."""
    looked_up: list[str] = []

    def lookup(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        found = answers[min(len(looked_up), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr("workers.notify.transport.socket.getaddrinfo", lookup)
    return looked_up


def test_a_name_is_looked_up_once_and_that_address_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiving() as receiver:
        url = f"http://bot.example:{receiver.port}/hook"
        # A second lookup would lead to the metadata service.
        looked_up = named(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
        connected: list[Any] = []

        def connect(address: Any, *given: Any, **more: Any) -> socket.socket:
            connected.append(address[0])
            opened = socket.socket()
            opened.connect(address)
            return opened

        monkeypatch.setattr(socket, "create_connection", connect)
        assert Sending(LOOPBACK).request("POST", url, {}, b"{}").ok
    assert (looked_up, connected) == (["bot.example"], ["127.0.0.1"])
    assert receiver.header("host") == [f"bot.example:{receiver.port}"]


def test_of_several_addresses_only_permitted_ones_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named(monkeypatch, ["10.0.0.1", "169.254.169.254"])
    with pytest.raises(BlockedAddressError, match=r"10\.0\.0\.1, 169\.254\.169\.254"):
        Sending(LOOPBACK, seconds=5).request("POST", "http://bot.example/", {}, b"{}")


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a certificate of its own, and that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = directory / "cert.pem", directory / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


def test_tls_is_checked_against_the_name_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, trusted = certificate(tmp_path, "localhost")
    sending = Sending(LOOPBACK, tls=ssl.create_default_context(cafile=str(trusted)))
    with receiving(tls=server) as receiver:
        assert sending.request("POST", f"https://localhost:{receiver.port}/", {}, b"{}").ok
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            sending.request("POST", f"https://127.0.0.1:{receiver.port}/", {}, b"{}")
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            Sending(LOOPBACK).request("POST", f"https://localhost:{receiver.port}/", {}, b"{}")
    assert len(receiver.requests) == 1


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, receiving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        Sending(LOOPBACK).request("POST", receiver.url, {}, b"{}")
    assert (len(receiver.requests), proxy.requests) == (1, [])
