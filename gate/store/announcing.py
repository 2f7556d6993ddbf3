"""Deliveries are written in the transaction of the change that they tell of, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import update
from sqlalchemy.orm import Session

from gate.hooks.github import PlannedAnswer
from gate.hooks.outbox import Outbox
from gate.store.hook_tables import DeliveryRow
from gate.submission import Submission
from gate.verdict import Verdict

#: Kinds of deliveries.
WEBHOOK = "webhook"
GITHUB = "github"
#: States of deliveries. ``waiting`` ones become ``pending`` when their submission ends.
WAITING = "waiting"
PENDING = "pending"
DELIVERED = "delivered"
DEAD = "dead"


def announce(
    session: Session,
    outbox: Outbox,
    submission: Submission,
    at: datetime,
    verdict: Verdict | None = None,
) -> None:
    """Write what the move into the submission's present state makes, into this transaction."""
    for message in outbox.messages(submission, at, verdict):
        session.add(
            DeliveryRow(
                kind=WEBHOOK,
                target=message.target,
                message_id=message.id,
                event=message.event.value,
                submission_id=submission.id,
                payload=message.payload,
                state=PENDING,
                attempts=0,
                next_attempt_at=at,
                created_at=at,
            )
        )


def release_answers(session: Session, submission_id: str, at: datetime) -> None:
    """Let the answers go that waited for the end of this submission, in the transaction of it."""
    session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.submission_id == submission_id, DeliveryRow.state == WAITING)
        .values(state=PENDING, next_attempt_at=at)
    )


def answer_rows(
    submission_id: str, answers: Sequence[PlannedAnswer], at: datetime
) -> list[DeliveryRow]:
    """The rows of promised answers to GitHub; those of the end wait for it."""
    return [
        DeliveryRow(
            kind=GITHUB,
            target=GITHUB,
            message_id=f"{submission_id}/{answer.event}",
            event=answer.event,
            submission_id=submission_id,
            payload=answer.context.model_dump(mode="json", exclude_none=True),
            state=WAITING if answer.at_end else PENDING,
            attempts=0,
            next_attempt_at=None if answer.at_end else at,
            created_at=at,
        )
        for answer in answers
    ]
