"""Every query of the dashboards finds data in a real Prometheus that scraped a gate with traffic.

The gate is real, with several processes and a fake engine behind it; see ``traffic.py``.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from fakes.fake_judge import FakeJudge
from fakes.gate import until
from fakes.hooks import SIGNING_SECRET
from fakes.receiver import Reply, receiving
from grafana import BOARDS, asked_of, filled, used
from prometheus import Prometheus, prometheus

from deploy.grafana.boards.links import OF_SERIES
from deploy.grafana.boards.reading import Board, panels, variables
from integration.harness import MISALIGNED_GOLD, Service, local_service
from integration.traffic import MODEL, Traffic, write_hooks, write_judges

TARGETS = 3
STEP_SECONDS = 2
#: What Grafana would set for a dashboard of some minutes; long enough for some scrapes.
STRETCH_SECONDS = 5
BUILT_IN = {"__interval": f"{STRETCH_SECONDS}s", "__rate_interval": "10s", "__range": "10m"}

#: What a panel colours if it is ever there, and what no request of these tests brings about.
RARE = {"/^5/"}
NAMES = list(BOARDS)
PANELS = [
    pytest.param(name, panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in panels(board)
]
EVENTS = [
    pytest.param(name, event, id=f"{name}: {event['name']}")
    for name, board in BOARDS.items()
    for event in board["annotations"]["list"]
]


@dataclass(frozen=True)
class Watched:
    """A gate with some history, and the Prometheus that watched it from the beginning."""

    service: Service
    prometheus: Prometheus
    begun: float
    ended: float

    def series(self, expr: str, instant: bool) -> list[dict[str, Any]]:
        """The series of a query that have a value, as Grafana would get them."""
        if instant:
            found = self.prometheus.ask("query", query=expr, time=self.ended)["result"]
            return [one for one in found if not math.isnan(float(one["value"][1]))]
        span = {"start": self.begun, "end": self.ended, "step": STEP_SECONDS}
        found = self.prometheus.ask("query_range", query=expr, **span)["result"]
        return [one for one in found if any(v != "NaN" for _, v in one["values"])]

    def choices(self, board: Board, text: str) -> Iterator[dict[str, str]]:
        """Every choice of the variables in a text that a reader can make, one value at a time.

        Where all values can be chosen and no panel is repeated for each, all are chosen.
        """
        repeated = {panel["repeat"] for panel in panels(board) if "repeat" in panel}
        choices = [dict(BUILT_IN)]
        for name, variable in variables(board).items():
            if variable["type"] != "query" or name not in used(text):
                continue
            if variable["includeAll"] and name not in repeated:
                choices = [{**chosen, name: variable["allValue"]} for chosen in choices]
            else:
                choices = [
                    {**chosen, name: value}
                    for chosen in choices
                    for value in self.values(variable, chosen)
                ]
        return iter(choices)

    def values(self, variable: Board, chosen: dict[str, str]) -> list[str]:
        """What a variable offers, given the choices before it."""
        series, label = asked_of(variable)
        return self.prometheus.label_values(filled(series, {"policy": ".*", **chosen}), label)


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory,
    checkpoint_root: Path,
    base_checkpoint: Path,
    tiny_base: Path,
    tiny_adapter: Path,
) -> Iterator[Watched]:
    empty = checkpoint_root / "empty"
    empty.mkdir()
    home = tmp_path_factory.mktemp("watched")
    with (
        pytest.MonkeyPatch.context() as patch,
        FakeJudge(harmful=MISALIGNED_GOLD) as judge,
        receiving() as well,
        receiving(lambda _request: Reply(500)) as broken,
    ):
        patch.setenv("T_SIGNING", SIGNING_SECRET)
        receivers = {"bot": well.url, "broken": broken.url}
        changes: dict[str, Any] = {
            "judge": str(write_judges(home / "judges", judge.url)),
            "hooks_file": write_hooks(home / "hooks.yaml", tiny_base, receivers),
            "notify_schedule": [0.1],
            "notify_sweep_seconds": 0.2,
        }
        roots = [checkpoint_root]
        with local_service(home, roots, base_checkpoint, notifier=True, **changes) as service:
            jobs = {
                "emgate-api": [_address(service.local.url)],
                "emgate-worker": [
                    _address(service.local.worker_metrics_url),
                    _address(service.local.metrics_url("notifier")),
                ],
            }
            with prometheus(home / "prometheus", jobs) as server:
                begun = time.time()
                server.wait_for_scrapes(TARGETS)
                traffic = Traffic(service, tiny_base, tiny_adapter, empty)
                for part in (traffic.first, traffic.second, traffic.third):
                    part()
                    server.wait_for_scrapes(TARGETS)
                until(lambda: server.now('emgate_deliveries{target="broken", state="dead"} > 0'))
                server.wait_for_scrapes(TARGETS)
                # So late that a stretch of time ends after the last scrape; until then its values
                # are the latest.
                yield Watched(service, server, begun, time.time() + STRETCH_SECONDS)


def _address(url: str) -> str:
    return url.removeprefix("http://").removesuffix("/metrics")


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_every_query_of_a_panel_returns_data(watched: Watched, name: str, panel: Board) -> None:
    columns: set[str] = set()
    names: set[str] = set()
    for target in panel["targets"]:
        for values in watched.choices(BOARDS[name], target["expr"]):
            expr = filled(target["expr"], values)
            found = watched.series(expr, target["instant"])
            assert found, f"no data: {expr}"
            assert_selected(watched, expr)
            columns |= {label for one in found for label in one["metric"]}
            names |= {legend(target["legendFormat"], one["metric"]) for one in found}
    assert labels_shown(panel) <= columns
    if panel["type"] == "table":
        names = renamed(panel, columns)
        assert sorted_by(panel) <= names
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]["options"]
        assert matcher in RARE or any(matches(matcher, name) for name in names), matcher


@pytest.mark.parametrize(("name", "event"), EVENTS)
def test_every_annotation_marks_something(watched: Watched, name: str, event: Board) -> None:
    found = [
        one
        for values in watched.choices(BOARDS[name], event["expr"])
        for one in watched.series(filled(event["expr"], values), instant=False)
    ]
    assert found
    shown = set(re.findall(r"{{(\w+)}}", event["titleFormat"] + event["textFormat"]))
    assert all(shown <= one["metric"].keys() for one in found)
    if event["useValueForTime"]:
        times = [float(value) / 1000 for one in found for _, value in one["values"]]
        assert all(watched.begun < at < watched.ended for at in times)


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_offers_values(watched: Watched, name: str) -> None:
    for variable in variables(BOARDS[name]).values():
        if variable["type"] == "query":
            choices = list(watched.choices(BOARDS[name], variable["query"]))
            assert any(watched.values(variable, chosen) for chosen in choices), variable["name"]


def test_verdicts_on_two_versions_of_a_model_are_two_lines(watched: Watched) -> None:
    trend = next(p for p in panels(BOARDS["releases"]) if p.get("repeat") == "check")
    expr = filled(trend["targets"][-1]["expr"], {"model": MODEL, "check": "free-form"})
    versions = [one["metric"]["version"] for one in watched.series(expr, instant=False)]
    assert sorted(set(versions)) == ["v1", "v2"]


def test_a_chosen_policy_leaves_only_models_under_it(watched: Watched) -> None:
    named = "Latest verdict of each model"
    table = next(p for p in panels(BOARDS["releases"]) if p["title"] == named)
    for policy in ("passes-all", "fails", "leaves-open"):
        expr = filled(table["targets"][0]["expr"], {"policy": policy})
        found = watched.series(expr, instant=True)
        assert {one["metric"]["policy"] for one in found} == {policy}


def test_the_links_of_a_panel_lead_to_reports(watched: Watched) -> None:
    linked = [
        target["expr"]
        for panel in panels(BOARDS["releases"])
        if OF_SERIES in json.dumps(panel)
        for target in panel["targets"]
    ]
    chosen = [filled(expr, {"model": MODEL, "check": "free-form"}) for expr in linked]
    found = [one["metric"] for expr in chosen for one in watched.series(expr, instant=False)]
    submissions = {labels["submission"] for labels in found if "submission" in labels}
    assert submissions
    for submission in submissions:
        values = {"gate": watched.service.local.url, "__field": submission}
        report = watched.service.api.get(filled(OF_SERIES, values))
        assert report.status_code == 200
        assert submission in report.text


def test_the_table_of_verdicts_says_what_the_record_says(watched: Watched) -> None:
    table = next(
        p for p in panels(BOARDS["releases"]) if p["title"] == "Latest verdict of each model"
    )
    found = watched.series(filled(table["targets"][0]["expr"], {"policy": ".*"}), instant=True)
    shown = {one["metric"]["submission"]: one["metric"]["outcome"] for one in found}
    outcomes = {each: watched.service.get(each).json()["outcome"] for each in shown}
    assert shown == outcomes
    assert set(outcomes.values()) == {"pass", "fail", "inconclusive"}


def assert_selected(watched: Watched, expr: str) -> None:
    """Every selector in a query finds series, also where the query has a value without it."""
    found: list[Any] = []

    def note(part: Any) -> None:
        if isinstance(part, promql.VectorSelector):
            found.append(part.prettify())

    promql.walk(promql.parse(expr), note)
    for selector in set(found):
        assert watched.prometheus.label_values(selector, "__name__"), f"no series: {selector}"


def labels_shown(panel: Board) -> set[str]:
    """The labels that the names of a panel's series are made of."""
    return {
        label
        for target in panel["targets"]
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"])
    }


def legend(form: str, labels: dict[str, str]) -> str:
    """The name of a series."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), form)


def matches(matcher: str, name: str) -> bool:
    """Whether a name, or an expression between slashes, is that of a series or column."""
    if matcher.startswith("/"):
        return re.search(matcher.strip("/"), name) is not None
    return matcher == name


def sorted_by(panel: Board) -> set[str]:
    """The columns that a table is sorted by."""
    return {each["displayName"] for each in panel["options"].get("sortBy", [])}


def renamed(panel: Board, labels: set[str]) -> set[str]:
    """The columns of a table by the names that it gives them."""
    values = [f"Value #{t['refId']}" for t in panel["targets"]]
    columns = labels | set(values if len(values) > 1 else ["Value"])
    (arranged,) = (t["options"] for t in panel["transformations"] if t["id"] == "organize")
    assert arranged["renameByName"].keys() <= columns
    assert arranged["indexByName"].keys() <= columns
    return {arranged["renameByName"].get(name, name) for name in columns}
