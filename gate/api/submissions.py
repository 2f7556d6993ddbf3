"""Routes of ``/v1/submissions``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse

from gate.api.parts import Parts
from gate.api.problems import ProblemError, problem_responses
from gate.api.schemas import SubmissionPage, SubmissionView
from gate.api.waivers import VerdictView, waivers_of
from gate.errors import PathOutsideRootError, PolicyError, WrongUsageError
from gate.intake import accept
from gate.report import REPORT_POLICY, render_report
from gate.store.submissions import UnknownSubmissionError
from gate.submission import State, Submission, SubmissionRequest
from gate.verdict import Verdict

router = APIRouter(prefix="/v1/submissions", tags=["submissions"])


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsOfApp = Annotated[Parts, Depends(_parts)]


@router.post(
    "",
    status_code=202,
    response_model=SubmissionView,
    responses=problem_responses(403, 422),
    summary="Submit a checkpoint",
)
def create(wanted: SubmissionRequest, parts: PartsOfApp, response: Response) -> SubmissionView:
    """Record a submission and queue it. Answers at once; poll the Location for the state."""
    try:
        submission = accept(wanted, "api", parts.settings, parts.submissions, parts.queue)
    except PathOutsideRootError as error:
        raise ProblemError(403, "The path is not allowed", str(error)) from error
    except PolicyError as error:
        raise ProblemError(422, "The policy cannot be used", str(error)) from error
    except WrongUsageError as error:
        raise ProblemError(422, "The request is not valid", str(error)) from error
    view = SubmissionView.of(submission)
    response.headers["Location"] = view.links["self"]
    return view


@router.get("", response_model=SubmissionPage, responses=problem_responses(422), summary="List")
def newest(
    parts: PartsOfApp,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> SubmissionPage:
    """Submissions, newest first."""
    items, total = parts.submissions.newest(limit, offset)
    return SubmissionPage(
        items=[SubmissionView.of(item) for item in items], total=total, limit=limit, offset=offset
    )


@router.get(
    "/{submission_id}",
    response_model=SubmissionView,
    responses=problem_responses(404),
    summary="State, stage times and progress",
)
def read(submission_id: str, parts: PartsOfApp) -> SubmissionView:
    """One submission."""
    return SubmissionView.of(_find(parts, submission_id))


@router.get(
    "/{submission_id}/verdict",
    response_model=VerdictView,
    responses=problem_responses(404, 409),
    summary="The verdict with its reasons, intervals and digests",
)
def verdict(submission_id: str, parts: PartsOfApp, request: Request) -> VerdictView:
    """The verdict of a decided submission; a 409 problem while there is none."""
    decided = _decided(parts, _find(parts, submission_id))
    return VerdictView.of(decided, waivers_of(request, submission_id))


@router.get(
    "/{submission_id}/report",
    response_class=HTMLResponse,
    responses=problem_responses(404, 409),
    summary="The report for people (HTML)",
)
def report(submission_id: str, parts: PartsOfApp, request: Request) -> HTMLResponse:
    """The verdict as a page, with the model's own words."""
    submission = _find(parts, submission_id)
    decided = _decided(parts, submission)
    candidate, _ = parts.submissions.transcripts(submission_id)
    samples = parts.transcripts.samples(candidate, decided.digests.judge) if candidate else []
    pruned_at = parts.transcripts.pruned_at(candidate) if candidate else None
    return HTMLResponse(
        render_report(submission, decided, samples, waivers_of(request, submission_id), pruned_at),
        headers={"Content-Security-Policy": REPORT_POLICY},
    )


def _find(parts: Parts, submission_id: str) -> Submission:
    try:
        return parts.submissions.get(submission_id)
    except UnknownSubmissionError as error:
        raise ProblemError(
            404, "Unknown submission", f"There is no submission '{submission_id}'."
        ) from error


def _decided(parts: Parts, submission: Submission) -> Verdict:
    found = parts.submissions.verdict(submission.id)
    if found is None:
        detail = f"The submission is {submission.state}."
        if submission.state is State.FAILED:
            detail = f"The gate could not judge this submission: {submission.error}"
        raise ProblemError(409, "There is no verdict", detail)
    return found
