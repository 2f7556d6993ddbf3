"""One Standard Webhook: signed, sent, and its answer read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from standardwebhooks.webhooks import Webhook

from workers.notify.outcome import Outcome, Result
from workers.notify.schedule import retry_after_seconds
from workers.notify.transport import Answer, BlockedAddressError, Sending, UnreachableError

GONE = 410
#: How much of a refusal is shown, in characters.
SHOWN = 200


def signed_headers(
    secrets: Sequence[bytes], message_id: str, at: datetime, body: str
) -> dict[str, str]:
    """The headers of Standard Webhooks, with one signature for each secret."""
    signatures = [Webhook(secret).sign(message_id, at, body) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": f"em-gate/{version('em-gate')}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def send_webhook(
    sending: Sending,
    url: str,
    secrets: Sequence[bytes],
    message_id: str,
    payload: Mapping[str, Any],
) -> Outcome:
    """Send one message. Signed anew on every attempt, since receivers refuse old signatures."""
    body = json.dumps(payload, separators=(",", ":"))
    headers = signed_headers(secrets, message_id, datetime.now(UTC), body)
    try:
        answer = sending.request("POST", url, headers, body.encode())
    except BlockedAddressError as error:
        return Outcome(Result.BLOCKED, error=str(error))
    except UnreachableError as error:
        return Outcome(Result.UNREACHABLE, error=str(error))
    return outcome_of(answer)


def outcome_of(answer: Answer) -> Outcome:
    """What an answer means: only 2xx is success; a redirect is a refusal, as none is followed."""
    if answer.ok:
        return Outcome(Result.DELIVERED, answer.status)
    wait = retry_after_seconds(answer.headers.get("retry-after"), datetime.now(UTC))
    said = " ".join(answer.body[: 4 * SHOWN].decode(errors="replace").split())[:SHOWN]
    error = f"answered {answer.status}" + (f": {said}" if said else "")
    gone = answer.status == GONE
    return Outcome(Result.GONE if gone else Result.REFUSED, answer.status, error, wait)
