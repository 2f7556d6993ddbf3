"""Tables of webhooks: what came in, so that none is taken twice, and what goes out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gate.store.tables import Table, UtcDateTime


class ReceivedHookRow(Table):
    """A webhook that was taken: a second one with the same id is a replay."""

    __tablename__ = "received_hooks"

    sender: Mapped[str] = mapped_column(primary_key=True)
    delivery_id: Mapped[str] = mapped_column(primary_key=True)
    submission_id: Mapped[str | None] = mapped_column(ForeignKey("submissions.id"))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class DeliveryRow(Table):
    """One message to one receiver, written with the state change that it tells of.

    ``kind`` says how it is sent (``webhook`` or ``github``), ``target`` names the receiver as it is
    configured. ``state`` is ``waiting`` (for the end of the submission, which an answer to GitHub
    tells of), ``pending``, ``delivered`` or ``dead``.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("target", "message_id"),
        Index("deliveries_by_target", "target", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    target: Mapped[str]
    message_id: Mapped[str]
    event: Mapped[str]
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
