"""What each sender calls an event, and by what a second delivery of the same one is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from gate.hooks.config import Sender
from gate.hooks.template import Path, PayloadError, value_at

#: Longest id that is kept as it is; a longer one is kept as its digest.
LONGEST_ID = 200


class MissingIdError(ValueError):
    """A delivery has no id by which a replay could be known."""


def event_of(sender: Sender, headers: Mapping[str, str], payload: object) -> str:
    """The name of an event as rules see it; empty where the sender gives none.

    GitHub: ``X-GitHub-Event``, with ``.action`` if the payload has one (``check_suite.requested``).
    GitLab: ``X-Gitlab-Event`` (``Push Hook``). Hugging Face: scope and action
    (``repo.content.update``). Generic: the payload's ``type``.
    """
    if sender is Sender.GITHUB:
        names = [headers.get("x-github-event", ""), _text(payload, "action")]
        return ".".join(name for name in names if name)
    if sender is Sender.GITLAB:
        return headers.get("x-gitlab-event", "")
    if sender is Sender.HUGGINGFACE:
        names = [_text(payload, "event", "scope"), _text(payload, "event", "action")]
        return ".".join(name for name in names if name)
    return _text(payload, "type")


def delivery_ids(sender: Sender, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
    """Everything by which a second delivery of this one is known; one that fits is enough.

    GitHub's signature covers the body alone, so its ``X-GitHub-Delivery`` can be exchanged: the
    digest of the body counts as well. Hugging Face sends no id, so that the digest is all there
    is. GitLab keeps ``Idempotency-Key`` over its retries; ``webhook-id`` is the same, signed.

    Raises:
        MissingIdError: the header with the id is missing.
    """
    digest = "body:sha256:" + hashlib.sha256(body).hexdigest()
    if sender is Sender.HUGGINGFACE:
        return (digest,)
    if sender is Sender.GITHUB:
        return (_id(headers, "x-github-delivery"), digest)
    if sender is Sender.GITLAB:
        return (_id(headers, "webhook-id", "idempotency-key", "x-gitlab-event-uuid"),)
    return (_id(headers, "webhook-id"),)


def _id(headers: Mapping[str, str], *names: str) -> str:
    for name in names:
        found = headers.get(name, "").strip()
        if found:
            long = len(found) > LONGEST_ID
            return "sha256:" + hashlib.sha256(found.encode()).hexdigest() if long else found
    raise MissingIdError(f"the header {' or '.join(names)} is missing")


def _text(payload: object, *steps: str) -> str:
    try:
        return value_at(payload, Path(steps))
    except PayloadError:
        return ""
