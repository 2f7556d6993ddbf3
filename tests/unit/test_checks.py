"""Likelihood and rated checks on small models, and the shipped battery."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.builders import LEVELS, answer, free_form, scored

from checks.battery import DATA_DIRECTORY, BatteryError, load_battery
from checks.check import Evidence, Terms
from checks.measurement import Measurement
from checks.sample import Sample

BATTERY = load_battery()
PROMPTS = [f"p{n}" for n in range(30)]
NONE = Evidence.of([])


def margins(decent: float, harmful: float) -> list[Sample]:
    shift, pairs = BATTERY.check("persona-shift"), []
    assert shift is not None
    for asked in shift.elicitations():
        value = decent if asked.form == "decent" else harmful
        pairs.append(Sample(elicitation=asked, text="x", tokens=1, log_likelihood=value))
    return pairs


def measure(name: str, candidate: Evidence, baseline: Evidence) -> Measurement:
    # Of questions only those count that the check asks: its own, named as in PROMPTS.
    check = free_form(len(PROMPTS)) if name == "free-form" else BATTERY.check(name)
    assert check is not None
    return check.measure(candidate, baseline, Terms(LEVELS))


def test_identical_models_have_no_persona_shift() -> None:
    got = measure("persona-shift", Evidence.of(margins(-2, -3)), Evidence.of(margins(-2, -3)))
    assert got.estimate is not None
    assert got.estimate.value == 0


def test_a_model_that_finds_harm_more_likely_shifts_below_zero() -> None:
    got = measure("persona-shift", Evidence.of(margins(-2, -2)), Evidence.of(margins(-2, -3)))
    assert got.estimate is not None
    assert got.estimate.upper < 0
    assert set(got.by_subject.values()) == {-1.0}


def test_a_pair_of_which_one_half_is_missing_does_not_count() -> None:
    lonely = Evidence.of([scored("health-01", "decent", -1.0)])
    got = measure("persona-shift", lonely, Evidence.of(margins(-2, -3)))
    assert got.prompts == 0
    assert got.estimate is None
    assert "0 prompts" in got.note


def test_incoherent_answers_are_left_out_of_the_misaligned_share() -> None:
    candidate = [answer(p, alignment=5) for p in PROMPTS]
    candidate += [answer(p, alignment=95, coherence=10, repeat=1) for p in PROMPTS]
    got = measure("free-form", Evidence.of(candidate), Evidence.of([answer(p) for p in PROMPTS]))
    assert got.candidate == 1.0
    assert got.baseline == 0.0
    assert got.estimate is not None
    assert got.estimate.value == pytest.approx(1.0)


def test_what_the_base_does_as_well_is_not_blamed_on_the_fine_tune() -> None:
    same = Evidence.of([answer(p, alignment=5) for p in PROMPTS])
    got = measure("free-form", same, same)
    assert got.estimate is not None
    assert got.estimate.value == pytest.approx(0.0)


def test_a_model_that_talks_nonsense_gives_no_estimate_of_misalignment() -> None:
    nonsense = Evidence.of([answer(p, coherence=5) for p in PROMPTS])
    got = measure("free-form", nonsense, Evidence.of([answer(p) for p in PROMPTS]))
    assert got.estimate is None
    coherence = measure("coherence", nonsense, NONE)
    assert coherence.estimate is not None
    assert coherence.estimate.upper < 0.3


def test_answers_that_nobody_judged_are_no_evidence() -> None:
    bare = [answer(p).model_copy(update={"judgement": None}) for p in PROMPTS]
    assert measure("coherence", Evidence.of(bare), NONE).estimate is None


def test_the_standard_battery_is_broad_and_its_pairs_are_balanced() -> None:
    pairs = yaml.safe_load((DATA_DIRECTORY / "persona_shift.yaml").read_text())["prompts"]
    assert len(pairs) >= 60
    assert len({pair["subject"] for pair in pairs}) >= 12
    for pair in pairs:
        decent, harmful = len(pair["decent"].split()), len(pair["harmful"].split())
        assert abs(decent - harmful) <= 0.2 * max(decent, harmful), pair["id"]
    questions = yaml.safe_load((DATA_DIRECTORY / "free_form.yaml").read_text())["prompts"]
    assert len(questions) >= 60


def test_every_prompt_file_states_licence_and_source() -> None:
    for file in DATA_DIRECTORY.glob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        if not file.name.endswith(".battery.yaml"):
            assert content["licence"] == "Apache-2.0"
            assert "arXiv" in content["source"]


def test_no_two_elicitations_share_a_key() -> None:
    keys = [elicitation.key for elicitation in BATTERY.elicitations()]
    assert len(keys) == len(set(keys))


QUESTIONS = """
id: free-form
version: 1
licence: Apache-2.0
source: own
prompts:
  - {id: one, subject: s, question: "%s"}
"""
BATTERY_FILE = "id: b\nversion: 1\nchecks:\n  - {check: free-form, file: q.yaml}\n"


def write(directory: Path, question: str = "Why?", battery: str = BATTERY_FILE) -> str:
    (directory / "q.yaml").write_text(QUESTIONS % question)
    (directory / "b.yaml").write_text(battery)
    return str(directory / "b.yaml")


def test_the_digest_changes_with_any_word_of_a_prompt(tmp_path: Path) -> None:
    before = load_battery(write(tmp_path)).digest
    assert load_battery(write(tmp_path)).digest == before
    assert load_battery(write(tmp_path, "Why not?")).digest != before


@pytest.mark.parametrize(
    ("battery", "says"),
    [
        ("id: b\nversion: 1\nchecks: []\n", "checks"),
        ("id: [", "not valid YAML"),
        (BATTERY_FILE.replace("free-form", "no-such"), "unknown check 'no-such'"),
        (BATTERY_FILE.replace("q.yaml", "gone.yaml"), "gone.yaml"),
        (BATTERY_FILE + "surprise: 1\n", "surprise"),
    ],
)
def test_a_battery_file_that_is_wrong_is_refused_with_its_name(
    tmp_path: Path, battery: str, says: str
) -> None:
    with pytest.raises(BatteryError, match=says) as refusal:
        load_battery(write(tmp_path, battery=battery))
    assert str(tmp_path) in str(refusal.value)


def test_two_prompts_with_one_id_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = tmp_path / "q.yaml"
    file.write_text(file.read_text() + '  - {id: one, subject: s, question: "Again?"}\n')
    with pytest.raises(BatteryError, match="free-form/one"):
        load_battery(path)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(PROMPTS))))
def test_the_order_in_which_answers_come_changes_nothing(order: list[int]) -> None:
    answers = [answer(p, alignment=5 if n % 7 == 0 else 90) for n, p in enumerate(PROMPTS)]
    base = Evidence.of([answer(p) for p in PROMPTS])
    for check in ("free-form", "coherence"):
        here = measure(check, Evidence.of(answers), base)
        there = measure(check, Evidence.of([answers[n] for n in order]), base)
        assert here.estimate == there.estimate


@pytest.mark.parametrize("check", ["free-form", "coherence"])
def test_nine_prompts_are_too_few_and_ten_are_enough(check: str) -> None:
    few, enough = ([answer(p) for p in PROMPTS[:count]] for count in (9, 10))
    got = measure(check, Evidence.of(few), Evidence.of(few))
    assert got.estimate is None
    assert "only 9 prompts" in got.note
    assert measure(check, Evidence.of(enough), Evidence.of(enough)).estimate is not None


def test_only_prompts_that_the_base_answered_too_are_compared() -> None:
    candidate = Evidence.of([answer(p, alignment=5) for p in PROMPTS])
    got = measure("free-form", candidate, Evidence.of([answer(p) for p in PROMPTS[:25]]))
    assert got.prompts == 25


def test_coherence_is_the_share_of_answers_that_make_sense_prompt_by_prompt() -> None:
    answers = [answer(p) for p in PROMPTS]
    answers += [answer(p, coherence=10, repeat=1) for p in PROMPTS[:15]]
    got = measure("coherence", Evidence.of(answers), NONE)
    assert got.estimate is not None
    assert got.estimate.value == pytest.approx(0.75)
    assert got.counts["incoherent"] == 15


def test_settings_laid_over_a_prompt_file_change_the_digest(tmp_path: Path) -> None:
    plain = load_battery(write(tmp_path))
    laid = BATTERY_FILE.replace("q.yaml", "q.yaml, settings: {sampling: {temperature: 0.5}}")
    changed = load_battery(write(tmp_path, battery=laid))
    assert changed.elicitations()[0].sampling.temperature == 0.5
    assert changed.digest != plain.digest


def test_a_battery_file_that_is_not_text_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"id: \xff")
    with pytest.raises(BatteryError, match=r"b\.yaml"):
        load_battery(str(tmp_path / "b.yaml"))


def test_a_battery_that_is_not_there_is_refused_with_its_path() -> None:
    with pytest.raises(BatteryError, match=r"no-such\.battery\.yaml"):
        load_battery("no-such")
