"""Every alert is complete, has its section in the runbook and its cases, and names what exists."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pytest
from alert_rules import ALERTS, CASES, PROMETHEUS, RECORDED, REPOSITORY, RULES, minutes, read
from series import SERIES, labels_asked_by, labels_of, selectors

from gate.cli.lazy import load

RUNBOOK = REPOSITORY / "docs" / "runbook.md"
BASE = "https://example.com/em-gate/docs/runbook.md"
#: Series that Prometheus makes.
GIVEN = {"up"}
#: What every section of the runbook answers.
ANSWERED = ("Means", "Affects", "Look first", "Do", "Resolves")

each_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda r: r.get("alert") or r["record"])


def sections() -> dict[str, str]:
    """The runbook's sections by the alert that each is about."""
    parts = re.split(r"^### (Emgate\w+)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class TestAlerts:
    @each_alert
    def test_it_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on(
        self, alert: dict[str, Any]
    ) -> None:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        told = alert["annotations"]
        assert told.keys() == {"summary", "description", "runbook_url"}
        assert told["runbook_url"] == f"{BASE}#{alert['alert'].lower()}"
        assert not told["summary"].endswith(".")
        assert told["description"].endswith(".")
        assert re.search(r"\d|\$value", told["description"]), "the numbers belong into it"

    def test_the_runbook_has_a_section_for_every_alert_and_no_other(self) -> None:
        assert sections().keys() == ALERTS.keys()

    @each_alert
    def test_its_section_answers_every_question(self, alert: dict[str, Any]) -> None:
        section = sections()[alert["alert"]]
        assert re.findall(r"^\*\*(.+?)\.\*\*", section, flags=re.MULTILINE) == list(ANSWERED)

    @each_alert
    def test_the_runbook_says_its_severity(self, alert: dict[str, Any]) -> None:
        name, severity = alert["alert"], alert["labels"]["severity"]
        text = RUNBOOK.read_text(encoding="utf-8")
        assert f"| [{name}](#{name.lower()}) | {severity} |" in text


def commands() -> list[str]:
    """Every call of the command line that the pages of monitoring advise, once."""
    text = "".join(
        (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        for page in ("runbook.md", "monitoring.md")
    )
    found = re.findall(r"(?:^|`)(emgate [a-z][^`#>\n]*)", text, flags=re.MULTILINE)
    return sorted({line.strip() for line in found})


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_runbook_exists_with_its_options(line: str) -> None:
    _, name, *words = shlex.split(line)
    (entry,) = entry_points(group="emgate.commands", name=name)
    command = load(entry)
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


class TestCases:
    @each_alert
    def test_there_is_one_where_it_fires_and_then_resolves(self, alert: dict[str, Any]) -> None:
        def resolves(case: dict[str, Any]) -> bool:
            asked = [
                (minutes(one["eval_time"]), bool(one["exp_alerts"]))
                for one in case.get("alert_rule_test", [])
                if one["alertname"] == alert["alert"]
            ]
            fired = [at for at, fires in asked if fires]
            return bool(fired) and any(at > max(fired) for at, fires in asked if not fires)

        assert any(map(resolves, CASES))

    @each_alert
    def test_there_is_one_where_it_just_does_not_fire(self, alert: dict[str, Any]) -> None:
        def quiet_before(case: dict[str, Any]) -> bool:
            asked = sorted(
                (minutes(one["eval_time"]), bool(one["exp_alerts"]))
                for one in case.get("alert_rule_test", [])
                if one["alertname"] == alert["alert"]
            )
            return bool(asked) and not asked[0][1]

        assert any(map(quiet_before, CASES))

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_its_series_exist(self, case: dict[str, Any]) -> None:
        for series in case["input_series"]:
            (selector,) = selectors(series["series"])
            assert selector.name in SERIES.keys() | GIVEN
            # Prometheus may add the namespace of a deployment.
            assert labels_asked_by(selector) <= labels_of(selector.name) | {"namespace"}


class TestNames:
    @each_rule
    def test_a_rule_reads_only_series_and_labels_that_exist(self, rule: dict[str, Any]) -> None:
        found = list(selectors(rule["expr"]))
        assert found
        for selector in found:
            if selector.name in RECORDED:
                continue
            assert selector.name in SERIES.keys() | GIVEN, f"no metric {selector.name}"
            assert labels_asked_by(selector) <= labels_of(selector.name)

    def test_what_is_recorded_is_read_by_a_rule_or_described(self) -> None:
        described = (REPOSITORY / "docs" / "monitoring.md").read_text(encoding="utf-8")
        for name in RECORDED:
            assert f"`{name}`" in described

    def test_the_reasons_that_are_the_submitters_are_errors_of_the_code(self) -> None:
        rule = RECORDED["emgate:submissions_failed:per_worker"]["expr"]
        reasons = {
            name for listed in re.findall(r'reason!~"(.*?)"', rule) for name in listed.split("|")
        }
        assert "CheckpointError" in reasons
        assert reasons <= error_names()

    def test_the_inhibitions_name_alerts(self) -> None:
        config = read(REPOSITORY / "deploy" / "alertmanager" / "alertmanager.yml")
        matchers = " ".join(
            matcher
            for rule in config["inhibit_rules"]
            for matcher in rule["source_matchers"] + rule["target_matchers"]
        )
        assert set(re.findall(r"Emgate\w+", matchers)) <= ALERTS.keys()


def error_names() -> set[str]:
    """The names of all exceptions that the packages of the gate define or import."""
    found: set[str] = set()
    for name in ("checks.battery", "gate.errors", "gate.archives", "gate.sources"):
        found |= exceptions(importlib.import_module(name))
    package = importlib.import_module("workers.checkpoint")
    for module in pkgutil.iter_modules(package.__path__, "workers.checkpoint."):
        found |= exceptions(importlib.import_module(module.name))
    return found


def exceptions(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }


def test_the_jobs_are_those_of_the_rules() -> None:
    jobs = {job["job_name"] for job in read(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
    named = {job for rule in RULES for job in re.findall(r'job="([\w-]+)"', rule["expr"])}
    assert jobs == named == {"emgate-api", "emgate-worker"}
