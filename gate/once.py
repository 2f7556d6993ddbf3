"""Accepting a request once, however often it is sent: what an ``Idempotency-Key`` means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from gate.store.idempotency import Claim, KeyTakenError
from gate.store.submissions import SubmissionRecord
from gate.submission import Submission, SubmissionRequest


def request_digest(action: str, wanted: SubmissionRequest) -> str:
    """``sha256:…`` over what is asked; spelling and order of the JSON do not matter."""
    content = json.dumps([action, wanted.model_dump(mode="json")], sort_keys=True)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def accept_once(
    claim: Claim | None,
    record: SubmissionRecord,
    accept: Callable[[Claim | None], Submission],
) -> tuple[Submission, bool]:
    """The submission of this request, and whether an earlier request has made it.

    Of requests that come at the same time one makes the submission; the others find it.

    Raises:
        KeyReusedError: the key came before with another request.
        KeyTakenError: the key was taken at the same moment, and what it made has expired since.
    """
    if claim is None:
        return accept(None), False
    found = record.keys.find(claim)
    if found is None:
        try:
            return accept(claim), False
        except KeyTakenError:
            found = record.keys.find(claim)
            if found is None:
                raise
    return record.get(found), True
