"""What becomes of a message, by what its receiver does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fakes.gate import until
from fakes.hooks import SIGNING_KEY
from fakes.receiver import Received, Reply, free_port, receiving
from prometheus_client import REGISTRY
from standardwebhooks.webhooks import Webhook

from gate.hooks.config import Hooks
from gate.submission import State
from integration.webhooks_out.telling import ALL, Gate
from workers.notify.delivering import Notifier


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
