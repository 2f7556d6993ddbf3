"""The API: answers, problems, and the page for people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from unit.builders import DIGESTS, answer, evidence, measurement, policy

from gate.api.app import create_app
from gate.api.parts import Parts
from gate.policy import Condition
from gate.report import SHOWN_CHARACTERS, SHOWN_SAMPLES, render_report, telling_samples
from gate.settings import Settings
from gate.store.submissions import SubmissionRecord
from gate.submission import State, SubmissionRequest
from gate.verdict import decide

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)  # fmt: skip


class Queue:
    """Records what would be sent to the workers."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, submission_id: str) -> bool:
        self.sent.append(submission_id)
        return True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "model").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def api(tmp_path: Path, root: Path) -> TestClient:
    app = create_app(Settings(home=tmp_path / "home", checkpoint_roots=[root]))
    parts: Parts = app.state.parts
    app.state.parts = Parts(parts.settings, parts.submissions, parts.transcripts, Queue())  # type: ignore[arg-type]
    return TestClient(app, raise_server_exceptions=False)


def record(api: TestClient) -> SubmissionRecord:
    found: SubmissionRecord = api.app.state.parts.submissions  # type: ignore[attr-defined]
    return found


def test_a_submission_is_accepted_recorded_and_queued(api: TestClient, root: Path) -> None:
    body = {"checkpoint": str(root / "model"), "metadata": {"git_sha": "4f2"}}
    got = api.post("/v1/submissions", json=body)
    assert got.status_code == 202
    assert got.headers["location"] == f"/v1/submissions/{got.json()['id']}"
    assert api.app.state.parts.queue.sent == [got.json()["id"]]  # type: ignore[attr-defined]
    read = api.get(got.headers["location"]).json()
    assert (read["state"], read["metadata"]) == ("queued", {"git_sha": "4f2"})


def test_submissions_are_listed_newest_first_in_pages(api: TestClient, root: Path) -> None:
    ids = [
        api.post("/v1/submissions", json={"checkpoint": str(root / "model")}).json()["id"]
        for _ in range(3)
    ]
    page = api.get("/v1/submissions", params={"limit": 2}).json()
    assert [i["id"] for i in page["items"]] == [ids[2], ids[1]]
    rest = api.get("/v1/submissions", params={"cursor": page["next_cursor"]}).json()
    assert ([i["id"] for i in rest["items"]], rest["next_cursor"]) == ([ids[0]], None)


def outside(root: Path) -> dict[str, object]:
    return {"checkpoint": str(root.parent)}


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"checkpoint": "{root}/.."}, 403, "not under a checkpoint root"),
        ({"checkpoint": "{root}/link"}, 403, "not under a checkpoint root"),
        ({"base": "/etc"}, 403, "not under a checkpoint root"),
        ({"checkpoint": "{root}/gone"}, 422, "is not a directory"),
        ({"checkpoint": "{root}/a\0b"}, 422, "NUL"),
        ({"policy": "nope"}, 422, "unknown policy 'nope'"),
        ({"policy": "../default"}, 422, "not a policy name"),
        ({"surprise": 1}, 422, "surprise"),
        ({"metadata": {"a": 1}}, 422, "metadata"),
        ({"training_sample": "nonsense"}, 422, "line 1"),
    ],
)
def test_a_bad_submission_is_answered_with_a_problem_and_not_recorded(
    api: TestClient, root: Path, change: dict[str, object], status: int, says: str
) -> None:
    (root / "link").symlink_to("/etc")
    body = {"checkpoint": str(root / "model"), **change}
    body = {k: v.replace("{root}", str(root)) if isinstance(v, str) else v for k, v in body.items()}
    got = api.post("/v1/submissions", json=body)
    assert got.status_code == status, got.text
    assert got.headers["content-type"] == "application/problem+json"
    assert says in got.json()["detail"]
    assert got.json()["status"] == status
    assert api.get("/v1/submissions").json()["items"] == []


@pytest.mark.parametrize("part", ["", "/verdict", "/report"])
def test_an_unknown_submission_is_a_404_problem(api: TestClient, part: str) -> None:
    got = api.get(f"/v1/submissions/sub_nope{part}")
    assert got.status_code == 404
    assert got.headers["content-type"] == "application/problem+json"
    assert "sub_nope" in got.json()["detail"]


@pytest.mark.parametrize("part", ["verdict", "report"])
def test_a_verdict_that_is_not_there_yet_is_a_409_problem(
    api: TestClient, root: Path, part: str
) -> None:
    made = record(api).create(SubmissionRequest(checkpoint="/c"), "api")
    got = api.get(f"/v1/submissions/{made.id}/{part}")
    assert (got.status_code, "queued" in got.json()["detail"]) == (409, True)
    record(api).move(made.id, State.FAILED, error="config.json: is missing")
    got = api.get(f"/v1/submissions/{made.id}/{part}")
    assert (got.status_code, "config.json: is missing" in got.json()["detail"]) == (409, True)


def test_a_decided_submission_has_verdict_and_report(api: TestClient) -> None:
    made = record(api).create(SubmissionRequest(checkpoint="/c"), "api")
    record(api).conclude(made.id, VERDICT)
    got = api.get(f"/v1/submissions/{made.id}/verdict").json()
    assert (got["outcome"], got["release"]) == ("fail", "block")
    page = api.get(f"/v1/submissions/{made.id}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_unknown_routes_and_methods_are_problems_too(api: TestClient) -> None:
    for got in (api.get("/nope"), api.delete("/v1/submissions")):
        assert got.headers["content-type"] == "application/problem+json"


def test_the_api_describes_itself_and_exports_metrics(api: TestClient) -> None:
    described = api.get("/openapi.json").json()
    assert "application/problem+json" in str(described["paths"]["/v1/submissions"]["post"])
    assert "emgate_submissions_total" in api.get("/metrics").text


def test_what_the_model_says_cannot_become_markup(api: TestClient) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    wanted = SubmissionRequest(checkpoint=f"/c/{hostile}", metadata={hostile: hostile})
    page = render_report(record(api).create(wanted, "api"), VERDICT, [answer("a", text=hostile)])
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_a_megabyte_of_answer_is_cut(api: TestClient) -> None:
    made = record(api).create(SubmissionRequest(checkpoint="/c"), "api")
    page = render_report(made, VERDICT, [answer("a", text="z" * 1_000_000)])
    assert "z" * SHOWN_CHARACTERS in page
    assert "z" * (SHOWN_CHARACTERS + 1) not in page


def test_the_worst_coherent_answers_are_shown_first() -> None:
    samples = [answer("a", 80), answer("b", 5, coherence=10), answer("c", 20)]
    assert [s.elicitation.prompt_id for s in telling_samples(samples)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"\xff"',
        b"[" * 100_000,
        b'{"checkpoint": "/c", "\\ud800": 1}',
        b'{"checkpoint": "/c\\ud800"}',
        b'{"checkpoint": "' + b"9" * 5000 + b'"}',
        b'{"checkpoint": ' + b"9" * 5000 + b"}",
    ],
    ids=["cut", "list", "not text", "deep", "odd key", "odd path", "long path", "long number"],
)
def test_a_body_that_makes_no_sense_is_a_problem_and_not_a_breakdown(
    api: TestClient, body: bytes
) -> None:
    got = api.post("/v1/submissions", content=body, headers={"content-type": "application/json"})
    assert got.status_code in {400, 422}
    assert got.headers["content-type"] == "application/problem+json"
    assert api.get("/v1/submissions").json()["items"] == []


def test_a_breakdown_is_a_problem_that_tells_nothing_of_the_inside(
    api: TestClient, root: Path
) -> None:
    def break_down(_: str) -> bool:
        raise RuntimeError("password in the traceback")

    api.app.state.parts.queue.send = break_down  # type: ignore[attr-defined]
    got = api.post("/v1/submissions", json={"checkpoint": str(root / "model")})
    assert (got.status_code, got.headers["content-type"]) == (500, "application/problem+json")
    assert "password" not in got.text


def test_a_problem_says_what_it_is_about(api: TestClient) -> None:
    got = api.post("/v1/submissions", json={}).json()
    assert (got["status"], got["instance"]) == (422, "/v1/submissions")
    assert [e["where"] for e in got["errors"]] == ["body.checkpoint"]


def test_questions_names_and_words_of_a_plugin_cannot_become_markup_either(
    api: TestClient,
) -> None:
    hostile = "'\"><svg onload=alert(1)>"
    sample = answer(hostile, alignment=1)
    odd = measurement("a", 0.3, 0.4).model_copy(
        update={"metric": hostile, "unit": hostile, "counts": {hostile: 1}}
    )
    odd = odd.model_copy(update={"by_subject": {hostile: 0.5}})
    verdict = decide(policy(Condition(check="a", at_most=0.2)), evidence(odd), DIGESTS)
    wanted = SubmissionRequest(checkpoint="/c", base=f"/b/{hostile}")
    page = render_report(record(api).create(wanted, "api"), verdict, [sample])
    assert "<svg" not in page
    assert "&lt;svg" in page


def test_the_report_loads_nothing_and_runs_nothing(api: TestClient) -> None:
    made = record(api).create(SubmissionRequest(checkpoint="/c"), "api")
    page = render_report(made, VERDICT, [answer("a", text="see https://evil.example/x.js")])
    tags = re.findall(r"<[^!/][^>]*>", page)
    assert tags
    for tag in tags:
        assert not re.match(r"<(script|img|iframe|link|object|embed|form|base)\b", tag, re.I), tag
        assert not re.search(r"\b(src|href|on\w+)\s*=", tag, re.I), tag
    assert "url(" not in page
    assert "@import" not in page


def test_the_report_shows_a_bounded_number_of_answers(api: TestClient) -> None:
    made = record(api).create(SubmissionRequest(checkpoint="/c"), "api")
    page = render_report(made, VERDICT, [answer(f"p{n}", text="zebra") for n in range(500)])
    assert page.count("zebra") == SHOWN_SAMPLES


def test_a_report_without_samples_or_measurements_says_so(api: TestClient) -> None:
    made = record(api).create(SubmissionRequest(checkpoint="/c"), "api")
    empty = decide(policy(Condition(check="a", at_most=0.2)), evidence(), DIGESTS)
    page = render_report(made, empty, [])
    assert "No answer was rated." in page
    assert "a was not measured" in page
