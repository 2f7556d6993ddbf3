"""Routes of ``/v1/hooks``: what other services call when something is to be judged."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from gate.api.parts import Parts
from gate.api.problems import ProblemError, problem_responses
from gate.errors import GateError, PathOutsideRootError, PolicyError
from gate.hooks.config import Sender
from gate.hooks.receiving import HookDesk, Ignored, NotJsonError, Replayed, UnknownSenderError
from gate.hooks.senders import MissingIdError
from gate.hooks.signatures import SignatureError
from gate.hooks.template import PayloadError
from gate.metrics import HOOKS_RECEIVED

router = APIRouter(prefix="/v1/hooks", tags=["hooks"])


class HookAnswer(BaseModel):
    """What became of a call."""

    status: Literal["accepted", "replayed", "ignored"] = Field(
        description="replayed: taken before, nothing is submitted again. ignored: no rule wants it."
    )
    submission_id: str | None = None
    detail: str = ""
    links: dict[str, str] = Field(default_factory=dict)


async def _bounded_body(request: Request) -> bytes:
    """The raw body, read no further than the limit."""
    parts: Parts = request.app.state.parts
    limit = parts.settings.hook_body_bytes
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ProblemError(
                413,
                "The body is too large",
                f"The body is larger than {limit} bytes; the limit is GATE_HOOK_BODY_BYTES.",
            )
    return bytes(body)


@router.post(
    "/{sender}",
    status_code=202,
    response_model=HookAnswer,
    responses={
        200: {"model": HookAnswer, "description": "Taken before, or wanted by no rule."},
        **problem_responses(400, 401, 403, 404, 413, 422),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
    summary="Take a webhook",
)
async def take(
    sender: str,
    request: Request,
    response: Response,
    body: Annotated[bytes, Depends(_bounded_body)],
) -> HookAnswer:
    """Verify the signature, then submit what the hooks file maps the payload to.

    The sender is `github`, `gitlab`, `huggingface` or `generic` (Standard Webhooks).
    A call that was taken before is answered with 200 and the earlier submission.
    """
    answer = await run_in_threadpool(_take, sender, request, body)
    if answer.status != "accepted":
        response.status_code = 200
    elif answer.links:
        response.headers["Location"] = answer.links["self"]
    return answer


def _take(sender: str, request: Request, body: bytes) -> HookAnswer:
    desk: HookDesk = request.app.state.hooks
    parts: Parts = request.app.state.parts
    if sender not in set(Sender):
        raise _unconfigured(sender)
    who = Sender(sender)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        taken = desk.take(who, headers, body, parts.queue)
    except UnknownSenderError as error:
        raise _unconfigured(sender) from error
    except SignatureError as error:
        raise _refused(who, 401, "The signature is not valid", error) from error
    except (NotJsonError, MissingIdError) as error:
        raise _refused(who, 400, "The call is not well formed", error) from error
    except PayloadError as error:
        raise _refused(who, 422, "The payload cannot be mapped", error) from error
    except PathOutsideRootError as error:
        raise _refused(who, 403, "The path is not allowed", error) from error
    except PolicyError as error:
        raise _refused(who, 422, "The policy cannot be used", error) from error
    except GateError as error:
        raise _refused(who, 422, "The submission is not valid", error) from error
    # Who called is proved now; whoever keeps a record of calls finds it here.
    request.state.actor = f"hook:{sender}"
    if isinstance(taken, Ignored):
        HOOKS_RECEIVED.labels(sender, "ignored").inc()
        return HookAnswer(status="ignored", detail=f"no rule wants the event '{taken.event}'")
    status: Literal["accepted", "replayed"] = (
        "replayed" if isinstance(taken, Replayed) else "accepted"
    )
    HOOKS_RECEIVED.labels(sender, status).inc()
    links = {"self": f"/v1/submissions/{taken.submission_id}"} if taken.submission_id else {}
    return HookAnswer(status=status, submission_id=taken.submission_id, links=links)


def _refused(sender: Sender, status: int, title: str, error: Exception) -> ProblemError:
    HOOKS_RECEIVED.labels(sender.value, "refused").inc()
    return ProblemError(status, title, str(error))


def _unconfigured(sender: str) -> ProblemError:
    return ProblemError(
        404, "Unknown sender", f"No sender '{sender}' is configured in the hooks file."
    )
