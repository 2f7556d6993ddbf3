"""The id of a request: whose it is, and where it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gate.api.app import create_app
from gate.api.requests import request_id_of
from gate.settings import Settings


@pytest.fixture
def api(tmp_path: Path) -> TestClient:
    app = create_app(Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0"))

    @app.get("/broken")
    def broken() -> None:
        raise ValueError("broken")

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("given", ["a", "ci-42", "4bf92f35.77b3_4da6", "A" * 128])
def test_a_well_formed_id_is_kept(given: str) -> None:
    assert request_id_of(given) == given


@pytest.mark.parametrize(
    "given", [None, "", "-a", "a b", "a\nb", 'a"b', "a,b", "A" * 129, "ä", "a\x1b[2J"]
)
def test_any_other_is_replaced_by_a_new_one(given: str | None) -> None:
    first, second = request_id_of(given), request_id_of(given)
    assert first.startswith("req_")
    assert first != second


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health", 200), ("/v1/submissions/nope", 404), ("/v1/submissions?limit=x", 422)],
)
def test_every_answer_has_it(api: TestClient, path: str, status: int) -> None:
    answer = api.get(path, headers={"X-Request-ID": "ci-42"})
    assert answer.status_code == status
    assert answer.headers.get_list("X-Request-ID") == ["ci-42"]


def test_a_problem_names_it_also_where_the_gate_broke(api: TestClient) -> None:
    for path in ("/v1/submissions/nope", "/broken"):
        answer = api.get(path, headers={"X-Request-ID": "ci-42"})
        assert answer.json()["request_id"] == "ci-42"
        assert answer.headers.get_list("X-Request-ID") == ["ci-42"]


def test_what_is_refused_at_the_door_has_one_too(api: TestClient) -> None:
    answer = api.get("/v1/submissions", headers={"X-Forwarded-For": "10.0.0.1"})
    assert answer.status_code == 401
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["X-Request-ID"].startswith("req_")


def test_two_requests_have_two(api: TestClient) -> None:
    first, second = (api.get("/health").headers["X-Request-ID"] for _ in range(2))
    assert first != second
