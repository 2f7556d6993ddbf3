"""Senders that are killed, and several at once."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

from fakes.receiver import Received, Reply, receiving

from integration.webhooks_out.telling import ALL, Gate, sender_process


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
