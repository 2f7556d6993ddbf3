"""Submissions over the API: sent once or twice, listed in pages, cancelled, retried."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from unit.api_client import Api, problem
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.access.scopes import Scope
from gate.policy import Condition
from gate.submission import State
from gate.verdict import decide

CONTENT = "sha256:" + "a" * 64
VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)),
    evidence(measurement("a", 0.3, 0.4)),
    DIGESTS.model_copy(update={"checkpoint": CONTENT}),
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_a_request_sent_again_with_its_key_is_the_same_submission(api: Api) -> None:
    first, second = api.submit(key="k1"), api.submit(key="k1")
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert api.queue.sent == [first.json()["id"]]


def test_a_replay_answers_even_when_the_checkpoint_has_gone(api: Api) -> None:
    first = api.submit(key="k1")
    api.model.rmdir()
    assert api.submit(key="k1").json()["id"] == first.json()["id"]


def test_a_key_with_another_body_is_refused(api: Api) -> None:
    api.submit(key="k1")
    problem(api.submit(key="k1", fresh=True), 422, "idempotency-key-reused")
    assert len(api.ids()) == 1


def test_a_refused_request_does_not_use_its_key_up(api: Api) -> None:
    problem(api.submit(key="k1", policy="nope"), 422, "policy-unusable")
    assert api.submit(key="k1").status_code == 202


def test_keys_of_different_actors_are_apart(api: Api) -> None:
    made = [
        api.app.state.admission.keys.create(who, [Scope.SUBMIT], None, "test")
        for who in ("alice", "bob")
    ]
    first, second = (
        api.client.post(
            "/v1/submissions",
            json=api.body(),
            headers={"Idempotency-Key": "k1", "Authorization": f"Bearer {presented.text}"},
        ).json()
        for _, presented in made
    )
    assert first["id"] != second["id"]
    assert first["submitted_by"].startswith("key:alice:")
    assert second["submitted_by"].startswith("key:bob:")


def test_a_key_may_be_used_anew_after_its_time(tmp_path: Path) -> None:
    api = Api(tmp_path, idempotency_seconds=1e-6)
    assert api.submit(key="k1").json()["id"] != api.submit(key="k1", fresh=True).json()["id"]


def test_old_keys_are_forgotten(api: Api) -> None:
    api.submit(key="k1")
    assert api.record.keys.forget_before(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert api.record.keys.forget_before(datetime.now(UTC) + timedelta(hours=1)) == 1


def test_requests_with_one_key_at_the_same_time_make_one_submission(api: Api) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: api.submit(key="k1"), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    (made,) = {answer.json()["id"] for answer in answers}
    assert api.ids() == [made]
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\t"])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    headers = {"Idempotency-Key": key}
    answer = api.client.post("/v1/submissions", json=api.body(), headers=headers)
    problem(answer, 422, "invalid-request")


def test_pages_go_through_all_submissions_while_new_ones_come(api: Api) -> None:
    made = [api.create().id for _ in range(5)]
    page = api.get("/v1/submissions", limit=2).json()
    seen = [item["id"] for item in page["items"]]
    while page["next_cursor"]:
        api.create()
        page = api.get("/v1/submissions", limit=2, cursor=page["next_cursor"]).json()
        seen += [item["id"] for item in page["items"]]
    assert seen == made[::-1]


def test_the_link_header_leads_to_the_next_page_with_the_same_filters(api: Api) -> None:
    made = [api.create(metadata={"a": "1"}).id for _ in range(3)]
    api.create()
    first = api.get("/v1/submissions", limit=2, metadata="a:1")
    target, _, relation = first.headers["link"].partition(">; ")
    assert relation == 'rel="next"'
    second = api.client.get(target.removeprefix("<"))
    assert [item["id"] for item in second.json()["items"]] == [made[0]]
    assert "link" not in second.headers


@pytest.mark.parametrize("cursor", ["x", "", "bnVsbA", "WzFd", "WyIxIiwiMiJd", "é", "[" * 500])
def test_what_is_no_cursor_is_refused(api: Api, cursor: str) -> None:
    problem(api.get("/v1/submissions", cursor=cursor), 422, "invalid-cursor")


def test_submissions_are_found_by_what_they_are(api: Api) -> None:
    a = api.create("/a", source="cli", metadata={"k": "v", 'odd".$[0]': "w:x"})
    b = api.create("hf://org/b@main", metadata={"k": "other"})
    api.record.conclude(b.id, VERDICT)
    assert api.ids(state="queued") == [a.id]
    assert api.ids(state="decided") == [b.id]
    assert api.ids(outcome="fail") == [b.id]
    assert api.ids(outcome="pass") == []
    assert api.ids(checkpoint="/a") == [a.id]
    assert api.ids(checkpoint="hf://org/b@main") == [b.id]
    assert api.ids(checkpoint=CONTENT) == [b.id]
    assert api.ids(checkpoint="sha256:nothing") == []
    assert api.ids(source="cli") == [a.id]
    assert api.ids(metadata="k:v") == [a.id]
    assert api.ids(metadata=['odd".$[0]:w:x', "k:v"]) == [a.id]
    assert api.ids(metadata=["k:v", "k:other"]) == []


@pytest.mark.parametrize(
    "query",
    [
        {"state": "nope"},
        {"outcome": "maybe"},
        {"limit": 0},
        {"limit": 201},
        {"metadata": "nocolon"},
        {"checkpoint": "a\0b"},
        {"source": "\0"},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(api: Api, query: dict[str, str | int]) -> None:
    problem(api.get("/v1/submissions", **query), 422, "invalid-request")


def test_a_submission_is_cancelled_once(api: Api) -> None:
    made = api.create()
    answer = api.client.post(f"/v1/submissions/{made.id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    again = api.client.post(f"/v1/submissions/{made.id}/cancel")
    assert "cancelled" in problem(again, 409, "submission-has-ended")["detail"]


def test_what_is_decided_cannot_be_cancelled(api: Api) -> None:
    made = api.create()
    api.record.conclude(made.id, VERDICT)
    answer = api.client.post(f"/v1/submissions/{made.id}/cancel")
    problem(answer, 409, "submission-has-ended")
    assert api.record.get(made.id).state is State.DECIDED


def test_a_retry_is_a_new_submission_with_the_same_request(api: Api) -> None:
    sample = '{"messages": []}'
    contexts = [{"label": "live", "template": "[live] {question}"}]
    asked: dict[str, Any] = {
        "metadata": {"k": "v"}, "fresh": True, "training_sample": sample, "contexts": contexts
    }  # fmt: skip
    first = api.submit(**asked).json()
    api.record.move(first["id"], State.FAILED, error="the engine died")
    answer = api.client.post(f"/v1/submissions/{first['id']}/retry")
    second = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == second["links"]["self"]
    assert (second["id"] != first["id"], second["state"]) == (True, "queued")
    assert api.record.get(second["id"]).request(sample) == api.record.get(first["id"]).request(
        sample
    )
    assert api.record.training_sample(second["id"]) == sample
    assert api.queue.sent == [first["id"], second["id"]]


def test_a_retry_with_a_key_is_made_once(api: Api) -> None:
    first = api.submit().json()["id"]
    api.record.move(first, State.CANCELLED)
    headers = {"Idempotency-Key": "r"}
    answers = [api.client.post(f"/v1/submissions/{first}/retry", headers=headers) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"] != first


def test_what_has_not_ended_is_not_retried(api: Api) -> None:
    made = api.create()
    answer = api.client.post(f"/v1/submissions/{made.id}/retry")
    problem(answer, 409, "submission-has-not-ended")


@pytest.mark.parametrize("path", ["/cancel", "/retry"])
def test_an_unknown_submission_can_be_neither_cancelled_nor_retried(api: Api, path: str) -> None:
    problem(api.client.post(f"/v1/submissions/sub_x{path}"), 404, "unknown-submission")


def test_the_links_of_a_submission_lead_to_what_there_is(api: Api) -> None:
    made = api.create()
    assert set(api.get(f"/v1/submissions/{made.id}").json()["links"]) == {
        "self", "events", "samples", "cancel"
    }  # fmt: skip
    api.record.conclude(made.id, VERDICT)
    links = api.get(f"/v1/submissions/{made.id}").json()["links"]
    assert set(links) == {"self", "events", "samples", "retry", "verdict", "report", "junit"}
    for name in set(links) - {"events", "retry"}:
        assert api.get(links[name]).status_code == 200


def test_the_view_says_which_submission_was_really_run(api: Api) -> None:
    ran, stood = api.create(), api.create()
    api.record.conclude(ran.id, VERDICT)
    api.record.conclude(stood.id, VERDICT, standing_since=ran.id)
    assert api.get(f"/v1/submissions/{stood.id}").json()["standing_since"] == ran.id
    items = api.get("/v1/submissions").json()["items"]
    assert [item["standing_since"] for item in items] == [ran.id, None]
