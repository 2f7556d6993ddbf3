"""Routes of ``/v1/submissions``: create, list, read, cancel and retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from gate.api.bodies import require_json
from gate.api.paging import Cursor, Limit, link_next, place_cursor, read_place
from gate.api.parts import Actor, Asked, FoundSubmission, PartsOfApp, find_submission
from gate.api.problems import (
    ALREADY_ENDED,
    INVALID_REQUEST,
    KEY_IN_USE,
    KEY_REUSED,
    NOT_ENDED,
    PATH_NOT_ALLOWED,
    POLICY_UNUSABLE,
    ProblemError,
    problem_responses,
)
from gate.api.schemas import SubmissionPage, SubmissionView
from gate.errors import PathOutsideRootError, PolicyError, WrongUsageError
from gate.intake import accept
from gate.once import accept_once, request_digest
from gate.store.idempotency import Claim, KeyReusedError, KeyTakenError
from gate.store.listing import Filters
from gate.submission import TERMINAL, State, Submission, SubmissionRequest
from gate.verdict import Outcome

router = APIRouter(prefix="/v1/submissions", tags=["submissions"])

#: Source of the submissions that come by these routes.
SOURCE = "api"
ACCEPTED = 202

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Chosen by the client, new for each request that it means. Sent again with "
        "the same body it gives the same submission.",
    ),
]
#: Not every database can look for a NUL.
Text = Annotated[str | None, Query(max_length=4096, pattern=r"^[^\x00]*$")]
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    ACCEPTED: {
        "headers": {
            "Location": {"description": "The submission.", "schema": {"type": "string"}},
            "Idempotency-Replayed": {
                "description": "`true` if an earlier request with the same key made it.",
                "schema": {"type": "string"},
            },
        }
    }
}


@router.post(
    "",
    status_code=ACCEPTED,
    response_model=SubmissionView,
    responses=problem_responses(403, 409, 422) | _ACCEPTED,
    dependencies=[Depends(require_json)],
    summary="Submit a checkpoint",
)
async def create(
    request: Request, wanted: SubmissionRequest, idempotency_key: IdempotencyKey = None
) -> Response:
    """Record a submission and queue it. Answers at once; follow the Location for the state."""
    # The busiest route: one thread for all of it, and an answer that is not validated again.
    return await asyncio.to_thread(_created, Asked.of(request), wanted, idempotency_key)


@router.get("", response_model=SubmissionPage, responses=problem_responses(422), summary="List")
def newest(
    request: Request,
    response: Response,
    parts: PartsOfApp,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    outcome: Annotated[Outcome | None, Query(description="Only those so decided.")] = None,
    checkpoint: Text = None,
    source: Text = None,
    metadata: Annotated[
        list[Annotated[str, Query(pattern=r"^[^:\x00]*:[^\x00]*$", max_length=2049)]] | None,
        Query(description="`key:value`; may be repeated, and all must match.", max_length=32),
    ] = None,
) -> SubmissionPage:
    """Submissions, newest first.

    `checkpoint` is the path or URI that a submission shows, or the digest of its content.
    """
    filters = Filters(
        state=state.value if state else None,
        outcome=outcome.value if outcome else None,
        checkpoint=checkpoint,
        source=source,
        metadata=[(key, value) for key, _, value in (p.partition(":") for p in metadata or ())],
    )
    items, following = parts.submissions.page(filters, limit, read_place(cursor))
    next_cursor = place_cursor(following)
    link_next(request, response, next_cursor)
    return SubmissionPage(
        items=[SubmissionView.of(item) for item in items], next_cursor=next_cursor
    )


@router.get(
    "/{submission_id}",
    response_model=SubmissionView,
    responses=problem_responses(404),
    summary="State, stage times and progress",
)
def read(submission: FoundSubmission) -> SubmissionView:
    """One submission."""
    return SubmissionView.of(submission)


@router.post(
    "/{submission_id}/cancel",
    response_model=SubmissionView,
    responses=problem_responses(404, 409),
    summary="Cancel",
)
def cancel(submission: FoundSubmission, parts: PartsOfApp) -> SubmissionView:
    """End a submission without a verdict; a 409 problem if it has ended."""
    moved = parts.submissions.move(submission.id, State.CANCELLED)
    now = find_submission(parts, submission.id)
    if not moved:
        raise ProblemError.of(ALREADY_ENDED, f"The submission is {now.state}.")
    return SubmissionView.of(now)


@router.post(
    "/{submission_id}/retry",
    status_code=ACCEPTED,
    response_model=SubmissionView,
    responses=problem_responses(403, 404, 409, 422) | _ACCEPTED,
    summary="Submit the same once more",
)
def retry(
    submission: FoundSubmission,
    parts: PartsOfApp,
    actor: Actor,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> SubmissionView:
    """A new submission with the request of one that has ended.

    What is decided stays so: ask for `fresh` in a new submission to have it run again.
    """
    if submission.state not in TERMINAL:
        raise ProblemError.of(
            NOT_ENDED, f"The submission is {submission.state}; cancel it or wait for its end."
        )
    sample = parts.submissions.training_sample(submission.id)
    if submission.training_sample_digest is not None and sample is None:
        raise ProblemError.of(
            INVALID_REQUEST, "Its training sample is no longer kept; submit it anew."
        )
    wanted = submission.request(sample)
    view, headers = _submit(Asked(parts, actor), f"retry {submission.id}", wanted, idempotency_key)
    response.headers.update(headers)
    return view


def _created(asked: Asked, wanted: SubmissionRequest, idempotency_key: str | None) -> Response:
    view, headers = _submit(asked, "create", wanted, idempotency_key)
    return Response(view.model_dump_json(), ACCEPTED, headers, "application/json")


def _submit(
    asked: Asked, action: str, wanted: SubmissionRequest, key: str | None
) -> tuple[SubmissionView, dict[str, str]]:
    """The submission, and the headers of the answer."""
    parts, actor = asked.parts, asked.actor
    claim = None
    if key is not None:
        digest = request_digest(action, wanted)
        claim = Claim(actor, key, digest, parts.settings.idempotency_seconds)

    def accepted(claim: Claim | None) -> Submission:
        settings, record, queue = parts.settings, parts.submissions, parts.queue
        return accept(wanted, SOURCE, settings, record, queue, actor, claim, audit=asked.audit)

    submission, replayed = _as_problems(lambda: accept_once(claim, parts.submissions, accepted))
    view = SubmissionView.of(submission)
    headers = {"Location": view.links["self"]}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return view, headers


def _as_problems(accepting: Callable[[], tuple[Submission, bool]]) -> tuple[Submission, bool]:
    try:
        return accepting()
    except KeyReusedError as error:
        raise ProblemError.of(
            KEY_REUSED, "This Idempotency-Key came before with another request; use a new one."
        ) from error
    except KeyTakenError as error:
        raise ProblemError.of(
            KEY_IN_USE, "Another request with this Idempotency-Key is being answered; try again."
        ) from error
    except PathOutsideRootError as error:
        raise ProblemError.of(PATH_NOT_ALLOWED, str(error)) from error
    except PolicyError as error:
        raise ProblemError.of(POLICY_UNUSABLE, str(error)) from error
    except WrongUsageError as error:
        raise ProblemError.of(INVALID_REQUEST, str(error)) from error
