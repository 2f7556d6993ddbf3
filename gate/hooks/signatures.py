"""Whether a call really comes from whom it says: the way each sender proves it, over raw bytes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gate.hooks.config import (
    GitLabReceiver,
    Hooks,
    HooksFileError,
    Receiver,
    Sender,
)
from gate.hooks.secrets import plain_secrets, signing_secrets

#: Takes headers with lower-case names and the raw body; raises SignatureError.
Verify = Callable[[Mapping[str, str], bytes], None]


class SignatureError(Exception):
    """A call proves nothing; the message says what is missing or wrong, and no secret."""


def verify_github(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes) -> None:
    """``X-Hub-Signature-256: sha256=HEX``, an HMAC of the body.

    Raises:
        SignatureError: missing or wrong.
    """
    given = _header(headers, "x-hub-signature-256").encode()
    _require_one(
        given,
        [b"sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest().encode() for key in secrets],
        "X-Hub-Signature-256 does not fit the body",
    )


def verify_gitlab_token(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes) -> None:
    """``X-Gitlab-Token``, the secret itself.

    Raises:
        SignatureError: missing or wrong.
    """
    _require_one(_header(headers, "x-gitlab-token").encode(), secrets, "X-Gitlab-Token is wrong")


def verify_huggingface(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes) -> None:
    """``X-Webhook-Secret``, the secret itself. The form in the query would be in every log.

    Raises:
        SignatureError: missing or wrong.
    """
    _require_one(
        _header(headers, "x-webhook-secret").encode(), secrets, "X-Webhook-Secret is wrong"
    )


def verify_standard(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes) -> None:
    """Standard Webhooks: an HMAC of id, time and body, not older or newer than five minutes.

    GitLab signs in the same way where a signing token is set.

    Raises:
        SignatureError: missing, wrong or out of time.
    """
    needed = {
        name: _header(headers, name)
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    }
    reason = ""
    for secret in secrets:
        try:
            Webhook(secret).verify(body, needed, json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            # The library lets the errors of base64, UTF-8 and of a header without comma through.
            known = isinstance(error, WebhookVerificationError)
            reason = str(error) if known else "webhook-signature is not well formed"
        else:
            return
    raise SignatureError(reason)


def verifiers(hooks: Hooks, environment: Mapping[str, str]) -> dict[Sender, Verify]:
    """A verifier for every configured sender, with its secrets from the environment.

    Raises:
        HooksFileError: a secret is not set or not usable; names the sender.
    """
    made = {}
    for sender in Sender:
        receiver = hooks.receive.of(sender)
        if receiver is None:
            continue
        try:
            made[sender] = _verifier(sender, receiver, environment)
        except HooksFileError as error:
            raise HooksFileError(f"receive.{sender}: {error}") from error
    return made


def _verifier(sender: Sender, receiver: Receiver, environment: Mapping[str, str]) -> Verify:
    signed = isinstance(receiver, GitLabReceiver) and receiver.signed
    if sender is Sender.GENERIC or signed:
        keys = signing_secrets(receiver.secret_env, environment)
        return lambda headers, body: verify_standard(keys, headers, body)
    plain = plain_secrets(receiver.secret_env, environment)
    verify = {
        Sender.GITHUB: verify_github,
        Sender.GITLAB: verify_gitlab_token,
        Sender.HUGGINGFACE: verify_huggingface,
    }[sender]
    return lambda headers, body: verify(plain, headers, body)


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise SignatureError(f"the header {name} is missing")
    return value


def _require_one(given: bytes, accepted: Sequence[bytes], otherwise: str) -> None:
    """Compare with all, each in constant time, so that the time does not tell which one fits."""
    fits = [hmac.compare_digest(given, wanted) for wanted in accepted]
    if not any(fits):
        raise SignatureError(otherwise)
