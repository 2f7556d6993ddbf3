"""The service over the API: what can be named, what is wrong, and what answers here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from unit.api_client import Api, problem

from gate.api import problems
from gate.policy import load_policy


@pytest.fixture
def api(tmp_path: Path) -> Api:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "broken.yaml").write_text("alpha: [")
    return Api(tmp_path, policy_directories=[policies], api_body_bytes=2000)


def test_the_root_says_what_answers_and_where_to_go(api: Api) -> None:
    got = api.get("/").json()
    assert (got["name"], got["version"]) == ("em-gate", version("em-gate"))
    for link in got["links"].values():
        assert api.get(link).status_code == 200, link


def test_policies_are_listed_and_a_broken_one_says_why(api: Api) -> None:
    items = {item["name"]: item for item in api.get("/v1/policies").json()["items"]}
    assert items["default"]["digest"] == load_policy("default").digest
    assert "broken.yaml" in items["broken"]["error"]


def test_a_policy_is_shown_whole(api: Api) -> None:
    got = api.get("/v1/policies/default").json()
    assert got["policy"] == load_policy("default").model_dump(mode="json")
    problem(api.get("/v1/policies/nope"), 404, "unknown-policy")
    problem(api.get("/v1/policies/..%2Fdefault"), 404, "not-found")
    problem(api.get("/v1/policies/broken"), 422, "policy-unusable")


def test_batteries_are_listed_and_described(api: Api) -> None:
    items = {item["name"]: item for item in api.get("/v1/batteries").json()["items"]}
    got = api.get("/v1/batteries/standard").json()
    assert got["digest"] == items["standard"]["digest"]
    assert [check["name"] for check in got["checks"]] == items["standard"]["checks"]
    problem(api.get("/v1/batteries/nope"), 404, "unknown-battery")


def test_an_unknown_route_is_a_problem(api: Api) -> None:
    assert problem(api.get("/v2/nope"), 404, "not-found")["instance"] == "/v2/nope"


def test_a_method_that_is_not_there_is_a_problem_that_names_those_that_are(api: Api) -> None:
    got = api.client.delete("/v1/submissions")
    problem(got, 405, "method-not-allowed")
    assert got.headers["allow"] == "GET, POST"


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    problem(api.submit(metadata={"a": "x" * 1000, "b": "x" * 1000}), 413, "content-too-large")
    assert api.ids() == []


def test_a_body_that_does_not_say_its_length_is_bounded_too(api: Api) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"checkpoint": "'
        for _ in range(100):
            yield b"x" * 100

    headers = {"content-type": "application/json"}
    answer = api.client.post("/v1/submissions", content=parts(), headers=headers)
    problem(answer, 413, "content-too-large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_refused(api: Api, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = api.client.post("/v1/submissions", content=b'{"checkpoint": "/c"}', headers=headers)
    problem(answer, 415, "unsupported-media-type")


def test_malformed_json_is_a_problem(api: Api) -> None:
    headers = {"content-type": "application/json"}
    answer = api.client.post("/v1/submissions", content=b'{"checkpoint": ', headers=headers)
    problem(answer, 400, "malformed-json")


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT secret", {}, Exception("could not connect to db.internal")),
        InterfaceError("SELECT secret", {}, Exception("connection already closed")),
        PoolTimeoutError("QueuePool limit"),
    ],
    ids=["away", "closed", "busy"],
)
def test_a_database_that_is_away_is_a_503_that_says_when_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(type(api.record), "page", away)
    monkeypatch.setattr(type(api.record), "create", away)
    for answer in (api.get("/v1/submissions"), api.submit()):
        problem(answer, 503, "database-unavailable")
        assert answer.headers["retry-after"] == "5"
        assert "secret" not in answer.text
        assert "internal" not in answer.text


def test_every_operation_documents_its_problems(api: Api) -> None:
    document = api.get("/openapi.json").json()
    assert "HTTPValidationError" not in str(document)
    for path in document["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert set(answer["content"]) == {"application/problem+json"}
            assert {"422", "500", "503"} <= set(operation["responses"])
    assert {"400", "413", "415"} <= set(document["paths"]["/v1/submissions"]["post"]["responses"])


def test_every_kind_of_problem_has_a_type_of_its_own_and_is_in_the_documentation() -> None:
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, problems.Kind)]
    assert len({kind.type for kind in kinds}) == len(kinds) > 10
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    for kind in kinds:
        assert f":{kind.type.rpartition(':')[2]}`" in page, kind
