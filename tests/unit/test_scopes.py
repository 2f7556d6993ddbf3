"""Which scope a call needs; what is not listed needs admin."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
import unit.builders  # noqa: F401  (its profile of hypothesis)
from hypothesis import given
from hypothesis import strategies as st

from gate.access.scopes import Scope, action_of, changes_state, includes, scope_needed

READ, SUBMIT, ADMIN, OPEN = Scope.READ, Scope.SUBMIT, Scope.ADMIN, None
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get"]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/health", OPEN),
        ("GET", "/openapi.json", OPEN),
        ("GET", "/docs", OPEN),
        ("POST", "/v1/hooks/github", OPEN),
        ("GET", "/metrics", READ),
        ("GET", "/v1/submissions", READ),
        ("HEAD", "/v1/submissions/sub_1", READ),
        ("GET", "/v1/submissions/sub_1/events", READ),
        ("GET", "/v1/submissions/sub_1/samples", READ),
        ("GET", "/v1/submissions/sub_1/verdict", READ),
        ("GET", "/v1/submissions/sub_1/verdict.junit.xml", READ),
        ("GET", "/v1/submissions/sub_1/report", READ),
        ("GET", "/v1/submissions/sub_1/waivers", READ),
        ("GET", "/v1/checkpoints/sha256:ab/verdicts", READ),
        ("GET", "/v1/policies", READ),
        ("GET", "/v1/policies/default", READ),
        ("GET", "/v1/batteries/standard", READ),
        ("POST", "/v1/submissions", SUBMIT),
        ("POST", "/v1/submissions/sub_1/cancel", SUBMIT),
        ("POST", "/v1/submissions/sub_1/retry", SUBMIT),
        ("POST", "/v1/uploads", SUBMIT),
        ("GET", "/v1/uploads/sha256:ab", SUBMIT),
        ("POST", "/v1/submissions/sub_1/waivers", ADMIN),
        ("DELETE", "/v1/waivers/wav_1", ADMIN),
        ("GET", "/v1/audit", ADMIN),
        ("GET", "/v1/deliveries", ADMIN),
        ("POST", "/v1/deliveries/del_1/resend", ADMIN),
    ],
)
def test_every_call_has_its_scope(method: str, path: str, scope: Scope | None) -> None:
    assert scope_needed(method, path) == scope


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/health"),
        ("DELETE", "/v1/submissions/sub_1"),
        ("OPTIONS", "/v1/submissions"),
        ("get", "/v1/submissions"),
        ("GET", "/v1/submissions/"),
        ("GET", "//v1/submissions"),
        ("GET", "/v1/submissions/a/b/report"),
        ("GET", "/metrics\n"),
        ("GET", "/health\n"),
        ("GET", "/health/../v1/audit"),
        ("POST", "/v1/hooks/"),
        ("POST", "/v1/hooks/github/more"),
        ("GET", "/v1/hooks/github"),
        ("GET", "/V1/submissions"),
        ("GET", ""),
    ],
)
def test_what_only_looks_like_a_known_call_needs_admin(method: str, path: str) -> None:
    assert scope_needed(method, path) is ADMIN


@given(st.sampled_from(METHODS), st.text(max_size=60))
def test_an_unknown_path_needs_admin_whatever_the_method(method: str, tail: str) -> None:
    assert scope_needed(method, "/v2/" + tail) is ADMIN


@given(st.sampled_from(METHODS), st.text(st.characters(exclude_characters="/"), min_size=1))
def test_no_change_is_open_or_needs_only_reading(method: str, name: str) -> None:
    for path in (
        f"/v1/submissions/{name}",
        f"/v1/submissions/{name}/waivers",
        f"/v1/waivers/{name}",
        f"/{name}",
    ):
        if changes_state(method):
            assert scope_needed(method, path) in {SUBMIT, ADMIN}


SETS = [set(c) for c in chain.from_iterable(combinations(Scope, n) for n in range(4))]


@given(st.sampled_from(SETS), st.sampled_from(SETS), st.sampled_from([*Scope, None]))
def test_more_scopes_never_allow_less(
    held: set[Scope], more: set[Scope], needed: Scope | None
) -> None:
    if includes(held, needed):
        assert includes(held | more, needed)


def test_admin_includes_all_the_others_are_apart_and_nothing_allows_nothing() -> None:
    assert all(includes({ADMIN}, needed) for needed in [*Scope, None])
    assert not includes({READ}, SUBMIT)
    assert not includes({SUBMIT}, READ)
    assert not includes({READ, SUBMIT}, ADMIN)
    assert [needed for needed in [*Scope, None] if includes(set(), needed)] == [None]


def test_the_audit_log_calls_things_by_name_and_says_on_what() -> None:
    assert action_of("POST", "/v1/submissions") == ("submission.create", None)
    assert action_of("POST", "/v1/submissions/sub_1/waivers") == ("waiver.grant", "sub_1")
    assert action_of("DELETE", "/v1/waivers/wav_1") == ("waiver.revoke", "wav_1")
    assert action_of("PUT", "/elsewhere") == ("PUT /elsewhere", None)
