"""Webhooks out, to real receivers on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakes.gate import until
from fakes.hooks import SIGNING_KEY, SIGNING_SECRET
from fakes.receiver import Received, Reply, dripping, free_port, receiving
from prometheus_client import REGISTRY
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.hooks.config import Hooks, load_hooks
from gate.hooks.outbox import Outbox
from gate.policy import Condition
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.deliveries import Delivery
from gate.store.submissions import SubmissionRecord
from gate.submission import State, SubmissionRequest
from gate.verdict import decide
from workers.notify.delivering import Notifier, notifier_of
from workers.notify.transport import BlockedAddressError, Sending, UnreachableError

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)  # fmt: skip
LOOPBACK = [IPv4Network("127.0.0.0/8")]
ALL = ["submission.state_changed", "verdict.created"]


class Gate:
    """A gate without engine or API: a record that tells, and a notifier."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.hooks: Hooks = load_hooks(settings.hooks_file)
        self.database = open_database(settings.database)
        self.submissions = SubmissionRecord(self.database, Outbox.of(self.hooks))
        self.notifier: Notifier = notifier_of(settings, self.database)

    def decide_one(self) -> str:
        made = self.submissions.create(SubmissionRequest(checkpoint="/c"), "api")
        assert self.submissions.conclude(made.id, VERDICT)
        return made.id

    def log(self) -> list[Delivery]:
        """Deliveries, oldest first."""
        return self.notifier.record.listed(100)[::-1]

    def execute(self, statement: str) -> None:
        with self.database.begin() as connection:
            connection.execute(text(statement))


@pytest.fixture
def make_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gate]:
    """Makes a gate that tells these URLs; settings may be changed by keyword."""
    monkeypatch.setenv("T_SIGNING", SIGNING_SECRET)

    def make(
        *urls: str,
        events: list[str] | None = None,
        networks: tuple[str, ...] = ("127.0.0.0/8",),
        **changes: Any,
    ) -> Gate:
        content = {
            "public_url": "https://gate.example",
            "allowed_networks": list(networks),
            "send": [
                {
                    "name": f"bot-{number}",
                    "url": url,
                    "secret_env": "T_SIGNING",
                    "events": events or ["verdict.created"],
                }
                for number, url in enumerate(urls)
            ],
        }
        path = tmp_path / "hooks.yaml"
        path.write_text(yaml.safe_dump(content))
        return Gate(
            Settings(
                home=tmp_path / "home",
                hooks_file=path,
                **{"notify_seconds": 20, "notify_schedule": [0.01] * 200, **changes},
            )
        )

    return make


def test_a_verdict_reaches_its_receiver_signed(make_gate: Callable[..., Gate]) -> None:
    with receiving() as receiver:
        gate = make_gate(receiver.url, events=ALL)
        made = gate.decide_one()
        assert gate.notifier.deliver_due() == 3
    events = []
    for request in receiver.requests:
        message = Webhook(SIGNING_KEY).verify(request.body, request.headers)
        events.append((message["type"], message["data"]["state"]))
        assert message["data"]["submission_id"] == made
        assert request.headers["content-type"] == "application/json"
    assert sorted(events) == [
        ("submission.state_changed", "decided"),
        ("submission.state_changed", "queued"),
        ("verdict.created", "decided"),
    ]
    assert len(set(receiver.header("webhook-id"))) == 3
    assert {one.state for one in gate.log()} == {"delivered"}
    assert {one.last_status for one in gate.log()} == {204}


def test_a_receiver_that_is_down_gets_the_message_when_it_is_up(
    make_gate: Callable[..., Gate],
) -> None:
    port = free_port()
    gate = make_gate(f"http://127.0.0.1:{port}/hook")
    gate.decide_one()
    until(lambda: gate.notifier.deliver_due() and gate.log()[0].attempts >= 2)
    (one,) = gate.log()
    assert (one.state, one.last_status) == ("pending", None)
    assert "ConnectError" in str(one.last_error)
    with receiving(port=port) as receiver:
        until(lambda: gate.notifier.deliver_due() and receiver.requests)
    assert receiver.header("webhook-id") == [one.message_id]
    assert gate.log()[0].state == "delivered"


def test_a_receiver_that_fails_for_a_while_gets_the_same_id_each_time(
    make_gate: Callable[..., Gate],
) -> None:
    with receiving() as receiver:
        replies = iter([Reply(500), None, Reply(302, headers={"location": "/elsewhere"}), Reply()])
        receiver.behave = lambda _request: next(replies)
        gate = make_gate(receiver.url)
        gate.decide_one()
        until(lambda: gate.notifier.deliver_due() and len(receiver.requests) == 4)
    assert len(set(receiver.header("webhook-id"))) == 1
    assert [request.path for request in receiver.requests] == ["/hook"] * 4
    for request in receiver.requests:
        Webhook(SIGNING_KEY).verify(request.body, request.headers)
    (one,) = gate.log()
    assert (one.state, one.attempts) == ("delivered", 4)


def test_after_the_last_attempt_a_message_is_a_dead_letter_and_can_be_sent_again(
    make_gate: Callable[..., Gate],
) -> None:
    with receiving(lambda _request: Reply(500, b"broken")) as receiver:
        gate = make_gate(receiver.url, notify_schedule=[0.01, 0.01])
        gate.decide_one()
        until(lambda: gate.notifier.deliver_due() and gate.log()[0].state == "dead")
        (dead,) = gate.log()
        assert (dead.attempts, dead.last_status) == (3, 500)
        assert dead.last_error == "answered 500: broken"
        assert gate.notifier.record.counts() == {"bot-0": {"dead": 1}}
        receiver.behave = lambda _request: Reply()
        assert gate.notifier.deliver_due() == 0
        gate.notifier.record.resend([dead.id])
        assert gate.notifier.deliver_due() == 1
    assert gate.log()[0].state == "delivered"
    assert len(set(receiver.header("webhook-id"))) == 1


def test_a_receiver_that_is_gone_gets_nothing_more(make_gate: Callable[..., Gate]) -> None:
    with receiving(lambda _request: Reply(410)) as receiver:
        gate = make_gate(receiver.url, events=ALL, notify_at_once=1)
        gate.decide_one()
        gate.notifier.deliver_due()
    assert len(receiver.requests) == 1
    assert [one.state for one in gate.log()] == ["dead"] * 3


def test_a_receiver_says_when_to_come_again(make_gate: Callable[..., Gate]) -> None:
    with receiving(lambda _request: Reply(429, headers={"retry-after": "3600"})) as receiver:
        gate = make_gate(receiver.url)
        before = datetime.now(UTC)
        gate.decide_one()
        assert gate.notifier.deliver_due() == 1
    (one,) = gate.log()
    assert one.next_attempt_at is not None
    assert one.next_attempt_at >= before + timedelta(seconds=3600)
    assert gate.notifier.deliver_due() == 0


def test_a_receiver_that_does_not_answer_costs_its_deadline_only(
    make_gate: Callable[..., Gate],
) -> None:
    def silent(_request: Received) -> Reply | None:
        receiver.closing.wait(120)
        return None

    with receiving(silent) as receiver, receiving() as quick:
        gate = make_gate(receiver.url, quick.url, notify_seconds=3, notify_schedule=[3600])
        gate.decide_one()
        gate.notifier.deliver_due()
        assert not receiver.closing.is_set()
    by_target = {one.target: one for one in gate.log()}
    assert (by_target["bot-0"].state, by_target["bot-1"].state) == ("pending", "delivered")
    assert "ReadTimeout" in str(by_target["bot-0"].last_error)


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


DELIVER = """
import sys
from gate.settings import settings
from gate.store.database import open_database
from workers.notify.delivering import notifier_of
print("ready", flush=True)
sys.stdin.readline()
notifier_of(settings(), open_database(settings().database)).deliver_due()
"""


def sender_process(settings: Settings) -> subprocess.Popen[str]:
    """A sender in a process of its own; it starts when it gets a line."""
    changed = settings.model_dump(mode="json", exclude_unset=True)
    environment = {
        f"GATE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in changed.items()
    }
    process = subprocess.Popen(
        [sys.executable, "-c", DELIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_sender_killed_between_sending_and_noting_sends_again_under_the_same_id(
    make_gate: Callable[..., Gate],
) -> None:
    process: subprocess.Popen[str] | None = None

    def kills(_request: Received) -> Reply:
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        return Reply()

    with receiving(kills) as receiver:
        gate = make_gate(receiver.url)
        gate.decide_one()
        process = sender_process(gate.settings)
        process.communicate("go\n", timeout=60)
        assert process.returncode == -signal.SIGKILL
        (held,) = gate.log()
        assert (held.state, held.attempts) == ("pending", 1)
        # While the dead sender's lease lasts nobody else takes it; then the next one does.
        assert gate.notifier.deliver_due() == 0
        gate.execute("UPDATE deliveries SET lease_expires_at = '2000-01-01 00:00:00.000000'")
        receiver.behave = lambda _request: Reply()
        assert gate.notifier.deliver_due() == 1
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    (one,) = gate.log()
    assert (one.state, one.attempts) == ("delivered", 2)


def test_a_message_that_kills_every_sender_is_given_up(make_gate: Callable[..., Gate]) -> None:
    with receiving() as receiver:
        gate = make_gate(receiver.url, notify_schedule=[0.01])
        gate.decide_one()
        gate.execute("UPDATE deliveries SET attempts = 2")
        gate.notifier.deliver_due()
    assert receiver.requests == []
    assert (gate.log()[0].state, gate.log()[0].last_error) == (
        "dead",
        "every attempt was interrupted",
    )


def test_several_senders_at_once_send_each_message_once(make_gate: Callable[..., Gate]) -> None:
    with receiving() as receiver:
        gate = make_gate(receiver.url, events=ALL, notify_at_once=4)
        for _ in range(10):
            gate.decide_one()
        processes = [sender_process(gate.settings) for _ in range(2)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        gate.notifier.deliver_due()
        for process in processes:
            process.communicate(timeout=120)
        gate.notifier.deliver_due()
    assert len(receiver.requests) == 30
    assert len(set(receiver.header("webhook-id"))) == 30
    assert gate.notifier.record.counts() == {"bot-0": {"delivered": 30}}


def test_an_endpoint_that_left_the_file_fails_in_words(make_gate: Callable[..., Gate]) -> None:
    with receiving() as receiver:
        gate = make_gate(receiver.url, notify_schedule=[3600])
        gate.decide_one()
        other = Notifier(gate.settings, gate.database, Hooks())
        assert other.deliver_due() == 1
    assert gate.log()[0].last_error == "the hooks file has no endpoint 'bot-0'"


def test_attempts_are_counted_by_target_and_result(make_gate: Callable[..., Gate]) -> None:
    def counted(result: str) -> float:
        labels = {"target": "bot-0", "result": result}
        return REGISTRY.get_sample_value("emgate_delivery_attempts_total", labels) or 0.0

    before = counted("refused"), counted("delivered")
    replies = iter([Reply(500), Reply()])
    with receiving(lambda _request: next(replies)) as receiver:
        gate = make_gate(receiver.url)
        gate.submissions.move(gate.decide_one(), State.FAILED)
        until(lambda: gate.notifier.deliver_due() and len(receiver.requests) == 2)
    assert (counted("refused"), counted("delivered")) == (before[0] + 1, before[1] + 1)
