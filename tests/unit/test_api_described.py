"""The API keeps to its own description: Schemathesis asks every operation, and finds nothing.

It asks whatever the application describes, so a route that is added is asked too. Where keys are
required, ``GATE_TEST_AUTHORIZATION`` holds the header's value.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from unit.api_client import Api, NamedJudge
from unit.builders import DIGESTS, answer, evidence, measurement, policy

from gate.policy import Condition
from gate.submission import State
from gate.verdict import decide

EXAMPLES = 15
CONFIG = {
    "seed": 4,
    "generation": {"deterministic": True},
    "checks": {
        # A request can be of the right form and still name a policy that is not there, a path
        # that is no directory, or a cursor that no list gave: 422, with a type that says which.
        # What is asked for may be in a state that forbids it, which is 409 in the defaults.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "401", "403", "404", "409", "422"]
        },
    },
}
VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)),
    evidence(measurement("a", 0.3, 0.4)),
    DIGESTS.model_copy(update={"checkpoint": "sha256:" + "a" * 64}),
)


@schemathesis.serializer(
    "application/x-tar", "application/gzip", "application/x-gzip", "application/zip"
)
def archive(_context: schemathesis.SerializationContext, value: object) -> bytes:
    """Bodies of uploads: bytes of any kind, which are no archive."""
    return value if isinstance(value, bytes) else str(value).encode()


class EndingQueue:
    """Ends what is submitted, as no worker is here: a listener would wait for ever."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def send(self, submission_id: str) -> bool:
        self._api.record.move(submission_id, State.CANCELLED)
        return True


def started() -> Api:
    """An API that the operations are read from while tests are collected."""
    home = tempfile.TemporaryDirectory(prefix="em-gate-described-")
    atexit.register(home.cleanup)
    made = Api(Path(home.name), events_poll_seconds=0.01)
    object.__setattr__(made.parts, "queue", EndingQueue(made))
    return made


API = started()
schema = schemathesis.openapi.from_asgi(
    "/openapi.json", API.app, config=schemathesis.Config.from_dict(CONFIG)
)


@pytest.fixture(scope="module")
def known() -> list[str]:
    """Submissions in every state that a request can meet, but for those that still run."""
    decided, failed, cancelled = API.create(), API.create(), API.create()
    API.give_samples(decided.id, [answer("p0"), answer("p1")], NamedJudge())
    API.record.conclude(decided.id, VERDICT)
    API.record.move(failed.id, State.FAILED, error="the engine died")
    API.record.move(cancelled.id, State.CANCELLED)
    return [decided.id, failed.id, cancelled.id]


def name_what_there_is(case: schemathesis.Case[Any], known: list[str]) -> None:
    """Let most requests name a submission, and a checkpoint, that is there: random ones are not."""
    asked = case.path_parameters.get("submission_id")
    if isinstance(asked, str):
        choice = crc32(asked.encode()) % (len(known) + 1)
        if choice < len(known):
            case.path_parameters["submission_id"] = known[choice]
    right = case.meta is not None and case.meta.generation.mode.is_positive
    creates = case.method == "POST" and case.path == "/v1/submissions"
    if right and creates and isinstance(case.body, dict) and crc32(str(case.body).encode()) % 3:
        case.body = {**case.body, **API.body(policy="default"), "base": None, "battery": None}


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_it_is_described(
    case: schemathesis.Case[Any], known: list[str]
) -> None:
    name_what_there_is(case, known)
    authorization = os.environ.get("GATE_TEST_AUTHORIZATION")
    case.call_and_validate(headers={"Authorization": authorization} if authorization else None)
