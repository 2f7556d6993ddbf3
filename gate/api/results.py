"""Routes of what a submission led to: samples, verdict and report."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from checks.judgement import Label
from gate.api.paging import Cursor, Limit, link_next, number_cursor, read_number
from gate.api.parts import FoundSubmission, PartsOfApp, find_verdict
from gate.api.problems import problem_responses
from gate.api.schemas import SamplePage, SampleView
from gate.api.waivers import VerdictView, waivers_of
from gate.junit import junit_xml
from gate.report import REPORT_POLICY, render_report

router = APIRouter(prefix="/v1/submissions", tags=["results"])


class Role(StrEnum):
    """Whose answers."""

    CANDIDATE = "candidate"
    BASELINE = "baseline"


class JUnitResponse(Response):
    """JUnit XML."""

    media_type = "application/xml"


@router.get(
    "/{submission_id}/samples",
    response_model=SamplePage,
    responses=problem_responses(404, 422),
    summary="What the model said",
)
def samples(
    request: Request,
    response: Response,
    submission: FoundSubmission,
    parts: PartsOfApp,
    check: Annotated[
        str | None, Query(max_length=256, pattern=r"^[^\x00]*$", description="Only of this check.")
    ] = None,
    label: Annotated[Label | None, Query(description="Only those with this label.")] = None,
    role: Role = Role.CANDIDATE,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> SamplePage:
    """Samples in the order they came, while they come; text is the model's own and hostile."""
    after = read_number(cursor)
    candidate, baseline = parts.submissions.transcripts(submission.id)
    transcript = candidate if role is Role.CANDIDATE else baseline
    if transcript is None:
        return SamplePage(items=[], next_cursor=None)
    pages = parts.submissions.sample_pages
    verdict = parts.submissions.verdict(submission.id)
    judge = verdict.digests.judge if verdict else pages.judge_of(transcript)
    items, following = pages.page(transcript, judge, limit, after, check, label)
    next_cursor = number_cursor(following)
    link_next(request, response, next_cursor)
    return SamplePage(items=[SampleView.of(item) for item in items], next_cursor=next_cursor)


@router.get(
    "/{submission_id}/verdict",
    response_model=VerdictView,
    responses=problem_responses(404, 409),
    summary="The verdict with its reasons, intervals and digests",
)
def verdict(submission: FoundSubmission, parts: PartsOfApp, request: Request) -> VerdictView:
    """The verdict of a decided submission; a 409 problem while there is none."""
    return VerdictView.of(find_verdict(parts, submission), waivers_of(request, submission.id))


@router.get(
    "/{submission_id}/verdict.junit.xml",
    response_class=JUnitResponse,
    responses=problem_responses(404, 409),
    summary="The verdict for continuous integration (JUnit XML)",
)
def junit(submission: FoundSubmission, parts: PartsOfApp) -> JUnitResponse:
    """One test case per condition: a fail is a failure, an inconclusive one an error."""
    return JUnitResponse(junit_xml(submission.checkpoint, find_verdict(parts, submission)))


@router.get(
    "/{submission_id}/report",
    response_class=HTMLResponse,
    responses=problem_responses(404, 409),
    summary="The report for people (HTML)",
)
def report(submission: FoundSubmission, parts: PartsOfApp, request: Request) -> HTMLResponse:
    """The verdict as a page, with the model's own words."""
    decided = find_verdict(parts, submission)
    candidate, _ = parts.submissions.transcripts(submission.id)
    answers = parts.transcripts.samples(candidate, decided.digests.judge) if candidate else []
    pruned_at = parts.transcripts.pruned_at(candidate) if candidate else None
    return HTMLResponse(
        render_report(submission, decided, answers, waivers_of(request, submission.id), pruned_at),
        headers={"Content-Security-Policy": REPORT_POLICY},
    )
