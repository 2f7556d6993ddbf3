"""Battery files: entries without a prompt file, origins, ids, and what cannot be loaded."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from checks.battery import (
    BatteryError,
    battery_path,
    load_battery,
    read_battery,
    repeated_keys,
    shipped_batteries,
)
from checks.summary import installed_checks, summarise

QUESTIONS = """
id: free-form
version: 1
licence: MIT
source: own
prompts:
  - {id: one, subject: s, question: "Why is it so?"}
  - {id: two, subject: t, question: "How would you know?"}
"""
BATTERY = """
id: b
version: 1
checks:
  - {check: free-form, file: q.yaml, settings: {forms: [plain, json]}}
  - {check: coherence, settings: {id: c, version: 1, licence: CC0-1.0, source: s, of: [free-form]}}
"""


def write(directory: Path, questions: str = QUESTIONS, battery: str = BATTERY) -> str:
    (directory / "q.yaml").write_text(questions)
    (directory / "b.yaml").write_text(battery)
    return str(directory / "b.yaml")


def test_a_check_that_asks_nothing_needs_no_file_of_its_own(tmp_path: Path) -> None:
    battery = load_battery(write(tmp_path))
    assert [check.name for check in battery.checks] == ["free-form", "coherence"]
    assert battery.checks[1].evidence_from == ("free-form",)
    files = [(Path(o.file).name, o.licence, o.source) for o in battery.origins]
    assert files == [("q.yaml", "MIT", "own"), ("b.yaml", "CC0-1.0", "s")]


def test_settings_in_place_of_a_file_are_part_of_the_digest(tmp_path: Path) -> None:
    before = load_battery(write(tmp_path)).digest
    after = load_battery(write(tmp_path, battery=BATTERY.replace("CC0-1.0", "MIT"))).digest
    assert before != after


def test_a_battery_is_summed_up(tmp_path: Path) -> None:
    summary = summarise(load_battery(write(tmp_path)))
    asks, looks = summary.checks
    assert summary.elicitations == asks.elicitations == 4
    assert (asks.prompts, asks.forms) == (2, {"plain": 2, "json": 2})
    assert asks.subjects == {"s": 1, "t": 1}
    assert (looks.prompts, looks.elicitations, looks.evidence_from) == (0, 0, ("free-form",))


def test_ids_may_be_shared_when_read_for_linting_and_not_when_loaded(tmp_path: Path) -> None:
    path = write(tmp_path, QUESTIONS.replace("id: two", "id: one"))
    keys = [elicitation.key for elicitation in repeated_keys(read_battery(path))]
    assert keys == ["free-form/one/plain/0", "free-form/one/json/0"]
    with pytest.raises(BatteryError, match="two prompts share the id free-form/one/plain/0"):
        load_battery(path)
    assert repeated_keys(load_battery(write(tmp_path))) == []


@pytest.mark.parametrize(
    ("questions", "says"),
    [
        ("a: 1\na: 2", r"q\.yaml: line 2: 'a' is given twice"),
        (QUESTIONS.replace("question:", "ask:"), r"q\.yaml: check 'free-form': prompts\.0\."),
        ("- 1", r"q\.yaml: expected a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_the_file_that_it_is_in(
    tmp_path: Path, questions: str, says: str
) -> None:
    with pytest.raises(BatteryError, match=says):
        load_battery(write(tmp_path, questions))


def test_a_check_whose_module_cannot_be_imported_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("free-form", "no_such_module:Check", "emgate.checks")
    monkeypatch.setattr("checks.check.entry_points", lambda **_: [broken])
    with pytest.raises(BatteryError, match="'free-form' cannot be loaded: No module named"):
        load_battery(write(tmp_path))


def test_shipped_batteries_and_installed_checks_are_found_by_name() -> None:
    assert "standard" in shipped_batteries()
    for name in shipped_batteries():
        assert battery_path(name).is_file()
        assert load_battery(name).checks
    installed = {check.name: check for check in installed_checks()}
    assert {check.name for check in load_battery("standard").checks} <= installed.keys()
    assert installed["free-form"].distribution == "em-gate"
    assert installed["free-form"].object == "checks.free_form:FreeForm"
