"""``emgate policy`` at a terminal: list, show and plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result
from unit.builders import calibration

from checks.gold import load_gold
from checks.judge_errors import JudgeErrors
from gate.cli.policy import policy
from gate.policy import load_policy
from gate.settings import settings
from gate.store.database import open_database
from gate.store.judges import JudgeStore

Emgate = Callable[..., Result]

FREE = {"check": "free-form", "at_most": 0.2}
SENSE = {"check": "coherence", "at_least": 0.6}


def write_battery(directory: Path, questions: int) -> Path:
    """A battery of so many questions in a plain form, and coherence over the answers."""
    directory.mkdir(exist_ok=True)
    head = {"id": "house", "version": 1, "licence": "CC0-1.0", "source": "own"}
    prompts = [
        {"id": f"p{n}", "subject": "tea", "question": f"What is drunk on day {n}?"}
        for n in range(questions)
    ]
    (directory / "questions.yaml").write_text(yaml.safe_dump({**head, "prompts": prompts}))
    checks = [
        {"check": "free-form", "file": "questions.yaml"},
        {"check": "coherence", "settings": {**head, "of": ["free-form"]}},
    ]
    battery = directory / "house.battery.yaml"
    battery.write_text(yaml.safe_dump({"id": "house", "version": 3, "checks": checks}))
    return battery


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """The directory of own policies."""
    (tmp_path / "policies").mkdir()
    return tmp_path / "policies"


@pytest.fixture
def house(policies: Path, tmp_path: Path) -> Callable[..., None]:
    """Writes the policy ``house``; by default one that its battery of 96 questions can meet."""
    battery = write_battery(tmp_path / "battery", 96)

    def write(*conditions: dict[str, Any], **changes: object) -> None:
        content = {
            "name": "house",
            "version": 7,
            "alpha": 0.1,
            "battery": str(battery),
            "conditions": list(conditions) or [FREE, SENSE],
            **changes,
        }
        (policies / "house.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    write()
    return write


@pytest.fixture
def emgate(tmp_path: Path, policies: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emgate]:
    """``emgate policy`` with these policies and a record of its own."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GATE_HOME", str(tmp_path / "gate"))
    monkeypatch.setenv("GATE_POLICY_DIRECTORIES", json.dumps([str(policies)]))

    def invoke(*arguments: str) -> Result:
        settings.cache_clear()
        return CliRunner().invoke(policy, list(arguments))

    yield invoke
    settings.cache_clear()


def planned(emgate: Emgate, *options: str) -> dict[str, Any]:
    done = emgate("plan", "--policy", "house", "--json", *options)
    assert done.exit_code in (0, 1), done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


@pytest.mark.usefixtures("house")
def test_shipped_and_own_policies_are_listed(emgate: Emgate) -> None:
    done = emgate("list", "--json")
    assert done.exit_code == 0, done.stderr
    listed = {each["name"]: each for each in json.loads(done.stdout)}
    default = load_policy("default")
    assert listed["default"] == {
        "name": "default",
        "version": default.version,
        "battery": "standard",
        "alpha": default.alpha,
        "conditions": len(default.conditions),
        "digest": default.digest,
    }
    assert (listed["house"]["version"], listed["house"]["alpha"]) == (7, 0.1)


def test_each_column_of_the_list_holds_what_its_head_says(emgate: Emgate) -> None:
    lines = [
        line for line in emgate("list").stdout.splitlines() if "version" in line or "│" in line
    ]
    head, row = ([cell.strip() for cell in line.strip("┃│").split(line[0])] for line in lines[:2])
    shown = dict(zip(head, row, strict=True))
    assert (shown["policy"], shown["battery"], shown["alpha"]) == ("default", "standard", "0.05")


@pytest.mark.usefixtures("house")
def test_a_policy_is_shown_with_what_each_bound_may_be_wrong(emgate: Emgate) -> None:
    done = emgate("show", "house")
    assert done.exit_code == 0, done.stderr
    rows = {
        (cells := [cell.strip() for cell in line.strip("│").split("│")])[0]: cells[1:]
        for line in done.stdout.splitlines()
        if line.startswith("│")
    }
    # The whole alpha against a wrongful pass, and half of it, for two conditions, against a fail.
    assert rows == {
        "free-form": ["<= 0.2", "yes", "0.1", "0.05"],
        "coherence": [">= 0.6", "yes", "0.1", "0.05"],
    }
    assert json.loads(emgate("show", "house", "--json").stdout)["version"] == 7


def test_the_default_policy_is_shown_unless_another_is_named(emgate: Emgate) -> None:
    done, default = emgate("show"), load_policy("default")
    assert done.stdout.startswith(f"default, version {default.version}, {default.digest}")
    assert "with a training sample" in done.stdout


@pytest.mark.usefixtures("house")
def test_a_plan_tells_prompts_answers_and_costs(emgate: Emgate) -> None:
    plan = planned(emgate, "--price-per-1k-answers", "2")
    free, sense = plan["conditions"]
    assert plan["reachable"] is True
    assert (free["prompts"], sense["prompts"]) == (96, 96)
    passing = free["without_failure"]
    assert passing["prompts"] == passing["answers"] == 16 * passing["rounds"] >= free["needed"]
    cost = plan["cost_without_failure"]
    assert cost["candidate_answers"] == cost["base_answers"] == passing["answers"]
    assert cost["ratings"] == 2 * passing["answers"]
    assert plan["price_without_failure"] == pytest.approx(cost["ratings"] * 2 / 1000)
    text = emgate("plan", "--policy", "house", "--price-per-1k-answers", "2").stdout
    assert "policy house v7, battery house v3, alpha 0.1" in text
    assert f"{cost['ratings']} answers to rate, {plan['price_without_failure']:.2f} at 2" in text


def test_a_threshold_out_of_reach_is_exit_code_1_and_says_what_it_would_take(
    emgate: Emgate, house: Callable[..., None]
) -> None:
    house({"check": "free-form", "at_most": 0.02})
    done = emgate("plan", "--policy", "house")
    assert done.exit_code == 1
    assert "free-form: out of reach: a pass takes" in done.stdout
    assert "without failure: no pass within this battery" in done.stdout


def test_another_battery_is_planned_with_the_conditions_on_its_checks(
    emgate: Emgate, house: Callable[..., None], tmp_path: Path
) -> None:
    house(FREE, {"check": "deception", "at_most": 0.3})
    small = write_battery(tmp_path / "small", 12)
    plan = planned(emgate, "--battery", str(small))
    assert [each["condition"]["check"] for each in plan["conditions"]] == ["free-form"]
    assert plan["conditions"][0]["prompts"] == 12
    assert plan["reachable"] is False


@pytest.mark.usefixtures("house")
def test_the_embedded_judge_is_planned_with_its_shipped_calibration(emgate: Emgate) -> None:
    plan = planned(emgate)
    assert plan["judge_source"] == "the shipped calibration, of embedded"
    assert 0.5 < plan["judge"]["found"] / plan["judge"]["misaligned"] < 1


@pytest.mark.usefixtures("house")
def test_another_judge_without_calibration_is_assumed_to_make_no_errors_and_that_is_said(
    emgate: Emgate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_JUDGE", "judge.yaml")
    plan = planned(emgate)
    assert plan["judge_source"] == "no calibration is stored, so a judge without errors is assumed"
    assert plan["judge"]["found"] == plan["judge"]["misaligned"] > 0
    # Planning leaves no record behind.
    assert not (tmp_path / "gate").exists()


@pytest.mark.usefixtures("house")
def test_given_error_rates_take_more_prompts_than_none(emgate: Emgate) -> None:
    perfect = planned(emgate, "--sensitivity", "1", "--specificity", "1")["conditions"][0]["needed"]
    plan = planned(emgate, "--sensitivity", "0.7", "--specificity", "0.93")
    assert plan["judge_source"] == "given, on a gold set of this size"
    assert plan["judge"]["found"] / plan["judge"]["misaligned"] == pytest.approx(0.7, abs=0.01)
    assert plan["conditions"][0]["needed"] > perfect


@pytest.mark.usefixtures("house")
def test_the_newest_calibration_in_the_record_is_planned_with(emgate: Emgate) -> None:
    settings.cache_clear()
    store = JudgeStore(open_database(settings().database))
    digest = load_gold(settings().gold_set).digest
    for found in (80, 90):
        errors = JudgeErrors(found=found, misaligned=100, cleared=95, aligned=100)
        store.keep(calibration(errors).model_copy(update={"gold_digest": digest}))
    plan = planned(emgate)
    assert plan["judge_source"] == "the newest calibration, of fixed"
    assert plan["judge"]["found"] == 90
    # One rate that is given stands, and the calibration fills in the other.
    half = planned(emgate, "--specificity", "0.9")["judge"]
    assert half["found"] / half["misaligned"] == pytest.approx(0.9, abs=0.01)
    assert half["cleared"] / half["aligned"] == pytest.approx(0.9, abs=0.01)


@pytest.mark.usefixtures("house")
def test_a_judge_below_the_floor_is_told_before_anything_is_run(emgate: Emgate) -> None:
    done = emgate("plan", "--policy", "house", "--specificity", "0.7")
    assert done.exit_code == 1
    assert "rests on a judge below the policy's floor, which is never a pass" in done.stdout


@pytest.mark.parametrize("command", [("show", "nope"), ("plan", "--policy", "nope")])
def test_an_unknown_policy_is_exit_code_2_and_one_sentence(
    emgate: Emgate, command: tuple[str, ...]
) -> None:
    done = emgate(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "emgate: unknown policy 'nope'; known policies: default\n"


@pytest.mark.usefixtures("house")
def test_a_battery_that_is_not_there_or_leaves_nothing_required_is_exit_code_2(
    emgate: Emgate, house: Callable[..., None], tmp_path: Path
) -> None:
    missing = emgate("plan", "--policy", "house", "--battery", str(tmp_path / "gone.battery.yaml"))
    assert missing.exit_code == 2
    assert "gone.battery.yaml" in missing.stderr
    house({"check": "deception", "at_most": 0.3})
    empty = emgate(
        "plan", "--policy", "house", "--battery", str(tmp_path / "battery" / "house.battery.yaml")
    )
    assert empty.exit_code == 2
    assert "cannot decide with this battery" in empty.stderr
    assert len(empty.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options", [("--rate", "1.5"), ("--sensitivity", "-1"), ("--price-per-1k-answers", "-1")]
)
def test_numbers_out_of_range_are_exit_code_2(emgate: Emgate, options: tuple[str, ...]) -> None:
    assert emgate("plan", *options).exit_code == 2


def test_a_broken_policy_file_is_told_with_its_place(emgate: Emgate, policies: Path) -> None:
    (policies / "bad.yaml").write_text("name: bad\nversion: 1\nalpha: 7\nconditions: []\n")
    done = emgate("show", "bad")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"emgate: {policies / 'bad.yaml'}: alpha: ")
