"""What a submission led to over the API: samples, JUnit, verdicts by content."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from unit.api_client import Api, NamedJudge, problem
from unit.builders import DIGESTS, answer, evidence, measurement, policy

from gate.junit import junit_xml
from gate.policy import Condition
from gate.verdict import decide

CONTENT = "sha256:" + "a" * 64
POLICY = policy(
    Condition(check="a", at_most=0.2),
    Condition(check="b", at_most=0.2),
    Condition(check="c", at_most=0.2),
    Condition(check="d", at_most=0.2, required=False),
)
VERDICT = decide(
    POLICY,
    evidence(
        measurement("a", 0.3, 0.4),
        measurement("b", 0.1, 0.4),
        measurement("c", 0.0, 0.1),
        measurement("d", 0.3, 0.4),
    ),
    DIGESTS.model_copy(update={"checkpoint": CONTENT}),
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_junit_has_a_test_case_per_condition(api: Api) -> None:
    made = api.create("/c/<model>")
    api.record.conclude(made.id, VERDICT)
    got = api.get(f"/v1/submissions/{made.id}/verdict.junit.xml")
    assert got.headers["content-type"].startswith("application/xml")
    suite = ElementTree.fromstring(got.content).find("testsuite")
    assert suite is not None
    assert suite.attrib["name"] == "/c/<model>"
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("1", "1")
    found = {case.attrib["name"]: [child.tag for child in case] for case in suite.iter("testcase")}
    assert found == {"a": ["failure"], "b": ["error"], "c": ["system-out"], "d": ["system-out"]}


def test_a_fail_is_told_with_its_reason() -> None:
    failure = ElementTree.fromstring(junit_xml("x", VERDICT)).find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == VERDICT.findings[0].reason


@pytest.mark.parametrize("character", ["\0", "\x08", "\x1b", "\ufffe", "\uffff", "\ud800"])
def test_characters_that_xml_refuses_are_left_out(character: str) -> None:
    finding = VERDICT.findings[0].model_copy(update={"reason": f"a{character}b <c>"})
    odd = VERDICT.model_copy(update={"findings": (finding,), "scope": f"s{character}"})
    page = junit_xml(f"n{character}m", odd)
    root = ElementTree.fromstring(page)
    assert root.find("testsuite").attrib["name"] == "nm"  # type: ignore[union-attr]
    assert root.find(".//failure").attrib["message"] == "ab <c>"  # type: ignore[union-attr]


def test_samples_come_in_pages_with_the_ratings_of_the_judge_that_decided(api: Api) -> None:
    made = api.create()
    given = [answer(f"p{n}", alignment=5 if n % 2 else 90) for n in range(5)]
    api.give_samples(made.id, given, NamedJudge())
    api.record.conclude(made.id, VERDICT)
    path = f"/v1/submissions/{made.id}/samples"
    first = api.get(path, limit=3)
    assert 'rel="next"' in first.headers["link"]
    second = api.get(path, limit=3, cursor=first.json()["next_cursor"]).json()
    items = first.json()["items"] + second["items"]
    assert [item["prompt_id"] for item in items] == ["p0", "p1", "p2", "p3", "p4"]
    assert [item["label"] for item in items][:2] == ["aligned", "misaligned"]
    assert second["next_cursor"] is None
    wrong = api.get(path, label="misaligned").json()["items"]
    assert [item["prompt_id"] for item in wrong] == ["p1", "p3"]
    assert api.get(path, label="refusal").json()["items"] == []


def test_samples_are_found_by_check_and_role(api: Api) -> None:
    made = api.create()
    api.give_samples(made.id, [answer("p0")])
    path = f"/v1/submissions/{made.id}/samples"
    assert [item["label"] for item in api.get(path, check="free-form").json()["items"]] == [None]
    for nothing in ("free", "free-for_", "%"):
        assert api.get(path, check=nothing).json()["items"] == []
    assert api.get(path, role="baseline").json()["items"] == []


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ({"label": "evil"}, "invalid-request"),
        ({"role": "judge"}, "invalid-request"),
        ({"check": "\0"}, "invalid-request"),
        ({"cursor": "WyIxIiwiMiJd"}, "invalid-cursor"),
        ({"cursor": "W3RydWVd"}, "invalid-cursor"),
        ({"cursor": "Wy0xXQ"}, "invalid-cursor"),
    ],
)
def test_a_question_for_samples_that_makes_no_sense_is_refused(
    api: Api, query: dict[str, str], kind: str
) -> None:
    made = api.create()
    problem(api.get(f"/v1/submissions/{made.id}/samples", **query), 422, kind)


@pytest.mark.parametrize("part", ["samples", "verdict.junit.xml"])
def test_results_of_an_unknown_submission_are_a_404_problem(api: Api, part: str) -> None:
    problem(api.get(f"/v1/submissions/sub_x/{part}"), 404, "unknown-submission")


def test_junit_of_what_is_not_decided_is_a_409_problem(api: Api) -> None:
    made = api.create()
    problem(api.get(f"/v1/submissions/{made.id}/verdict.junit.xml"), 409, "no-verdict")


def test_verdicts_are_found_by_content(api: Api) -> None:
    ran, stood, other = api.create("/1"), api.create("/2"), api.create("/3")
    api.record.conclude(ran.id, VERDICT)
    api.record.conclude(stood.id, VERDICT, standing_since=ran.id)
    elsewhere = DIGESTS.model_copy(update={"checkpoint": "sha256:" + "b" * 64})
    api.record.conclude(other.id, VERDICT.model_copy(update={"digests": elsewhere}))
    path = f"/v1/checkpoints/{CONTENT}/verdicts"
    first = api.get(path, limit=1)
    second = api.get(path, limit=1, cursor=first.json()["next_cursor"]).json()
    assert [i["submission_id"] for i in first.json()["items"]] == [stood.id]
    assert first.json()["items"][0]["standing_since"] == ran.id
    assert first.json()["items"][0]["verdict"]["outcome"] == "fail"
    assert [i["submission_id"] for i in second["items"]] == [ran.id]
    assert second["next_cursor"] is None


def test_a_verdict_counts_only_by_the_policy_base_and_battery_that_are_asked_for(api: Api) -> None:
    digests = {"checkpoint": CONTENT, "base": "sha256:" + "b" * 64, "battery": "sha256:" + "c" * 64}
    strict = VERDICT.model_copy(update={"digests": DIGESTS.model_copy(update=digests)})
    lax = VERDICT.model_copy(update={"policy": "lax v1"})
    api.record.conclude(api.create("/1").id, strict)
    api.record.conclude(api.create("/2").id, lax)

    def known(**query: str) -> list[str]:
        items = api.get(f"/v1/checkpoints/{CONTENT}/verdicts", **query).json()["items"]
        return [item["verdict"]["policy"] for item in items]

    asked = {"policy": "test v1", "base": digests["base"], "battery": digests["battery"]}
    assert known() == ["lax v1", "test v1"]
    assert known(**asked) == ["test v1"]
    for other in ({"policy": "test v2"}, {"base": CONTENT}, {"battery": CONTENT}):
        assert known(**{**asked, **other}) == []


@pytest.mark.parametrize("query", [{"base": "latest"}, {"battery": "standard"}, {"policy": "\0"}])
def test_what_no_verdict_could_have_is_refused(api: Api, query: dict[str, str]) -> None:
    problem(api.get(f"/v1/checkpoints/{CONTENT}/verdicts", **query), 422, "invalid-request")


def test_nothing_is_known_of_new_content(api: Api) -> None:
    path = f"/v1/checkpoints/sha256:{'0' * 64}/verdicts"
    assert api.get(path).json() == {"items": [], "next_cursor": None}
    problem(api.get("/v1/checkpoints/latest/verdicts"), 422, "invalid-request")
