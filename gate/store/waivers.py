"""Waivers in the record."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from gate.access.waivers import Waiver, WaiverRequest, check_expiry, require_waivable
from gate.errors import WrongUsageError
from gate.store.access_tables import WaiverRow
from gate.store.audit import AuditEntry
from gate.store.submissions import SubmissionRecord
from gate.store.tables import SubmissionRow


class UnknownWaiverError(WrongUsageError):
    """There is no waiver with this id."""


class WaiverStore:
    """Grants, reads and revokes waivers. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._submissions = SubmissionRecord(engine)

    def grant(
        self,
        submission_id: str,
        wanted: WaiverRequest,
        actor: str,
        days_max: int,
        audited: bool = False,
    ) -> Waiver:
        """Record the decision to release.

        Args:
            submission_id: whose verdict is waived.
            wanted: reason and expiry.
            actor: who decides.
            days_max: how long a waiver may last.
            audited: write the audit row too; the API does that by itself.

        Raises:
            UnknownSubmissionError: no such submission.
            NotWaivableError: there is nothing to waive.
            WrongUsageError: the expiry is past or too far away.
        """
        submission = self._submissions.get(submission_id)
        # A verdict is never taken back, so that what is seen here still holds at the insertion.
        require_waivable(submission, self._submissions.verdict(submission_id))
        now = datetime.now(UTC)
        row = WaiverRow(
            id=f"wav_{uuid.uuid4().hex}",
            submission_id=submission_id,
            granted_by=actor,
            reason=wanted.reason,
            created_at=now,
            expires_at=check_expiry(wanted.expires_at, now, days_max).astimezone(UTC),
        )
        with Session(self._engine) as session, session.begin():
            session.add(row)
            if audited:
                details = {"waiver": row.id, "expires_at": row.expires_at.isoformat()}
                session.add(AuditEntry(actor, "waiver.grant", submission_id, details=details).row())
            session.flush()
            return _waiver(row)

    def of(self, submission_id: str) -> list[Waiver]:
        """All waivers of a submission, oldest first, whatever their state."""
        return self._select(submission_id)

    def all(self) -> list[Waiver]:
        """All waivers, oldest first."""
        return self._select(None)

    def revoke(self, waiver_id: str, actor: str, audited: bool = False) -> Waiver:
        """End a waiver; ending it again changes nothing.

        Raises:
            UnknownWaiverError: no such id.
        """
        with Session(self._engine) as session, session.begin():
            row = session.get(WaiverRow, waiver_id)
            if row is None:
                raise UnknownWaiverError(f"there is no waiver '{waiver_id}'")
            if row.revoked_at is None:
                row.revoked_at, row.revoked_by = datetime.now(UTC), actor
                if audited:
                    session.add(AuditEntry(actor, "waiver.revoke", waiver_id).row())
                session.flush()
            return _waiver(row)

    def counts(self, now: datetime) -> tuple[dict[str, int], dict[str, int]]:
        """Waivers ever granted and those in force, each by policy name."""
        granted = (
            select(SubmissionRow.policy, func.count())
            .join(WaiverRow, WaiverRow.submission_id == SubmissionRow.id)
            .group_by(SubmissionRow.policy)
        )
        in_force = granted.where(WaiverRow.revoked_at.is_(None), WaiverRow.expires_at > now)
        with Session(self._engine) as session:
            ever = {row[0]: row[1] for row in session.execute(granted)}
            now_active = {row[0]: row[1] for row in session.execute(in_force)}
            return ever, dict.fromkeys(ever, 0) | now_active

    def _select(self, submission_id: str | None) -> list[Waiver]:
        query = select(WaiverRow).order_by(WaiverRow.created_at, WaiverRow.id)
        if submission_id is not None:
            query = query.where(WaiverRow.submission_id == submission_id)
        with Session(self._engine) as session:
            return [_waiver(row) for row in session.scalars(query)]


def _waiver(row: WaiverRow) -> Waiver:
    return Waiver(
        id=row.id,
        submission_id=row.submission_id,
        granted_by=row.granted_by,
        reason=row.reason,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
    )
