"""The metrics that are read from the record: their values, their bounds, and what fails none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError
from unit.builders import (
    DIGESTS,
    GOOD_CONTROLS,
    evidence,
    judge_record,
    measurement,
    policy,
)

from checks.judge_errors import JudgeErrors
from gate.hooks.config import Hooks
from gate.inconclusive import Doubt
from gate.judge_record import JudgeRecord
from gate.metrics.page import registry_of, render
from gate.metrics.reading_record import RecordCollector, readers
from gate.model_name import LONGEST, model_name, model_version
from gate.policy import Condition
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.submissions import COMMAND_LINE, SubmissionRecord
from gate.store.tables import SubmissionRow
from gate.store.verdict_summary import LAST_RUNS
from gate.submission import State, SubmissionRequest
from gate.verdict import Verdict, decide

STRICT = policy(Condition(check="a", at_most=0.2), name="strict")
PASS = decide(STRICT, evidence(measurement("a", 0.0, 0.1)), DIGESTS)
FAIL = decide(STRICT, evidence(measurement("a", 0.5, 0.9)), DIGESTS)
CROSSES = decide(STRICT, evidence(measurement("a", 0.1, 0.3)), DIGESTS)
BAD_JUDGE = judge_record(calibrated=JudgeErrors(found=1, misaligned=100, cleared=1, aligned=100))
NOT_TRUSTED = decide(
    STRICT, evidence(measurement("a", 0.0, 0.1, judged=True), judge=BAD_JUDGE), DIGESTS
)
LITTLE = decide(STRICT, evidence(measurement("a", 0.0, 0.1, estimate=None)), DIGESTS)
NOT_MEASURED = decide(STRICT, evidence(), DIGESTS)


class Page:
    """A scraped page, read as Prometheus reads it."""

    def __init__(self, content: bytes) -> None:
        self.text = content.decode()
        self.samples = [
            sample
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float | None:
        found = [s.value for s in self.samples if s.name == name and s.labels == labels]
        assert len(found) <= 1, f"{name} {labels} is there {len(found)} times"
        return found[0] if found else None

    def label(self, name: str, label: str) -> list[str]:
        return [sample.labels[label] for sample in self.samples if sample.name == name]


@dataclass
class Gate:
    """A record in a file, and API processes that show its metrics."""

    settings: Settings
    submissions: SubmissionRecord = field(init=False)

    def __post_init__(self) -> None:
        self.database = open_database(self.settings.database)
        self.submissions = SubmissionRecord(self.database)
        self.scrape = self.process()

    def process(self) -> Callable[[], Page]:
        """Another process on the same record; scrape it by calling it."""
        database = open_database(self.settings.database)
        registry = registry_of(RecordCollector(readers(database, self.settings, Hooks())))
        return lambda: Page(render(registry))

    def submit(self, checkpoint: str = "/c", source: str = "api", **metadata: str) -> str:
        wanted = SubmissionRequest(checkpoint=checkpoint, policy="strict", metadata=metadata)
        return self.submissions.create(wanted, source).id

    def decide(self, verdict: Verdict, checkpoint: str = "/c", **metadata: str) -> str:
        made = self.submit(checkpoint, **metadata)
        assert self.submissions.conclude(made, verdict)
        return made


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'record.db'}"


@pytest.fixture
def gate(tmp_path: Path, url: str) -> Gate:
    return Gate(Settings(home=tmp_path, database_url=url, metrics_models=3))


def test_submissions_are_counted_by_source_and_by_state(gate: Gate) -> None:
    gate.submit()
    gate.submit(source="github")
    gate.submissions.move(gate.submit(), State.SAMPLING)
    gate.submissions.move(gate.submit(), State.CANCELLED)

    page = gate.scrape()

    assert page("emgate_submissions_total", source="api") == 3
    assert page("emgate_submissions_total", source="github") == 1
    assert page("emgate_submissions", state="queued") == 2
    assert page("emgate_submissions", state="sampling") == 1
    assert page("emgate_submissions", state="cancelled") == 1
    assert sorted(page.label("emgate_submissions", "state")) == sorted(State)


def test_the_oldest_that_waits_is_one_that_a_worker_could_take(gate: Gate) -> None:
    age = "emgate_submissions_oldest_waiting_seconds"
    assert gate.scrape()(age) == 0
    gate.submit(source=COMMAND_LINE)
    assert gate.submissions.acquire(gate.submit(), "a worker", 60)
    gate.submissions.postpone(gate.submit(), 60)
    assert gate.scrape()(age) == 0

    waits, resumed = gate.submit(), gate.submit()
    gate.submissions.move(resumed, State.SAMPLING)
    with gate.database.begin() as connection:
        for made, minutes in ((waits, 10), (resumed, 20)):
            at = datetime.now(UTC) - timedelta(minutes=minutes)
            connection.execute(
                update(SubmissionRow).where(SubmissionRow.id == made).values(created_at=at)
            )
    assert gate.scrape()(age) == pytest.approx(1200, abs=60)


def test_verdicts_are_counted_by_policy_and_outcome(gate: Gate) -> None:
    for verdict in (PASS, PASS, FAIL, CROSSES):
        gate.decide(verdict)

    page = gate.scrape()

    for outcome, count in (("pass", 2), ("fail", 1), ("inconclusive", 1)):
        assert page("emgate_verdicts_total", policy="strict", outcome=outcome) == count


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (CROSSES, Doubt.CROSSES),
        (LITTLE, Doubt.LITTLE_EVIDENCE),
        (NOT_TRUSTED, Doubt.NOT_TRUSTED),
        (NOT_MEASURED, Doubt.NOT_MEASURED),
    ],
)
def test_an_inconclusive_verdict_counts_under_why(gate: Gate, verdict: Verdict, why: Doubt) -> None:
    gate.decide(verdict)
    page = gate.scrape()
    counted = {doubt: page("emgate_inconclusive_total", reason=doubt.value) for doubt in Doubt}
    assert counted == dict.fromkeys(Doubt, 0) | {why: 1}


def test_a_verdict_counts_under_each_of_its_reasons_once(gate: Gate) -> None:
    open_twice = policy(
        Condition(check="a", at_most=0.2),
        Condition(check="b", at_most=0.2),
        Condition(check="c", at_most=0.2),
        Condition(check="aside", at_most=0.2, required=False),
    )
    gate.decide(
        decide(open_twice, evidence(measurement("a", 0, 1), measurement("b", 0, 1)), DIGESTS)
    )
    page = gate.scrape()
    assert page("emgate_inconclusive_total", reason="interval crosses threshold") == 1
    assert page("emgate_inconclusive_total", reason="not measured") == 1


def test_the_latest_verdict_on_a_model_is_shown_with_its_bounds_and_thresholds(gate: Gate) -> None:
    both = policy(Condition(check="a", at_most=0.2), Condition(check="b", at_least=-1.0))
    first = evidence(measurement("a", 0, 1), measurement("b", 0, 1))
    gate.decide(decide(both, first, DIGESTS), "/models/chat")
    second = evidence(
        measurement("a", 0.5, 0.9, 0.6, unit="share"), measurement("b", 0, 1, estimate=None)
    )
    newest = gate.decide(decide(both, second, DIGESTS), "/models/chat/", version="v2")

    page = gate.scrape()

    a = {"model": "chat", "check": "a", "unit": "share"}
    assert page("emgate_check_metric", **a) == 0.6
    assert page("emgate_check_metric_lower", **a) == 0.5
    assert page("emgate_check_metric_upper", **a) == 0.9
    assert page("emgate_check_threshold", **a, side="at_most") == 0.2
    assert page("emgate_check_threshold", model="chat", check="b", unit="u", side="at_least") == -1
    assert page.label("emgate_check_metric", "check") == ["a"]
    labels = {"model": "chat", "version": "v2", "policy": "strict", "outcome": "fail"}
    assert page("emgate_model_verdict_info", **labels, submission=newest) == 1
    given_at = page("emgate_model_verdict_timestamp_seconds", model="chat")
    assert given_at == pytest.approx(datetime.now(UTC).timestamp(), abs=60)


def test_only_the_models_with_the_newest_verdicts_are_shown(gate: Gate) -> None:
    for name in ("one", "two", "three", "four", "five"):
        gate.decide(PASS, f"/{name}")
    assert gate.scrape().label("emgate_model_verdict_info", "model") == ["five", "four", "three"]

    gate.decide(FAIL, "/one")

    page = gate.scrape()
    assert page.label("emgate_model_verdict_info", "model") == ["five", "four", "one"]
    assert page.label("emgate_check_metric", "model") == ["five", "four", "one"]


def test_every_process_shows_the_same_whenever_it_started(gate: Gate) -> None:
    early = gate.process()
    gate.decide(PASS, "/one")
    early()
    for name, verdict in (("two", FAIL), ("three", CROSSES), ("one", FAIL), ("four", LITTLE)):
        gate.decide(verdict, f"/{name}")
        early()
    late = gate.process()

    assert late().text == early().text
    assert early()("emgate_verdicts_total", policy="strict", outcome="fail") == 2


def test_a_verdict_is_read_once_in_the_life_of_a_process(gate: Gate) -> None:
    for _ in range(3):
        gate.decide(CROSSES)
    registry = registry_of(RecordCollector(readers(gate.database, gate.settings, Hooks())))
    before = render(registry)
    statements: list[str] = []

    @event.listens_for(gate.database, "before_cursor_execute")
    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    assert render(registry) == before
    assert statements
    assert not any("document" in statement for statement in statements)


def test_a_scrape_reads_no_whole_table_of_submissions_or_deliveries(gate: Gate) -> None:
    asked: list[tuple[str, Any]] = []

    @event.listens_for(gate.database, "before_cursor_execute")
    def note(*arguments: Any) -> None:
        asked.append((arguments[2], arguments[3]))

    render(registry_of(RecordCollector(readers(gate.database, gate.settings, Hooks()))))
    seen = list(asked)

    with gate.database.connect() as connection:
        steps = [
            row[3]
            for statement, parameters in seen
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert any("submissions_by_source" in step for step in steps)
    scans = [step for step in steps if step.startswith("SCAN") and "COVERING INDEX" not in step]
    # Of the small tables only.
    assert {step.split()[1] for step in scans} <= {"waivers", "verdicts"}


@pytest.mark.parametrize(
    "name",
    ['a"b', "a\\b", "two\nlines", "tab\there", 'x"} 1\nevil{a="', "\u202egnp.exe", "é" * 300],
)
def test_a_name_of_any_content_stays_one_label(gate: Gate, name: str) -> None:
    gate.decide(PASS, model=name, version=name)

    page = gate.scrape()

    (shown,) = page.label("emgate_model_verdict_info", "model")
    assert shown
    assert len(shown) <= LONGEST
    assert shown.isprintable()
    assert page("emgate_model_verdict_timestamp_seconds", model=shown) is not None
    assert page("emgate_record_up") == 1


@pytest.mark.parametrize(
    ("checkpoint", "metadata", "name"),
    [
        ("/checkpoints/my-tune", {}, "my-tune"),
        ("/checkpoints/my-tune/", {}, "my-tune"),
        ("hf://org/model@main", {}, "model"),
        ("hf://org/model@feature/one", {}, "model"),
        ("s3://bucket/runs/step@5", {}, "step@5"),
        ("upload://sha256:0a1b", {}, "sha256:0a1b"),
        ("/c", {"model": "support-bot"}, "support-bot"),
        ("/c", {"model": "  "}, "c"),
        ("/", {}, "unnamed"),
        ("/" + "x" * 300, {}, "x" * 100),
    ],
)
def test_the_name_of_a_model(checkpoint: str, metadata: dict[str, str], name: str) -> None:
    assert model_name(checkpoint, metadata) == name


def test_the_version_is_what_the_submitter_says_or_the_content() -> None:
    assert model_version("sha256:0123456789abcdef", {}) == "0123456789ab"
    assert model_version("sha256:0123456789abcdef", {"version": "2.1"}) == "2.1"


def _judged(record: JudgeRecord) -> Verdict:
    return decide(STRICT, evidence(measurement("a", 0, 0.1), judge=record), DIGESTS)


def test_the_controls_of_a_judge_are_pooled_over_its_last_verdicts(gate: Gate) -> None:
    missed = JudgeErrors(found=0, misaligned=20, cleared=10, aligned=20)
    gate.decide(_judged(judge_record(controls=missed)))
    page = gate.scrape()
    assert page("emgate_judge_control_sensitivity", judge="fixed") == 0
    assert page("emgate_judge_control_specificity", judge="fixed") == 0.5
    assert page("emgate_judge_control_accuracy", judge="fixed") == 0.25
    assert page("emgate_judge_disagreement", judge="fixed") is None

    gate.decide(_judged(judge_record()))
    page = gate.scrape()
    assert page("emgate_judge_control_sensitivity", judge="fixed") == 19 / 40
    assert page("emgate_judge_control_specificity", judge="fixed") == 30 / 40

    for _ in range(LAST_RUNS - 1):
        gate.decide(_judged(judge_record()))
    page = gate.scrape()
    assert page("emgate_judge_control_sensitivity", judge="fixed") == GOOD_CONTROLS.sensitivity
    assert page("emgate_judge_control_specificity", judge="fixed") == GOOD_CONTROLS.specificity


def test_a_verdict_that_stands_for_another_submission_is_no_second_run(gate: Gate) -> None:
    missed = JudgeErrors(found=0, misaligned=20, cleared=20, aligned=20)
    first = gate.decide(_judged(judge_record(controls=missed)))
    gate.decide(_judged(judge_record()))
    again = _judged(judge_record(controls=missed))
    for _ in range(3):
        gate.submissions.conclude(gate.submit(), again, standing_since=first)

    page = gate.scrape()

    assert page("emgate_judge_control_sensitivity", judge="fixed") == 19 / 40
    assert page("emgate_verdicts_total", policy="strict", outcome="pass") == 5


def test_disagreement_is_the_mean_over_the_verdicts_that_have_one(gate: Gate) -> None:
    for disagreement in (0.1, None, 0.3):
        record = judge_record().model_copy(update={"disagreement": disagreement})
        gate.decide(_judged(record))
    assert gate.scrape()("emgate_judge_disagreement", judge="fixed") == pytest.approx(0.2)


def test_the_floors_of_all_policies_that_can_be_loaded_are_shown(tmp_path: Path) -> None:
    house, broken = tmp_path / "house.yaml", tmp_path / "broken.yaml"
    house.write_text(
        "{name: house, version: 1, alpha: 0.05, judge: {sensitivity: 0.75},"
        " conditions: [{check: a, at_most: 1}]}"
    )
    broken.write_text("no policy")
    gate = Gate(Settings(home=tmp_path, policy_directories=[tmp_path]))

    page = gate.scrape()

    assert page("emgate_policy_judge_floor", policy="house", measure="sensitivity") == 0.75
    assert page("emgate_policy_judge_floor", policy="house", measure="specificity") == 0.8
    shown = set(page.label("emgate_policy_judge_floor", "policy"))
    assert "default" in shown
    assert "broken" not in shown
    assert page("emgate_record_up") == 1


def test_what_can_be_read_is_shown_where_another_part_cannot(gate: Gate) -> None:
    assert gate.scrape()("emgate_record_up") == 1
    with gate.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE waivers")

    page = gate.scrape()

    assert page("emgate_record_up") == 0
    assert page("emgate_submissions", state="queued") == 0


def _scrape(collector: RecordCollector) -> Page:
    return Page(render(registry_of(collector)))


def test_a_part_that_breaks_in_any_way_fails_no_scrape() -> None:
    def away() -> Iterator[Metric]:
        raise OperationalError("SELECT 1", {}, ConnectionError("refused"))

    def broken() -> Iterator[Metric]:
        raise KeyError("a bug")

    assert _scrape(RecordCollector({"away": away}))("emgate_record_up") == 0
    assert _scrape(RecordCollector({"broken": broken}))("emgate_record_up") == 0
    assert _scrape(RecordCollector({}))("emgate_record_up") == 1


def test_a_database_that_does_not_answer_holds_no_scrape_and_is_asked_once() -> None:
    answers, began = threading.Event(), []

    def hangs() -> list[Metric]:
        began.append(threading.current_thread())
        answers.wait(60)
        return []

    collector = RecordCollector({"hangs": hangs}, seconds=0.05)
    for _ in range(3):
        assert _scrape(collector)("emgate_record_up") == 0
    assert len(began) == 1

    answers.set()
    began[0].join()
    assert _scrape(collector)("emgate_record_up") == 1
