"""Every metric: its name by Prometheus' conventions, its help, its labels, and its docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import gate.metrics
import gate.metrics.names_of_record  # noqa: F401  (both fill the catalogue)
from gate.metrics.catalogue import CATALOGUE, Described, Kind, Where
from gate.metrics.page import InstallationCollector, ProcessCollector, registry_of, render
from gate.metrics.table import BEGIN, END, inserted, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
#: Labels whose values are few: words of the code, or names that an operator or a file gives.
BOUNDED = {
    *("method", "route", "status", "reason", "sender", "result", "source", "state", "outcome"),
    *("stage", "role", "label", "kind", "currency", "scheme", "side", "measure", "queue"),
    *("directory", "check", "unit", "policy", "judge", "target"),
}
#: In the record bounded by GATE_METRICS_MODELS, which a test of the record holds.
OF_MODELS = {"model", "version", "submission"}
#: Of a process, which has one version.
OF_BUILD = {"version"}
#: Units that are not the base unit, and abbreviations of those that are.
WRONG_UNITS = {
    *("ms", "milliseconds", "sec", "secs", "minutes", "hours", "days", "s"),
    *("kb", "mb", "gb", "kilobytes", "megabytes", "mib", "gib", "percent", "percentage"),
}


@pytest.fixture(params=CATALOGUE, ids=lambda metric: metric.name)
def metric(request: pytest.FixtureRequest) -> Described:
    made: Described = request.param
    return made


def test_names_follow_the_conventions(metric: Described) -> None:
    assert re.fullmatch(r"emgate(_[a-z0-9]+)+", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert not set(metric.name.split("_")) & WRONG_UNITS
    if metric.kind is Kind.HISTOGRAM:
        assert metric.unit
    if "seconds" in metric.name or "bytes" in metric.name:
        assert metric.unit, "the unit comes last"
    if metric.name.endswith("_info"):
        assert metric.kind is Kind.GAUGE


def test_help_is_a_sentence(metric: Described) -> None:
    assert re.fullmatch(r"[A-Z0-9].*\.", metric.help)
    assert "|" not in metric.help, "it would break the table"


def test_no_label_can_have_any_number_of_values(metric: Described) -> None:
    more = {Where.RECORD: OF_MODELS, Where.BOTH: OF_BUILD}.get(metric.where, set())
    assert set(metric.labels) <= BOUNDED | more
    assert len(set(metric.labels)) == len(metric.labels)


def test_no_name_is_there_twice() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)


def test_all_metrics_of_this_process_are_described() -> None:
    described = {metric.family for metric in CATALOGUE}
    mine = {family.name for family in REGISTRY.collect() if family.name.startswith("emgate")}
    assert mine
    assert mine <= described


def test_a_page_has_nothing_of_the_other_kind_of_process(tmp_path: Path) -> None:
    api, worker = (
        render(registry_of(ProcessCollector(where), InstallationCollector(tmp_path))).decode()
        for where in (Where.API, Where.WORKER)
    )
    assert "emgate_http_requests_total" in api
    assert "emgate_engine_starts_total" not in api
    assert "emgate_submissions_running" not in api
    assert "emgate_engine_starts_total" in worker
    assert "emgate_http_requests_total" not in worker
    for page in (api, worker):
        assert re.search(r'^emgate_build_info\{version="[^"]+"\} 1\.0$', page, re.MULTILINE)
        assert re.search(r'^emgate_disk_free_bytes\{directory="home"\} \S+$', page, re.MULTILINE)
        assert "_created" not in page


def test_a_disk_that_cannot_be_asked_fails_no_page(tmp_path: Path) -> None:
    page = render(registry_of(InstallationCollector(tmp_path / "gone"))).decode()
    assert "emgate_build_info" in page
    assert "emgate_disk" not in page


def test_the_documentation_has_the_metrics_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table() in page, "run: make docs-tables"
    assert inserted(page) == page


def test_a_page_without_its_marks_is_not_written() -> None:
    assert inserted(f"a {BEGIN} old {END} b").startswith(f"a {BEGIN}\n\n### ")
    for page in ("", BEGIN, f"{END} {BEGIN}"):
        with pytest.raises(ValueError, match="make docs-tables"):
            inserted(page)
