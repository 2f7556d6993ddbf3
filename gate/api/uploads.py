"""Routes of ``/v1/uploads``."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from gate.api.parts import Parts
from gate.api.problems import ProblemError, problem_responses
from gate.archive_names import ArchiveError
from gate.archives import Format
from gate.content_digest import NoDigestError, announced_digest
from gate.content_store import GIB, NoRoomError
from gate.metrics import UPLOADS
from gate.sources import UploadSource
from gate.uploads import Upload, UploadDigestError, UploadStore, UploadTooLargeError

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

#: Formats by content type.
CONTENT_TYPES = {
    "application/x-tar": Format.TAR,
    "application/gzip": Format.TAR_GZ,
    "application/x-gzip": Format.TAR_GZ,
    "application/zip": Format.ZIP,
}
#: Bytes that are gathered before they are written in a thread.
GATHERED_BYTES = 1024 * 1024
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BrokenOffError(ProblemError):
    """The sender went away before the end."""


class UploadView(BaseModel):
    """An upload that can be submitted."""

    checkpoint: str = Field(
        description="What to submit as `checkpoint` or `base`.",
        examples=[f"upload://sha256:{'0' * 64}"],
    )
    size: int = Field(ge=0, description="Bytes of the extracted files.")
    files: int = Field(ge=1, description="Number of extracted files.")

    @classmethod
    def of(cls, upload: Upload) -> UploadView:
        """The view of an upload."""
        return cls(checkpoint=str(upload.source), size=upload.size, files=upload.files)


@router.post(
    "",
    status_code=201,
    response_model=UploadView,
    responses=problem_responses(400, 403, 413, 415, 422, 507),
    summary="Upload a checkpoint as tar, tar.gz or zip",
    openapi_extra={
        "requestBody": {"required": True, "content": dict.fromkeys(CONTENT_TYPES, _BINARY)},
        "parameters": [
            {
                "name": "Content-Digest",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "RFC 9530: `sha-256=:BASE64:` over the body.",
            }
        ],
    },
)
async def receive(
    request: Request,
    response: Response,
    sha256: Annotated[
        str | None, Query(description="SHA-256 of the body in hexadecimal, if not in the header.")
    ] = None,
) -> UploadView:
    """Take an archive of one checkpoint directory; a single folder at its top is stripped.

    The body is the archive itself. Its SHA-256 is required. The same content is stored once.
    """
    kind = _kind(request)
    try:
        digest = announced_digest(request.headers.get("content-digest"), sha256)
    except NoDigestError as error:
        raise ProblemError(422, "The digest is missing", str(error)) from error
    store = await run_in_threadpool(_store, request)
    _require_length(request)
    try:
        with _problems(), store.receiving() as incoming:
            async for chunk in _gathered(request):
                await run_in_threadpool(incoming.write, chunk)
            upload = await run_in_threadpool(store.keep, incoming, digest, kind)
    except ProblemError as error:
        UPLOADS.labels("broken off" if isinstance(error, BrokenOffError) else "refused").inc()
        raise
    UPLOADS.labels("taken").inc()
    response.headers["Location"] = f"/v1/uploads/{digest}"
    return UploadView.of(upload)


@router.get(
    "/{digest}",
    response_model=UploadView,
    responses=problem_responses(403, 404, 422),
    summary="Whether a content was uploaded already",
)
def read(
    request: Request,
    digest: Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256:…")],
) -> UploadView:
    """An upload by the SHA-256 of its archive."""
    found = _store(request).find(UploadSource(digest))
    if found is None:
        raise ProblemError(404, "Unknown upload", f"There is no upload with {digest}.")
    return UploadView.of(found)


def _kind(request: Request) -> Format:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(
            415, "The encoding is not taken", "Send the archive as it is, without Content-Encoding."
        )
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in CONTENT_TYPES:
        raise ProblemError(
            415,
            "The content type is not taken",
            f"'{media}' is not one of {', '.join(CONTENT_TYPES)}.",
        )
    return CONTENT_TYPES[media]


def _require_length(request: Request) -> None:
    """Refuse a length that is announced and too large, before anything is received."""
    parts: Parts = request.app.state.parts
    limit = parts.settings.upload_gib
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit * GIB:
        raise ProblemError(
            413, "The upload is too large", f"At most {limit:.2f} GiB (GATE_UPLOAD_GIB)."
        )


def _store(request: Request) -> UploadStore:
    """The store of this process, made on first use.

    Raises:
        ProblemError: uploads are switched off, or the disk has no room for the store.
    """
    parts: Parts = request.app.state.parts
    if not parts.settings.upload_gib:
        raise ProblemError(403, "Uploads are not allowed", "An operator switched them off.")
    with _problems():
        return UploadStore(parts.settings)


async def _gathered(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces that are worth a thread each."""
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= GATHERED_BYTES:
                yield bytes(waiting)
                waiting.clear()
    except ClientDisconnect as error:
        # Nobody hears it; what was received so far goes with the request.
        raise BrokenOffError(400, "The upload broke off", "The sender went away.") from error
    yield bytes(waiting)


@contextmanager
def _problems() -> Iterator[None]:
    """Refusals of the store as problems."""
    try:
        yield
    except UploadTooLargeError as error:
        raise ProblemError(413, "The upload is too large", str(error)) from error
    except UploadDigestError as error:
        raise ProblemError(422, "The upload is not what was announced", str(error)) from error
    except ArchiveError as error:
        raise ProblemError(422, "The archive was refused", str(error)) from error
    except NoRoomError as error:
        raise ProblemError(507, "There is no room", str(error)) from error
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise ProblemError(
            507, "There is no room", "The disk of the gate ran full while it took the upload."
        ) from error
