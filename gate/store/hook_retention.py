"""Deleting what webhooks left: messages that are through, dead letters, and ids of old calls.

An id is deleted only where a replay of its call is refused by its time: the generic sender's
signature covers one. GitHub, GitLab and Hugging Face prove a call without a time, so that a
captured one would be taken again as soon as its id was gone; their ids stay for good.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, delete, func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from gate.hooks.config import Sender
from gate.settings import Settings
from gate.store.announcing import DEAD, DELIVERED, PENDING, WAITING
from gate.store.hook_tables import DeliveryRow, ReceivedHookRow
from gate.store.tables import Table

#: Rows that are deleted in one transaction, so that no writer waits long.
AT_ONCE = 1000


def prune_deliveries(engine: Engine, settings: Settings, now: datetime, dry_run: bool) -> int:
    """Delete messages that are through, and dead letters, whose terms are over; say how many.

    A message stays while another of the same submission to the same receiver is still to go: an
    answer to GitHub needs what was learnt from the one before.
    """
    other = aliased(DeliveryRow)
    same = and_(
        other.submission_id == DeliveryRow.submission_id,
        other.target == DeliveryRow.target,
        other.id != DeliveryRow.id,
    )

    def old(state: str, at: InstrumentedAttribute[Any], days: float, to_go: set[str]) -> Any:
        needed = select(other.id).where(same, other.state.in_(to_go)).exists()
        return and_(DeliveryRow.state == state, at < now - timedelta(days=days), ~needed)

    # A dead letter may be sent again, and then needs what those before it have learnt.
    through = old(
        DELIVERED,
        DeliveryRow.delivered_at,
        settings.delivery_retention_days,
        {WAITING, PENDING, DEAD},
    )
    dead = old(
        DEAD, DeliveryRow.created_at, settings.dead_letter_retention_days, {WAITING, PENDING}
    )
    return _delete(engine, DeliveryRow, (DeliveryRow.id,), or_(through, dead), dry_run)


def prune_received(engine: Engine, settings: Settings, now: datetime, dry_run: bool) -> int:
    """Delete the ids of calls of the generic sender whose term is over; say how many."""
    over = and_(
        ReceivedHookRow.sender == Sender.GENERIC.value,
        ReceivedHookRow.received_at < now - timedelta(days=settings.hook_id_retention_days),
    )
    key = (ReceivedHookRow.sender, ReceivedHookRow.delivery_id)
    return _delete(engine, ReceivedHookRow, key, over, dry_run)


def _delete(
    engine: Engine,
    table: type[Table],
    key: tuple[InstrumentedAttribute[str] | InstrumentedAttribute[int], ...],
    over: ColumnElement[bool],
    dry_run: bool,
) -> int:
    if dry_run:
        with Session(engine) as session:
            return session.scalar(select(func.count()).select_from(table).where(over)) or 0
    deleted = 0
    while True:
        with Session(engine) as session, session.begin():
            some = session.execute(select(*key).where(over).limit(AT_ONCE)).all()
            if some:
                # Looked at once more by the statement that deletes: one may have been sent again.
                mine = tuple_(*key).in_([tuple(row) for row in some])
                gone = session.execute(delete(table).where(mine, over).returning(key[-1])).all()
                deleted += len(gone)
        if len(some) < AT_ONCE:
            return deleted
