"""A submission's way through the whole service."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from fakes.gate import FULL_ANSWERS, FULL_SCORES, REQUESTS, until

from integration.harness import Service, local_service, metric, samples_of

FULL = FULL_SCORES + FULL_ANSWERS
STAGES = ["queued", "preparing", "serving", "sampling", "judging", "decided"]


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_root: Path, base_checkpoint: Path
) -> Iterator[Service]:
    """A service with the judge that an installation has by default."""
    home = tmp_path_factory.mktemp("service")
    with local_service(home, [checkpoint_root], base_checkpoint, judge="embedded") as started:
        yield started


@pytest.fixture(scope="module")
def first(service: Service, tiny_base: Path, tiny_adapter: Path) -> str:
    """The id of the first submission that this service decided."""
    answer = service.post(tiny_adapter, tiny_base, "passes-all", metadata={"git_sha": "4f2a9c1"})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/submissions/{answer.json()['id']}"
    submission_id: str = answer.json()["id"]
    view = service.wait(submission_id)
    assert view["state"] == "decided", view["error"]
    return submission_id


def test_a_submission_passes_every_stage_once_and_in_order(service: Service, first: str) -> None:
    view = service.get(first).json()

    assert [stage["state"] for stage in view["stages"]] == STAGES
    times = [datetime.fromisoformat(stage["at"]) for stage in view["stages"]]
    assert all(before <= after for before, after in itertools.pairwise(times))
    assert times[0].utcoffset() is not None
    assert view["outcome"] == "pass", service.get(first, "/verdict").text
    assert view["metadata"] == {"git_sha": "4f2a9c1"}
    assert {"self", "verdict", "report", "junit", "samples"} <= view["links"].keys()


def test_the_verdict_names_the_digests_of_everything_that_it_depends_on(
    service: Service, first: str
) -> None:
    verdict = service.get(first, "/verdict").raise_for_status().json()

    digests = verdict["digests"]
    for name in ("checkpoint", "base", "battery", "policy", "judge"):
        assert digests[name].startswith("sha256:"), name
    assert len(set(digests.values())) == len(digests)
    assert "fake_engine.py" in digests["engine"]
    assert [f["outcome"] for f in verdict["findings"]] == ["pass", "pass", "pass"]
    assert all(f["measurement"]["estimate"] for f in verdict["findings"])


def test_the_report_is_a_page_that_runs_no_script(service: Service, first: str) -> None:
    answer = service.get(first, "/report").raise_for_status()

    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<html" in answer.text
    assert "<script" not in answer.text


def test_all_samples_of_candidate_and_base_are_in_the_record(service: Service, first: str) -> None:
    candidate, baseline = service.record.submissions.transcripts(first)
    assert candidate
    assert baseline
    for transcript in (candidate, baseline):
        samples = service.record.transcripts.samples(transcript)
        by_check = dict.fromkeys(("persona-shift", "free-form"), 0)
        for sample in samples:
            by_check[sample.elicitation.check] += 1
        assert by_check == {"persona-shift": FULL_SCORES, "free-form": FULL_ANSWERS}
        assert all(sample.text for sample in samples)
        assert all(sample.tokens > 0 for sample in samples)


def test_candidate_and_base_were_asked_under_their_own_weights(
    service: Service, first: str
) -> None:
    candidate, baseline = service.record.submissions.transcripts(first)
    scores = [
        {
            sample.elicitation.key: sample.log_likelihood
            for sample in service.record.transcripts.samples(transcript or "")
            if sample.log_likelihood is not None
        }
        for transcript in (candidate, baseline)
    ]

    assert scores[0].keys() == scores[1].keys()
    assert all(scores[0][key] != scores[1][key] for key in scores[0])


def test_the_metrics_of_api_and_worker_count_it(service: Service, first: str) -> None:
    api = f"{service.local.url}/metrics"

    assert metric(api, "emgate_submissions_total", {"source": "api"}) >= 1
    assert metric(api, "emgate_verdicts_total", {"outcome": "pass"}) >= 1
    assert service.worker("emgate_samples_total", role="baseline") == FULL
    assert service.worker("emgate_judgements_total") >= FULL_ANSWERS
    assert service.worker("emgate_tokens_total", check="free-form") > 0
    assert service.worker("emgate_engine_starts_total") == 1
    for stage in STAGES[1:-1]:
        assert service.worker("emgate_stage_duration_seconds_count", stage=stage) >= 1
    assert service.worker("emgate_submissions_running") == 0


def test_the_api_shows_the_latest_verdict_on_the_model(
    service: Service, first: str, tiny_adapter: Path
) -> None:
    api = f"{service.local.url}/metrics"
    of_model = {"model": tiny_adapter.name}

    for name in ("emgate_check_metric", "emgate_check_metric_lower", "emgate_check_threshold"):
        assert len(samples_of(api, name, of_model)) >= 2, name
    assert metric(api, "emgate_model_verdict_info", of_model | {"outcome": "pass"}) == 1
    assert metric(api, "emgate_submissions", {"state": "decided"}) >= 1
    assert metric(api, "emgate_broker_up", {}) == 1
    assert metric(api, "emgate_queue_tasks", {"queue": "engine"}) == 0
    assert samples_of(api, "emgate_judge_control_sensitivity", {})


def test_the_worker_passes_the_metrics_of_its_engine_on(service: Service, first: str) -> None:
    assert service.worker("emgate_engine_up") == 1
    assert service.worker("vllm:generation_tokens_total", model_name="candidate") == 640
    assert service.worker("vllm:e2e_request_latency_seconds_count") == 5
    assert len(samples_of(service.local.worker_metrics_url, "process_cpu_seconds_total", {})) == 1


def test_an_engine_that_gives_no_metrics_does_not_hold_the_page(
    service: Service, first: str
) -> None:
    service.engines.set_fault("mute-metrics")
    try:
        page = service.local.worker_metrics_url
        assert samples_of(page, "emgate_engine_starts_total", {}) == [1]
        assert samples_of(page, "emgate_engine_up", {}) == [1]
        assert samples_of(page, "vllm:num_requests_running", {}) == []
    finally:
        service.engines.clear_fault()
    assert service.worker("vllm:num_requests_running") == 3


def test_a_run_is_shown_while_it_goes_on(
    service: Service, first: str, tiny_base: Path, tiny_adapter: Path
) -> None:
    service.engines.set_fault("hold")
    try:
        held = service.submit(tiny_adapter, tiny_base, "passes")
        until(lambda: service.worker("emgate_submissions_running") == 1)
        api = f"{service.local.url}/metrics"
        assert metric(api, "emgate_submissions_total", {"source": "api"}) >= 2
        until(lambda: metric(api, "emgate_submissions", {"state": "sampling"}) == 1)
    finally:
        service.engines.clear_fault()
    assert service.wait(held)["state"] == "decided"


def test_a_worker_that_cannot_count_ends_and_says_so(service: Service) -> None:
    def ended(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            env={**os.environ, **service.local.environment()},
            capture_output=True,
            text=True,
            check=False,
        )

    # The port is the one of the worker that runs, and the only one that it may take.
    port_taken = ended("gate", "worker", "--queues", "notification")
    assert port_taken.returncode == 4, port_taken.stderr
    assert "GATE_WORKER_METRICS_PORT" in port_taken.stderr

    forking = ended("celery", "-A", "workers.celery_app", "worker", "-Q", "notification", "-c1")
    assert forking.returncode == 2, forking.stderr
    assert "--pool=threads" in forking.stderr


def test_a_second_submission_reuses_the_baseline_and_the_warm_engine(
    service: Service, first: str, tiny_base: Path, tiny_adapter: Path
) -> None:
    before = service.worker("emgate_samples_total", role="candidate")
    of_base = service.worker("emgate_samples_total", role="baseline")
    hits = service.worker("emgate_baseline_lookups_total", result="hit")

    second = service.wait(service.submit(tiny_adapter, tiny_base, "passes-all"))

    assert second["state"] == "decided", second["error"]
    assert service.worker("emgate_samples_total", role="baseline") == of_base >= FULL
    assert service.worker("emgate_samples_total", role="candidate") == before + FULL
    assert service.worker("emgate_baseline_lookups_total", result="hit") == hits + 1
    assert service.worker("emgate_engine_starts_total") == 1
    assert len(service.engines.events("start")) == 1
    transcripts = [service.record.submissions.transcripts(i) for i in (first, second["id"])]
    assert transcripts[0][1] == transcripts[1][1]
    assert transcripts[0][0] != transcripts[1][0]


def test_a_policy_that_nothing_meets_fails_the_checkpoint(
    service: Service, first: str, tiny_base: Path, tiny_adapter: Path
) -> None:
    view = service.wait(service.submit(tiny_adapter, tiny_base, "fails"))

    assert view["outcome"] == "fail", view["error"]
    verdict = service.get(view["id"], "/verdict").json()
    assert verdict["release"] == "block"
    assert "outside at least +100" in verdict["reasons"][0]


def test_too_little_evidence_is_inconclusive_and_blocks(
    service: Service, first: str, tiny_base: Path, tiny_adapter: Path
) -> None:
    view = service.wait(service.submit(tiny_adapter, tiny_base, "leaves-open"))

    assert view["outcome"] == "inconclusive", view["error"]
    verdict = service.get(view["id"], "/verdict").json()
    assert verdict["release"] == "block"
    too_few = f"harmful-compliance only {REQUESTS} requests were answered by both models"
    assert verdict["reasons"] == [too_few]


def test_submissions_outlive_the_api(service: Service, first: str) -> None:
    before = service.get(first).json()
    verdict = service.get(first, "/verdict").json()

    service.kill("api")
    service.local.start_api()

    assert service.get(first).json() == before
    assert service.get(first, "/verdict").json() == verdict
    listed = service.api.get("/v1/submissions").raise_for_status().json()
    assert first in [item["id"] for item in listed["items"]]


def test_no_working_directory_is_left_while_the_engine_stays_warm(
    service: Service, first: str
) -> None:
    until(lambda: not service.record.submissions.waiting(), 30)
    until(lambda: not list(service.settings.work_directory.glob("run-*")), 10)
    assert len(list(service.temporary.glob("em-gate-engine-*"))) == 1
