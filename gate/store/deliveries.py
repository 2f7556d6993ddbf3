"""Deliveries in the record: claimed by one sender at a time, kept until they are through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Engine, and_, func, or_, select, update
from sqlalchemy.orm import Session

from gate.store.announcing import DEAD, DELIVERED, PENDING, WAITING
from gate.store.hook_tables import DeliveryRow

#: How many due ones are looked at for one that is free.
CANDIDATES = 20
#: Longest error that is kept, in characters.
LONGEST_ERROR = 1000


class Delivery(BaseModel):
    """One message to one receiver, and how far it is."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    kind: str
    target: str
    message_id: str
    event: str
    submission_id: str
    payload: dict[str, Any]
    state: str
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None


class DeliveryRecord:
    """Claims, notes and lists deliveries. Every method is one transaction, except as noted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def due(self) -> int:
        """How many could be claimed now."""
        with Session(self._engine) as session:
            counted = select(func.count()).select_from(DeliveryRow).where(_claimable(_now()))
            return session.scalar(counted) or 0

    def claim(self, lease_seconds: float, at_once: int) -> Delivery | None:
        """Take the one that is due longest, count an attempt, and hold it for that many seconds.

        Of one target at most about ``at_once`` are held at the same time, so that a receiver that
        is slow does not keep all senders. An attempt is counted before it is made: one that was
        killed in the middle was one. Looks and takes in separate transactions; of two that take
        the same one, one gets it.
        """
        now = _now()
        held = (
            select(DeliveryRow.target)
            .where(DeliveryRow.lease_expires_at > now)
            .group_by(DeliveryRow.target)
            .having(func.count() >= at_once)
        )
        with Session(self._engine) as session:
            found = session.scalars(
                select(DeliveryRow.id)
                .where(_claimable(now), DeliveryRow.target.not_in(held))
                .order_by(DeliveryRow.next_attempt_at, DeliveryRow.id)
                .limit(CANDIDATES)
            ).all()
        for delivery_id in found:
            with Session(self._engine) as session, session.begin():
                taken = session.scalars(
                    update(DeliveryRow)
                    .where(DeliveryRow.id == delivery_id, _claimable(now))
                    .values(
                        attempts=DeliveryRow.attempts + 1,
                        lease_expires_at=now + timedelta(seconds=lease_seconds),
                    )
                    .returning(DeliveryRow)
                ).all()
                if taken:
                    return Delivery.model_validate(taken[0])
        return None

    def delivered(
        self, claimed: Delivery, status: int, learnt: Mapping[str, Any] | None = None
    ) -> None:
        """Note that it is through, with what was learnt; true whoever holds it by now."""
        values: dict[str, Any] = {
            "state": DELIVERED,
            "delivered_at": _now(),
            "last_status": status,
            "last_error": None,
            "next_attempt_at": None,
            "lease_expires_at": None,
        }
        if learnt:
            values["payload"] = {**claimed.payload, **learnt}
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(DeliveryRow).where(DeliveryRow.id == claimed.id).values(**values)
            )

    def failed(
        self, claimed: Delivery, status: int | None, error: str, again_at: datetime | None
    ) -> bool:
        """Note a failed attempt; without a time to try again it is dead.

        False, and nothing is noted, if the lease ran out and another sender took it since.
        """
        return self._note(
            claimed,
            state=PENDING if again_at else DEAD,
            last_status=status,
            # PostgreSQL keeps no NUL in a text, and receivers say what they like.
            last_error=error[:LONGEST_ERROR].replace("\0", "\N{REPLACEMENT CHARACTER}"),
            next_attempt_at=again_at,
        )

    def put_off(self, claimed: Delivery, seconds: float, reason: str) -> bool:
        """Give a claimed one back untried, to be looked at again later."""
        return self._note(
            claimed,
            attempts=claimed.attempts - 1,
            last_error=reason,
            next_attempt_at=_now() + timedelta(seconds=seconds),
        )

    def give_up_target(self, target: str, reason: str) -> int:
        """Make all dead that wait for a target which wants no more; return how many."""
        with Session(self._engine) as session, session.begin():
            return len(
                session.execute(
                    update(DeliveryRow)
                    .where(DeliveryRow.target == target, DeliveryRow.state == PENDING)
                    .values(state=DEAD, last_error=reason, next_attempt_at=None)
                    .returning(DeliveryRow.id)
                ).all()
            )

    def resend(self, ids: Sequence[int]) -> list[int]:
        """Start these anew, under the ids that receivers know; return those that there are.

        One that waits for the end of its submission is not started.
        """
        with Session(self._engine) as session, session.begin():
            return sorted(
                session.scalars(
                    update(DeliveryRow)
                    .where(DeliveryRow.id.in_(ids), DeliveryRow.state != WAITING)
                    .values(
                        state=PENDING,
                        attempts=0,
                        next_attempt_at=_now(),
                        lease_expires_at=None,
                        delivered_at=None,
                    )
                    .returning(DeliveryRow.id)
                )
            )

    def sibling(self, delivery: Delivery, event: str) -> Delivery | None:
        """The delivery of another event of the same submission to the same target."""
        with Session(self._engine) as session:
            row = session.scalars(
                select(DeliveryRow).filter_by(
                    submission_id=delivery.submission_id, target=delivery.target, event=event
                )
            ).first()
            return Delivery.model_validate(row) if row else None

    def listed(
        self,
        limit: int,
        state: str | None = None,
        target: str | None = None,
        submission_id: str | None = None,
    ) -> list[Delivery]:
        """Deliveries, newest first."""
        wanted = {"state": state, "target": target, "submission_id": submission_id}
        given = {name: value for name, value in wanted.items() if value is not None}
        with Session(self._engine) as session:
            rows = session.scalars(
                select(DeliveryRow).filter_by(**given).order_by(DeliveryRow.id.desc()).limit(limit)
            )
            return [Delivery.model_validate(row) for row in rows]

    def counts(self) -> dict[str, dict[str, int]]:
        """How many there are, by target and state."""
        with Session(self._engine) as session:
            rows = session.execute(
                select(DeliveryRow.target, DeliveryRow.state, func.count()).group_by(
                    DeliveryRow.target, DeliveryRow.state
                )
            )
            counted: dict[str, dict[str, int]] = {}
            for target, state, number in rows:
                counted.setdefault(target, {})[state] = number
            return counted

    def _note(self, claimed: Delivery, **values: Any) -> bool:
        with Session(self._engine) as session, session.begin():
            return bool(
                session.execute(
                    update(DeliveryRow)
                    .where(
                        DeliveryRow.id == claimed.id,
                        DeliveryRow.state == PENDING,
                        DeliveryRow.attempts == claimed.attempts,
                    )
                    .values(lease_expires_at=None, **values)
                    .returning(DeliveryRow.id)
                ).all()
            )


def _claimable(now: datetime) -> ColumnElement[bool]:
    return and_(
        DeliveryRow.state == PENDING,
        DeliveryRow.next_attempt_at <= now,
        or_(DeliveryRow.lease_expires_at.is_(None), DeliveryRow.lease_expires_at < now),
    )


def _now() -> datetime:
    return datetime.now(UTC)
