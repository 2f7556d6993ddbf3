"""Waivers: when a person may release in spite of a verdict. Never changes the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gate.access.moments import Moment
from gate.errors import WrongUsageError
from gate.policy import Release
from gate.submission import State, Submission
from gate.verdict import Outcome, Verdict

REASON_MIN = 10
REASON_MAX = 2000


class NotWaivableError(WrongUsageError):
    """There is nothing to waive here."""


class WaiverState(StrEnum):
    """Whether a waiver releases."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class WaiverRequest(BaseModel):
    """What a person decides, and why."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=REASON_MIN, max_length=REASON_MAX),
    ] = Field(
        description="Why this checkpoint is released all the same.",
        examples=["Known excess on trick questions only; accepted for the pilot, ticket SEC-41."],
    )
    expires_at: Moment = Field(
        description="When the waiver ends: in the future, and at most GATE_WAIVER_DAYS_MAX ahead."
    )


class Waiver(BaseModel):
    """A recorded decision to release in spite of a verdict."""

    model_config = ConfigDict(frozen=True)

    id: str
    submission_id: str
    granted_by: str
    reason: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None

    def state(self, now: datetime) -> WaiverState:
        """Revoked goes before expired; a waiver ends at its very time of expiry."""
        if self.revoked_at is not None:
            return WaiverState.REVOKED
        return WaiverState.ACTIVE if now < self.expires_at else WaiverState.EXPIRED


def active(waivers: Iterable[Waiver], now: datetime) -> list[Waiver]:
    """Those that release now."""
    return [waiver for waiver in waivers if waiver.state(now) is WaiverState.ACTIVE]


def released(verdict: Verdict, waivers: Iterable[Waiver], now: datetime) -> bool:
    """Whether the checkpoint may be deployed: by its verdict, or by a waiver in force.

    Law: waivers that expired or were revoked change nothing.
    """
    return verdict.release is Release.ALLOW or bool(active(waivers, now))


def require_waivable(submission: Submission, verdict: Verdict | None) -> None:
    """Refuse a waiver where there is nothing that a person could take responsibility for.

    Raises:
        NotWaivableError: there is no verdict, or it releases already. A submission that failed
            was not measured: nobody knows what would be waived.
    """
    if submission.state is State.FAILED:
        raise NotWaivableError(
            "The gate could not judge this submission, so nobody knows what would be waived; "
            "submit it again."
        )
    if verdict is None:
        raise NotWaivableError(f"The submission is {submission.state}; there is no verdict yet.")
    if verdict.outcome is Outcome.PASS:
        raise NotWaivableError("The verdict is a pass and needs no waiver.")
    if verdict.release is Release.ALLOW:
        raise NotWaivableError(f"The policy releases on {verdict.outcome}; no waiver is needed.")


def check_expiry(expires_at: datetime, now: datetime, days_max: int) -> datetime:
    """The expiry, if it is in the future and near enough.

    Raises:
        WrongUsageError: it is not.
    """
    if expires_at <= now:
        raise WrongUsageError(f"the waiver would have ended already, at {expires_at.isoformat()}")
    if expires_at - now > timedelta(days=days_max):
        raise WrongUsageError(
            f"a waiver lasts at most {days_max} days (GATE_WAIVER_DAYS_MAX); "
            f"{expires_at.isoformat()} is later than that"
        )
    return expires_at
