"""Routes of waivers, and the verdict as it is shown beside them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from gate.access.waivers import (
    NotWaivableError,
    Waiver,
    WaiverRequest,
    WaiverState,
    active,
    released,
)
from gate.api.admission import Admission
from gate.api.parts import PartsOfApp
from gate.api.problems import ProblemError, problem_responses
from gate.errors import WrongUsageError
from gate.store.submissions import UnknownSubmissionError
from gate.store.waivers import UnknownWaiverError, WaiverStore
from gate.verdict import Verdict

router = APIRouter(prefix="/v1", tags=["waivers"])


class WaiverView(Waiver):
    """A waiver and whether it releases now."""

    status: WaiverState = Field(description="active, expired or revoked.")

    @classmethod
    def at(cls, waiver: Waiver, now: datetime) -> Self:
        """The view of a waiver at a time."""
        return cls(**waiver.model_dump(), status=waiver.state(now))


class WaiverList(BaseModel):
    """All waivers of a submission, oldest first."""

    items: list[WaiverView]


class VerdictView(Verdict):
    """The verdict, unchanged, and whether the checkpoint is released by it or by a waiver."""

    waivers: tuple[Waiver, ...] = Field(description="The waivers in force.")
    released: bool = Field(
        description="Whether the checkpoint may be deployed now: by the verdict, or by a waiver."
    )

    @classmethod
    def of(cls, verdict: Verdict, waivers: Sequence[Waiver]) -> Self:
        """The view of a verdict now, given all waivers of its submission."""
        now = datetime.now(UTC)
        # Copied as it is, not validated again: these are values of the domain already.
        return cls.model_construct(
            **{name: getattr(verdict, name) for name in Verdict.model_fields},
            waivers=tuple(active(waivers, now)),
            released=released(verdict, waivers, now),
        )


def waivers_of(request: Request, submission_id: str) -> list[Waiver]:
    """All waivers of a submission."""
    return _store(request).of(submission_id)


@router.post(
    "/submissions/{submission_id}/waivers",
    status_code=201,
    response_model=WaiverView,
    responses=problem_responses(404, 409, 422),
    summary="Release in spite of a verdict",
)
def grant(
    submission_id: str, wanted: WaiverRequest, request: Request, parts: PartsOfApp
) -> WaiverView:
    """Record a decision to release in spite of a fail or inconclusive. The verdict stays."""
    actor = getattr(request.state, "actor", "anonymous")
    days_max = parts.settings.waiver_days_max
    try:
        _require_storable(submission_id, UnknownSubmissionError)
        made = _store(request).grant(submission_id, wanted, actor, days_max)
    except UnknownSubmissionError as error:
        raise _unknown_submission(submission_id) from error
    except NotWaivableError as error:
        raise ProblemError(409, "There is nothing to waive", str(error)) from error
    except WrongUsageError as error:
        raise ProblemError(422, "The request is not valid", str(error)) from error
    return WaiverView.at(made, datetime.now(UTC))


@router.get(
    "/submissions/{submission_id}/waivers",
    response_model=WaiverList,
    responses=problem_responses(404),
    summary="Waivers of a submission",
)
def of_submission(submission_id: str, request: Request, parts: PartsOfApp) -> WaiverList:
    """All of them, those that ended included."""
    try:
        _require_storable(submission_id, UnknownSubmissionError)
        parts.submissions.get(submission_id)
    except UnknownSubmissionError as error:
        raise _unknown_submission(submission_id) from error
    now = datetime.now(UTC)
    return WaiverList(items=[WaiverView.at(w, now) for w in waivers_of(request, submission_id)])


@router.delete(
    "/waivers/{waiver_id}",
    response_model=WaiverView,
    responses=problem_responses(404),
    summary="End a waiver",
)
def revoke(waiver_id: str, request: Request) -> WaiverView:
    """It releases no more from now on; it stays in the record. Ending it again changes nothing."""
    actor = getattr(request.state, "actor", "anonymous")
    try:
        _require_storable(waiver_id, UnknownWaiverError)
        ended = _store(request).revoke(waiver_id, actor)
    except UnknownWaiverError as error:
        detail = f"There is no waiver '{waiver_id}'."
        raise ProblemError(404, "Unknown waiver", detail) from error
    return WaiverView.at(ended, datetime.now(UTC))


def _store(request: Request) -> WaiverStore:
    admission: Admission = request.app.state.admission
    return admission.waivers


def _require_storable(identifier: str, unknown: type[Exception]) -> None:
    """PostgreSQL takes no text with a NUL, not even to look for it; no id has one."""
    if "\0" in identifier:
        raise unknown(identifier)


def _unknown_submission(submission_id: str) -> ProblemError:
    return ProblemError(404, "Unknown submission", f"There is no submission '{submission_id}'.")
