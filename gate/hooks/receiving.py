"""Taking a call: proved, known or new, mapped, then recorded together with its id."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic_core import from_json
from sqlalchemy.exc import IntegrityError

from gate.hooks.config import GitHubRule, Hooks, Rule, Sender
from gate.hooks.github import PlannedAnswer, answers_of
from gate.hooks.mapping import first_rule, request_of
from gate.hooks.senders import delivery_ids, event_of
from gate.hooks.signatures import Verify, verifiers
from gate.intake import accept
from gate.settings import Settings
from gate.store.announcing import answer_rows
from gate.store.hook_tables import ReceivedHookRow
from gate.store.received import ReceivedHooks
from gate.store.submissions import SubmissionRecord
from gate.store.tables import Table
from gate.tasks import TaskQueue


class UnknownSenderError(Exception):
    """Nothing is configured for this sender."""


class NotJsonError(ValueError):
    """The body is not a JSON object."""


@dataclass(frozen=True)
class Taken:
    """A new submission."""

    submission_id: str
    rule: str


@dataclass(frozen=True)
class Replayed:
    """The call was taken before; nothing is submitted again."""

    submission_id: str | None


@dataclass(frozen=True)
class Ignored:
    """The call is genuine, and no rule wants it."""

    event: str


class HookDesk:
    """Takes calls of the configured senders.

    Raises:
        HooksFileError: on making it, if a secret of a configured sender is missing.
    """

    def __init__(
        self,
        hooks: Hooks,
        settings: Settings,
        submissions: SubmissionRecord,
        received: ReceivedHooks,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._hooks = hooks
        self._settings = settings
        self._submissions = submissions
        self._received = received
        self._verify: dict[Sender, Verify] = verifiers(hooks, environment)

    def take(
        self, sender: Sender, headers: Mapping[str, str], body: bytes, queue: TaskQueue
    ) -> Taken | Replayed | Ignored:
        """Take one call. Headers have lower-case names; the body is raw.

        The ids of the call and the submission are written in one transaction: a call that was
        answered is never lost, and one that was refused can be delivered again. Nothing is kept
        of a call that no rule wants.

        Raises:
            UnknownSenderError: the sender is not configured.
            SignatureError: the call proves nothing.
            MissingIdError: it has no id.
            NotJsonError: its body is not a JSON object.
            PayloadError: the payload lacks what its rule needs.
            GateError: what :func:`gate.intake.accept` raises.
        """
        receiver = self._hooks.receive.of(sender)
        if receiver is None:
            raise UnknownSenderError(sender)
        self._verify[sender](headers, body)
        ids = delivery_ids(sender, headers, body)
        earlier = self._received.find(sender, ids)
        if earlier is not None:
            return Replayed(earlier.submission_id)
        payload = _object(body)
        event = event_of(sender, headers, payload)
        rule = first_rule(receiver.rules, event, payload)
        if rule is None:
            return Ignored(event)
        wanted = request_of(rule.submission, payload)
        answers = self._answers(rule, payload)
        now = datetime.now(UTC)

        def rows(submission_id: str) -> Sequence[Table]:
            known = [
                ReceivedHookRow(
                    sender=sender.value,
                    delivery_id=delivery_id,
                    submission_id=submission_id,
                    received_at=now,
                )
                for delivery_id in ids
            ]
            return [*known, *answer_rows(submission_id, answers, now)]

        try:
            submission = accept(
                wanted, sender.value, self._settings, self._submissions, queue, rows_with=rows
            )
        except IntegrityError:
            # The same call came twice at once, and the other one was first.
            earlier = self._received.find(sender, ids)
            if earlier is None:
                raise
            return Replayed(earlier.submission_id)
        return Taken(submission.id, rule.name)

    def _answers(self, rule: Rule, payload: object) -> tuple[PlannedAnswer, ...]:
        if isinstance(rule, GitHubRule) and self._hooks.github_app is not None:
            return answers_of(rule, self._hooks.github_app, payload)
        return ()


def _object(body: bytes) -> dict[str, object]:
    """Parse as the rest of the API does: neither NaN nor half a character is JSON."""
    try:
        payload = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotJsonError(f"the body is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise NotJsonError("the body is not a JSON object")
    return payload
