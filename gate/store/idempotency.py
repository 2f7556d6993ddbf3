"""Requests that carry an ``Idempotency-Key`` in the record: each is taken once per actor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from gate.store.access_tables import IdempotencyRow


class KeyReusedError(Exception):
    """The key came before with another request."""


class KeyTakenError(Exception):
    """Another request with the same key was faster; what it made is in the record."""


@dataclass(frozen=True)
class Claim:
    """A key with the digest of the request that it came with.

    ``seconds`` is for how long the key stands; afterwards it may be used anew.
    """

    actor: str
    key: str
    request_digest: str
    seconds: float


class IdempotencyRecord:
    """Reads which submission a key stands for. Keys are written with the submission itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, claim: Claim) -> str | None:
        """The id of the submission that this key made, or None while it made none.

        Raises:
            KeyReusedError: it came with another request.
        """
        with Session(self._engine) as session:
            row = session.scalars(
                select(IdempotencyRow).where(
                    IdempotencyRow.actor == claim.actor,
                    IdempotencyRow.key == claim.key,
                    IdempotencyRow.created_at >= _stands_since(claim),
                )
            ).one_or_none()
            if row is None:
                return None
            if row.request_digest != claim.request_digest:
                raise KeyReusedError(claim.key)
            return row.submission_id

    def forget_before(self, when: datetime) -> int:
        """Remove keys that were used before a time; returns how many there were."""
        with Session(self._engine) as session, session.begin():
            removed = session.execute(
                delete(IdempotencyRow)
                .where(IdempotencyRow.created_at < when)
                .returning(IdempotencyRow.id)
            )
            return len(removed.all())


def take_key(session: Session, claim: Claim, submission_id: str) -> None:
    """Write the key in the transaction that makes its submission.

    Raises:
        IntegrityError: another transaction has written it, on flush.
    """
    session.execute(
        delete(IdempotencyRow).where(
            IdempotencyRow.actor == claim.actor,
            IdempotencyRow.key == claim.key,
            IdempotencyRow.created_at < _stands_since(claim),
        )
    )
    session.add(
        IdempotencyRow(
            actor=claim.actor,
            key=claim.key,
            request_digest=claim.request_digest,
            submission_id=submission_id,
            created_at=datetime.now(UTC),
        )
    )
    session.flush()


def _stands_since(claim: Claim) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=claim.seconds)
