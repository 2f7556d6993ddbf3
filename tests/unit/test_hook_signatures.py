"""Signatures of senders, over raw bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fakes.hooks import (
    GITHUB_SECRET,
    GITLAB_TOKEN,
    HF_SECRET,
    SIGNING_KEY,
    Call,
    github_call,
    gitlab_call,
    huggingface_call,
    standard_call,
)
from hypothesis import given
from hypothesis import strategies as st

from gate.hooks.config import Sender
from gate.hooks.senders import MissingIdError, delivery_ids, event_of
from gate.hooks.signatures import (
    SignatureError,
    verify_github,
    verify_gitlab_token,
    verify_huggingface,
    verify_standard,
)

Verifier = Callable[..., None]
CONTENT = {"action": "requested", "text": "Grüße 🙂"}
#: How each sender signs, how it is verified, with what, and the header that proves it. Calls are
#: made when a test runs, because some of them carry the time.
SENDERS: list[tuple[Callable[[], Call], Verifier, bytes, str]] = [
    (
        lambda: github_call("push", CONTENT),
        verify_github,
        GITHUB_SECRET.encode(),
        "x-hub-signature-256",
    ),
    (lambda: gitlab_call(CONTENT), verify_gitlab_token, GITLAB_TOKEN.encode(), "x-gitlab-token"),
    (lambda: huggingface_call(CONTENT), verify_huggingface, HF_SECRET.encode(), "x-webhook-secret"),
    (lambda: standard_call(CONTENT), verify_standard, SIGNING_KEY, "webhook-signature"),
]
EACH = pytest.mark.parametrize(
    ("make", "verify", "secret", "header"),
    SENDERS,
    ids=["github", "gitlab", "huggingface", "generic"],
)
Make = Callable[[], Call]


def lower(call: Call) -> dict[str, str]:
    return {name.lower(): value for name, value in call.headers.items()}


@EACH
def test_a_genuine_call_is_taken(make: Make, verify: Verifier, secret: bytes, header: str) -> None:
    call = make()
    verify([secret], lower(call), call.body)


@EACH
def test_either_of_two_secrets_is_good_while_they_are_changed(
    make: Make, verify: Verifier, secret: bytes, header: str
) -> None:
    call, other = make(), b"another secret of 32 bytes......"
    verify([other, secret], lower(call), call.body)
    with pytest.raises(SignatureError):
        verify([other], lower(call), call.body)


@EACH
def test_without_its_header_a_call_is_refused_by_name(
    make: Make, verify: Verifier, secret: bytes, header: str
) -> None:
    call = make()
    headers = lower(call)
    del headers[header]
    with pytest.raises(SignatureError, match=header):
        verify([secret], headers, call.body)


@EACH
@given(given_text=st.text(alphabet=st.characters(codec="latin-1"), min_size=1, max_size=80))
def test_no_other_header_is_taken_and_none_breaks_it(
    make: Make, verify: Verifier, secret: bytes, header: str, given_text: str
) -> None:
    call = make()
    headers = lower(call) | {header: given_text}
    if given_text != lower(call)[header]:
        with pytest.raises(SignatureError):
            verify([secret], headers, call.body)


@pytest.mark.parametrize("index", [0, 3], ids=["github", "generic"])
def test_one_changed_byte_of_the_body_is_seen(index: int) -> None:
    make, verify, secret, _ = SENDERS[index]
    call = make()
    with pytest.raises(SignatureError):
        verify([secret], lower(call), call.body.replace(b"requested", b"Requested"))


def test_the_vector_of_githubs_documentation_holds() -> None:
    headers = {
        "x-hub-signature-256": "sha256="
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    }
    verify_github([GITHUB_SECRET.encode()], headers, b"Hello, World!")


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_standard_webhook_out_of_time_is_refused(minutes: int) -> None:
    call = standard_call(CONTENT, at=datetime.now(UTC) + timedelta(minutes=minutes))
    with pytest.raises(SignatureError, match=r"too (old|new)"):
        verify_standard([SIGNING_KEY], lower(call), call.body)


@pytest.mark.parametrize("body", [b"\xff\xfe", b""])
def test_a_standard_webhook_of_any_bytes_is_refused_in_words(body: bytes) -> None:
    with pytest.raises(SignatureError):
        verify_standard([SIGNING_KEY], lower(standard_call(CONTENT)), body)


def test_gitlab_signs_as_standard_webhooks_with_a_signing_token() -> None:
    call = standard_call(CONTENT, sender="gitlab")
    verify_standard([SIGNING_KEY], lower(call), call.body)


def test_a_redelivery_of_github_is_known_by_its_id_and_by_its_body() -> None:
    first = github_call("push", CONTENT, delivery="one")
    exchanged = github_call("push", CONTENT, delivery="two")
    ids = [delivery_ids(Sender.GITHUB, lower(call), call.body) for call in (first, exchanged)]
    assert ids[0][0] == "one"
    assert ids[0][1] == ids[1][1]


def test_a_retry_of_gitlab_is_known_by_its_idempotency_key() -> None:
    call = gitlab_call(CONTENT, key="same")
    assert delivery_ids(Sender.GITLAB, lower(call), call.body) == ("same",)


def test_a_delivery_without_an_id_is_refused_where_the_sender_gives_one() -> None:
    call = github_call("push", CONTENT)
    headers = lower(replace(call, headers={}))
    with pytest.raises(MissingIdError, match="x-github-delivery"):
        delivery_ids(Sender.GITHUB, headers, call.body)


@pytest.mark.parametrize(
    ("sender", "headers", "content", "event"),
    [
        (Sender.GITHUB, {"x-github-event": "push"}, {}, "push"),
        (Sender.GITHUB, {"x-github-event": "a"}, {"action": "b"}, "a.b"),
        (Sender.GITLAB, {"x-gitlab-event": "Push Hook"}, {}, "Push Hook"),
        (Sender.HUGGINGFACE, {}, {"event": {"scope": "repo.content", "action": "update"}},
         "repo.content.update"),
        (Sender.GENERIC, {}, {"type": "training.finished"}, "training.finished"),
        (Sender.GENERIC, {}, {"type": {}}, ""),
    ],
)  # fmt: skip
def test_events_have_the_names_that_senders_give_them(
    sender: Sender, headers: dict[str, str], content: object, event: str
) -> None:
    assert event_of(sender, headers, content) == event
