"""Routes of ``/v1/checkpoints``: what is known of a content."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from gate.api.paging import Cursor, Limit, link_next, place_cursor, read_place
from gate.api.parts import PartsOfApp
from gate.api.problems import problem_responses
from gate.api.schemas import KnownVerdictView, VerdictPage
from gate.store.verdicts import JudgedBy

#: Of a base or a battery.
Digest = Annotated[
    str | None,
    Query(pattern=r"^sha256:[0-9a-f]{64}$", description="Only with this content digest."),
]

router = APIRouter(prefix="/v1/checkpoints", tags=["checkpoints"])


@router.get(
    "/{digest}/verdicts",
    response_model=VerdictPage,
    responses=problem_responses(422),
    summary="Verdicts on this content, wherever it lay",
)
def verdicts(
    digest: Annotated[
        str, Path(pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of the content.")
    ],
    request: Request,
    response: Response,
    parts: PartsOfApp,
    limit: Limit = 50,
    cursor: Cursor = None,
    policy: Annotated[
        str | None,
        Query(
            max_length=128,
            pattern=r"^[^\x00]*$",
            description="Only by this policy, named as verdicts name it: `default v1`.",
        ),
    ] = None,
    base: Digest = None,
    battery: Digest = None,
) -> VerdictPage:
    """Newest first; none where nothing is known.

    A verdict says as much as the base, the battery and the policy that it was reached by. Whoever
    deploys by it names all three, so that one reached by others does not count.
    """
    judged_by = JudgedBy(policy, base, battery)
    items, following = parts.submissions.verdicts.of_checkpoint(
        digest, limit, read_place(cursor), judged_by
    )
    next_cursor = place_cursor(following)
    link_next(request, response, next_cursor)
    return VerdictPage(items=[KnownVerdictView.of(item) for item in items], next_cursor=next_cursor)
