"""What GitHub is answered, for each way in which a submission can end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fakes.hooks import payload
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.hooks.config import Answer, GitHubApp, GitHubRule
from gate.hooks.github import (
    LONGEST_COMMENT,
    answers_of,
    check_run_completed,
    check_run_started,
    conclusion_of,
    review_of,
)
from gate.hooks.template import PayloadError
from gate.policy import Condition, Release
from gate.submission import State, Submission
from gate.verdict import Verdict, decide

APP = GitHubApp(app_id="31337", private_key_env="T_KEY")
LINK = "https://gate.example/v1/submissions/sub_1/report"


def verdict(lower: float, upper: float, inconclusive: Release = Release.BLOCK) -> Verdict:
    judged = policy(Condition(check="a", at_most=0.2)).model_copy(
        update={"inconclusive": inconclusive}
    )
    return decide(judged, evidence(measurement("a", lower, upper)), DIGESTS)


PASS, FAIL, OPEN = verdict(0.0, 0.1), verdict(0.3, 0.4), verdict(0.1, 0.3)
LET_THROUGH = verdict(0.1, 0.3, Release.ALLOW)


def ended(state: State, **more: Any) -> Submission:
    values: dict[str, Any] = {
        "id": "sub_1", "state": state, "checkpoint": "/c", "base": None, "policy": "default",
        "battery": None, "contexts": [], "metadata": {}, "training_sample_digest": None,
        "source": "github", "submitted_by": None, "fresh": False,
        "created_at": datetime(2026, 11, 24, 10, tzinfo=UTC), "attempts": 1, "postponements": 0,
        "not_before": None, "progress": None, "outcome": None, "error": None, "transitions": [],
    }  # fmt: skip
    return Submission(**{**values, **more})


DECIDED = ended(State.DECIDED)
BROKEN = ended(State.FAILED, error="the engine\x1b[31m died " + "x" * 5000)
CANCELLED = ended(State.CANCELLED)


@pytest.mark.parametrize(
    ("submission", "judged", "state", "conclusion"),
    [
        (DECIDED, PASS, "approved", "success"),
        (DECIDED, FAIL, "rejected", "failure"),
        (DECIDED, OPEN, "rejected", "action_required"),
        (DECIDED, LET_THROUGH, "approved", "neutral"),
        (BROKEN, None, "rejected", "failure"),
        (CANCELLED, None, "rejected", "cancelled"),
    ],
)
def test_only_what_the_policy_releases_is_approved(
    submission: Submission, judged: Verdict | None, state: str, conclusion: str
) -> None:
    assert review_of(submission, judged, "production", LINK).state == state
    assert conclusion_of(submission, judged) == conclusion


def test_a_review_names_environment_reasons_and_report() -> None:
    review = review_of(DECIDED, FAIL, "production", LINK)
    assert review.environment_name == "production"
    assert LINK in review.comment
    assert "Verdict: fail" in review.comment
    assert FAIL.reasons[0] in review.comment


def test_a_long_error_is_cut_and_the_report_is_still_named() -> None:
    comment = review_of(BROKEN, None, "production", LINK).comment
    assert len(comment) <= LONGEST_COMMENT
    assert "could not judge" in comment
    assert LINK in comment
    assert "\x1b" not in comment


def test_without_a_public_address_the_submission_is_named() -> None:
    assert "Submission: sub_1" in review_of(DECIDED, PASS, "production", None).comment
    assert "details_url" not in check_run_completed(DECIDED, PASS, None)


def test_a_check_run_can_be_found_again_by_its_submission() -> None:
    body = check_run_started(ended(State.QUEUED), "em-gate", "a" * 40, LINK)
    assert (body["status"], body["external_id"], body["name"]) == (
        "in_progress",
        "sub_1",
        "em-gate",
    )
    assert body["started_at"] == "2026-11-24T10:00:00Z"
    assert check_run_completed(DECIDED, PASS, LINK)["details_url"] == LINK


def rule(answer: Answer | None, **more: Any) -> GitHubRule:
    return GitHubRule.model_validate(
        {"name": "r", "answer": answer, "submission": {"checkpoint": "/c"}, **more}
    )


CHECK = rule(Answer.CHECK_RUN, head_sha="{check_suite.head_sha}")
DEPLOY = rule(Answer.DEPLOYMENT_PROTECTION_RULE)


def test_a_deployment_promises_one_review_at_the_end() -> None:
    content = payload("github_deployment_protection_rule")
    (review,) = answers_of(DEPLOY, APP, content)
    assert review.at_end
    assert review.context.callback_url == content["deployment_callback_url"]
    assert review.context.environment == "production"
    assert review.context.installation_id == 5551234


def test_a_check_run_is_promised_twice() -> None:
    created, completed = answers_of(CHECK, APP, payload("github_check_suite"))
    assert (created.at_end, completed.at_end) == (False, True)
    assert created.context == completed.context
    assert created.context.repository == "acme/support-model"


def test_a_rule_without_an_answer_promises_nothing() -> None:
    assert answers_of(rule(None), APP, {}) == ()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("installation",), None),
        (("installation", "id"), "../1"),
        (("installation", "id"), 0),
        (("repository", "full_name"), "acme"),
        (("repository", "full_name"), "acme/../../orgs"),
        (("repository", "full_name"), "acme/x?y"),
        (("check_suite", "head_sha"), "main"),
        (("check_suite", "head_sha"), "a" * 39),
        (("check_suite", "head_sha"), "../../x"),
    ],
)
def test_values_that_would_lead_to_another_place_at_github_are_refused(
    place: tuple[str, ...], value: object
) -> None:
    content = payload("github_check_suite")
    here = content
    for step in place[:-1]:
        here = here[step]
    here[place[-1]] = value
    with pytest.raises(PayloadError):
        answers_of(CHECK, APP, content)
