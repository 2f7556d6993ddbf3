"""The route of the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from gate.access.moments import Moment
from gate.api.admission import Admission
from gate.api.problems import problem_responses
from gate.store.audit import AuditRecord

router = APIRouter(prefix="/v1", tags=["audit"])


#: PostgreSQL takes no text with a NUL, not even to compare with.
NO_NUL = r"^[^\x00]*$"


class AuditPage(BaseModel):
    """A page of the audit log, newest first."""

    items: list[AuditRecord]
    next_cursor: str | None = Field(description="For the next, older page; null on the last one.")


@router.get(
    "/audit",
    response_model=AuditPage,
    responses=problem_responses(422),
    summary="Who changed what",
)
def newest(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9]{1,18}$", description="next_cursor of the page before.")
    ] = None,
    since: Annotated[Moment | None, Query(description="Only from this time on.")] = None,
    actor: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
    action: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
) -> AuditPage:
    """Every call that changed something, and refused attempts, newest first."""
    admission: Admission = request.app.state.admission
    before = int(cursor) if cursor else None
    # One more than asked shows whether there is another page.
    rows = admission.audit.newest(limit + 1, before, since, actor, action)
    more = len(rows) > limit
    return AuditPage(items=rows[:limit], next_cursor=str(rows[limit - 1].id) if more else None)
