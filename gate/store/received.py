"""Webhooks that were taken, by which a replay is known."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gate.store.hook_tables import ReceivedHookRow


class ReceivedHooks:
    """Looks up calls that were taken. They are written together with their submission."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, sender: str, delivery_ids: Sequence[str]) -> ReceivedHookRow | None:
        """The earliest call of this sender that is known by any of these ids."""
        with Session(self._engine, expire_on_commit=False) as session:
            return session.scalars(
                select(ReceivedHookRow)
                .where(
                    ReceivedHookRow.sender == sender, ReceivedHookRow.delivery_id.in_(delivery_ids)
                )
                .order_by(ReceivedHookRow.received_at)
                .limit(1)
            ).first()
