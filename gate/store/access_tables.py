"""Tables of who may do what, what they did, and what was released all the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gate.store.tables import BigId, Table, UtcDateTime


class ApiKeyRow(Table):
    """An API key. Only a hash of its secret is kept; ``id`` is the part of it that may be shown."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    secret_hash: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AuditRow(Table):
    """One call that changed something: who, what, on what, and how it ended."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    actor: Mapped[str] = mapped_column(index=True)
    action: Mapped[str]
    target: Mapped[str | None] = mapped_column(index=True)
    status: Mapped[int | None]
    details: Mapped[dict[str, Any]] = mapped_column(JSON)


class WaiverRow(Table):
    """A person's decision to release in spite of a verdict. It changes no verdict."""

    __tablename__ = "waivers"

    id: Mapped[str] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    granted_by: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_by: Mapped[str | None]


class IdempotencyRow(Table):
    """The answer to a request that carried an ``Idempotency-Key``, per actor."""

    __tablename__ = "idempotency"
    __table_args__ = (UniqueConstraint("actor", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    actor: Mapped[str]
    key: Mapped[str]
    request_digest: Mapped[str]
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
