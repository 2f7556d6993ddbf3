"""Senders of webhooks as they are: recorded shapes of payloads, signed as each of them signs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook

PAYLOADS = Path(__file__).parent / "payloads"
GITHUB_SECRET = "It's a Secret to Everybody"
GITLAB_TOKEN = "gitlab-token-of-the-tests"
HF_SECRET = "hugging-face-secret-of-the-tests"
SIGNING_KEY = bytes(range(32))
SIGNING_SECRET = "whsec_" + base64.b64encode(SIGNING_KEY).decode()
#: Every secret, under the names that the hooks files of the tests use.
ENVIRONMENT = {
    "T_GITHUB": GITHUB_SECRET,
    "T_GITLAB": GITLAB_TOKEN,
    "T_HF": HF_SECRET,
    "T_SIGNING": SIGNING_SECRET,
}


def payload(name: str) -> dict[str, Any]:
    """A recorded payload."""
    content: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))
    return content


@dataclass(frozen=True)
class Call:
    """One call as it goes over the wire."""

    sender: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def github_call(event: str, content: object, delivery: str | None = None) -> Call:
    """As GitHub signs: an HMAC of the body alone."""
    body = json.dumps(content).encode()
    digest = hmac.new(GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": f"sha256={digest}",
    }
    return Call("github", body, headers)


def gitlab_call(content: object, key: str | None = None, event: str = "Push Hook") -> Call:
    """As GitLab sends with a secret token."""
    headers = {
        "Content-Type": "application/json",
        "X-Gitlab-Event": event,
        "X-Gitlab-Token": GITLAB_TOKEN,
        "X-Gitlab-Event-UUID": str(uuid.uuid4()),
        "Idempotency-Key": key or str(uuid.uuid4()),
    }
    return Call("gitlab", json.dumps(content).encode(), headers)


def huggingface_call(content: object) -> Call:
    """As the Hub sends with a secret."""
    headers = {"Content-Type": "application/json", "X-Webhook-Secret": HF_SECRET}
    return Call("huggingface", json.dumps(content).encode(), headers)


def standard_call(
    content: object,
    sender: str = "generic",
    message_id: str | None = None,
    at: datetime | None = None,
    secret: bytes = SIGNING_KEY,
) -> Call:
    """As Standard Webhooks are signed."""
    body = json.dumps(content)
    identity = message_id or f"msg_{uuid.uuid4().hex}"
    when = at or datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(int(when.timestamp())),
        "webhook-signature": Webhook(secret).sign(identity, when, body),
    }
    return Call(sender, body.encode(), headers)
