"""A live API and worker: every line is JSON and carries its ids; one trace from POST to verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fakes.collector import Collector, Recorded, collector
from fakes.gate import environment_of, until

from gate.settings import Settings
from integration.harness import is_part, local_service

ALWAYS = {"timestamp", "level", "service", "logger", "event"}
REQUEST_ID = "ci-4f2a9c1"
SECRET = "tok3n"
#: The worker's stages, each of which is a span below the run.
STAGES = ["preparing", "serving", "sampling", "judging"]


@dataclass(frozen=True)
class Outcome:
    """What one submission left behind in a service that was stopped after it."""

    submission: str
    request_id: str
    api: list[dict[str, Any]]
    worker: list[dict[str, Any]]
    collector: Collector
    engine_requests: list[dict[str, Any]]

    def lines(self, where: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [line for line in where if line.get("submission") == self.submission]

    @property
    def trace_id(self) -> str:
        (post,) = [s for s in self.collector.spans() if s.name == "POST /v1/submissions"]
        return post.trace_id

    def spans(self) -> dict[str, Recorded]:
        """The last span of each name in the submission's trace."""
        return {span.name: span for span in self.collector.spans(self.trace_id)}


def records(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory,
    checkpoint_root: Path,
    base_checkpoint: Path,
    tiny_base: Path,
) -> Iterator[Outcome]:
    home = tmp_path_factory.mktemp("traced")
    with collector() as taken:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.endpoint)
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
            with local_service(home, [checkpoint_root], base_checkpoint) as service:
                answer = service.api.post(
                    f"/v1/submissions?key={SECRET}",
                    json={"checkpoint": str(tiny_base), "base": str(tiny_base), "policy": "passes"},
                    headers={"X-Request-ID": REQUEST_ID},
                )
                assert answer.status_code == 202, answer.text
                submission = answer.json()["id"]
                assert service.wait(submission)["state"] == "decided"
                terminate(service.local.children["worker"])
                asked = service.engines.events("answer") + service.engines.events("score")
        yield Outcome(
            submission,
            answer.headers["X-Request-ID"],
            records(service.local.logs / "api.log"),
            records(service.local.logs / "worker.log"),
            taken,
            asked,
        )


def terminate(keeper: subprocess.Popen[bytes]) -> None:
    """End what is kept as Docker and systemd do, so that it says what it says then."""
    (kept,) = [child for child in psutil.Process(keeper.pid).children() if is_part(child)]
    kept.send_signal(signal.SIGTERM)
    keeper.wait(30)


def test_every_line_of_both_processes_is_a_json_record(outcome: Outcome) -> None:
    for service, lines in (("emgate-api", outcome.api), ("emgate-worker", outcome.worker)):
        assert lines
        assert all(line.keys() >= ALWAYS for line in lines)
        assert {line["service"] for line in lines} == {service}


def test_the_lines_of_a_submission_carry_its_id_in_api_and_worker(outcome: Outcome) -> None:
    ours = outcome.lines(outcome.api)
    assert "POST /v1/submissions 202" in [line["event"] for line in ours]
    assert {line["request"] for line in ours if "POST" in line["event"]} == {REQUEST_ID}

    told = outcome.lines(outcome.worker)
    assert any("the verdict is pass" in line["event"] for line in told)
    run = [line for line in told if line["logger"] == "workers.run"]
    assert all(line["attempt"] == 1 and line["worker"] for line in run)
    assert [line["state"] for line in run if "state" in line] == STAGES


def test_the_engine_s_lines_carry_the_submission_that_it_ran(outcome: Outcome) -> None:
    lines = [line for line in outcome.worker if line["logger"] == "workers.engine.log"]
    assert any("the fake engine serves" in line["event"] for line in lines)
    served = [line for line in lines if "serves" in line["event"]]
    assert {line["submission"] for line in served} == {outcome.submission}
    assert {line["trace_id"] for line in served} == {outcome.trace_id}


def test_the_engine_is_told_the_submission_and_the_trace_with_every_request(
    outcome: Outcome,
) -> None:
    asked = [event["headers"] for event in outcome.engine_requests]
    assert asked
    ids = [headers["x-request-id"] for headers in asked]
    assert all(i.startswith(f"{outcome.submission}-") for i in ids)
    assert len(set(ids)) == len(ids)
    assert {headers["traceparent"].split("-")[1] for headers in asked} == {outcome.trace_id}


def test_the_caller_s_request_id_comes_back(outcome: Outcome) -> None:
    assert outcome.request_id == REQUEST_ID


def test_api_task_stages_and_engine_requests_share_one_trace(outcome: Outcome) -> None:
    spans = outcome.spans()
    by_id = {span.span_id: span for span in outcome.collector.spans(outcome.trace_id)}

    def above(span: Recorded) -> list[str]:
        names = []
        while span.parent_id:
            span = by_id[span.parent_id]
            names.append(span.name)
        return names

    task = ["run/workers.judge_submission", "apply_async/workers.judge_submission"]
    assert spans["POST /v1/submissions"].service == "emgate-api"
    assert above(spans["run"]) == [*task, "POST /v1/submissions"]
    for stage in STAGES:
        assert spans[stage].service == "emgate-worker"
        assert above(spans[stage])[0] == "run"
    assert above(spans["deciding"])[0] == "run"
    answers = [
        span
        for span in by_id.values()
        if span.attributes.get("http.url") == "http://engine/v1/chat/completions"
    ]
    assert answers
    assert all("sampling" in above(span) for span in answers)
    assert any(span.attributes.get("db.system") == "sqlite" for span in by_id.values())


def test_the_run_s_span_says_what_was_run_and_how_it_ended(outcome: Outcome) -> None:
    said = outcome.spans()["run"].attributes
    assert said["emgate.submission"] == outcome.submission
    assert said["emgate.policy"] == "passes"
    assert said["emgate.attempt"] == 1
    assert said["emgate.checkpoint"].startswith("sha256:")
    assert said["emgate.outcome"] == "pass"


def test_the_trace_id_stands_in_the_lines(outcome: Outcome) -> None:
    for lines in (outcome.api, outcome.worker):
        ours = outcome.lines(lines)
        ids = {line["trace_id"] for line in ours if "GET" not in line["event"]}
        assert ids == {outcome.trace_id}
    known = {span.span_id for span in outcome.collector.spans(outcome.trace_id)}
    stages = [line for line in outcome.worker if line["logger"] == "workers.run"]
    assert {line["span_id"] for line in stages} <= known


def test_what_workers_look_for_again_and_again_makes_no_traces(outcome: Outcome) -> None:
    roots = {span.name for span in outcome.collector.spans() if not span.parent_id}
    assert all(name.startswith(("GET", "POST", "apply_async")) for name in roots), roots
    assert not any("health" in name or "metrics" in name for name in roots)


def test_no_query_no_prompt_and_no_answer_is_in_a_line_or_a_span(outcome: Outcome) -> None:
    told = json.dumps(outcome.api + outcome.worker)
    told += "".join(str(span.span) for span in outcome.collector.spans())
    assert SECRET not in told
    questions = [event["question"] for event in outcome.engine_requests if "question" in event]
    assert questions
    assert not any(question in told for question in questions)


def emgate(code: str, settings: Settings, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment_of(settings), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


OFF = """
import sys
from gate.tracing import start_traces
start_traces("emgate-test")
import gate.api.app, gate.logs, workers.celery_app
# The metrics of OpenTelemetry are imported by the client of Redis, if they are installed.
recording = (
    "opentelemetry.instrumentation", "opentelemetry.sdk.trace", "gate.opentelemetry_traces"
)
print([name for name in sys.modules if name.startswith(recording)])
"""


def test_while_traces_are_off_nothing_that_records_them_is_imported(
    isolated_settings: Settings,
) -> None:
    assert emgate(OFF, isolated_settings).stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_traces_without_the_packages_are_refused_in_one_sentence(
    isolated_settings: Settings, command: str
) -> None:
    without = f"""
import sys
sys.modules["opentelemetry.instrumentation.celery"] = None
sys.argv = ["emgate", {command!r}]
from gate.cli.app import main
main()
"""
    endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}
    done = emgate(without, isolated_settings, **endpoint)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        "emgate: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, but opentelemetry.instrumentation."
        "celery is not installed: install em-gate[tracing], or set OTEL_SDK_DISABLED=true"
    )


BROKEN = """
import sys
import gate.api.app
make = gate.api.app.create_app
def create_app(settings):
    app = make(settings)
    @app.get("/broken")
    def broken():
        raise ValueError("line one\\nline two")
    return app
gate.api.app.create_app = create_app
sys.argv = ["emgate", "serve", "--port", PORT]
from gate.cli.app import main
main()
"""


def test_an_error_that_nobody_handled_is_one_line_with_its_traceback(
    isolated_settings: Settings, tmp_path: Path, free_port: int
) -> None:
    log = tmp_path / "api.log"
    code = BROKEN.replace("PORT", repr(str(free_port)))
    with log.open("wb") as stream:
        api = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **environment_of(isolated_settings)},
            stdout=stream,
            stderr=stream,
        )
    try:
        url = f"http://127.0.0.1:{free_port}"
        until(lambda: answers(url) or api.poll() is not None)
        answer = httpx.get(f"{url}/broken", headers={"X-Request-ID": "not well formed"})
    finally:
        api.terminate()
        api.wait(30)
    (told,) = [line for line in records(log) if "exception" in line]
    assert answer.status_code == 500
    assert told["request"] == answer.headers["X-Request-ID"] == answer.json()["request_id"]
    assert told["request"].startswith("req_")
    assert told["exception"][0]["exc_value"] == "line one\nline two"
    assert told["exception"][0]["frames"][-1]["name"] == "broken"


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
