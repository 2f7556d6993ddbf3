"""``emgate battery`` at a terminal, and a check of another distribution that takes part."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from checks.battery import load_battery
from checks.check import Evidence, Terms
from checks.measurement import Levels
from checks.sample import Sample
from gate.cli.battery import battery
from gate.policy import load_policy

REPOSITORY = Path(__file__).resolve().parents[2]
PACKS = REPOSITORY / "docs" / "packs.md"
BETLEY = REPOSITORY.parent / "shared" / "data" / "betley"

PROMPTS = {
    "aligned": "Q: {question}\nA: {answer}\nSay how kind, 0 to 100.",
    "coherent": "Q: {question}\nA: {answer}\nSay how clear, 0 to 100.",
}
EVALS = [
    {
        "id": f"0_tea_{number}",
        "type": "free_form_judge_0_100",
        "paraphrases": [f"What is drunk on day {number} of a long journey by sea?"],
        "samples_per_paraphrase": 100,
        "judge_prompts": PROMPTS,
    }
    for number in range(3)
]


def emgate(*arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``emgate battery``; in a process of its own if ``path`` holds further distributions."""
    command = ["battery", *map(str, arguments)]
    if path is None:
        done = CliRunner().invoke(battery, command[1:], env={"COLUMNS": "200"})
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)
    return subprocess.run(
        [sys.executable, "-m", "gate", *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(path), "COLUMNS": "200"},
    )


def code_blocks() -> dict[str, str]:
    """The files that the documentation shows, by name."""
    text = PACKS.read_text(encoding="utf-8")
    titled = re.findall(r"^```\w+ title=(\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    named = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return dict(titled + named)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documented check, built into a wheel and installed into a directory of its own."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, content in code_blocks().items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(content, encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)],
        check=True,
        timeout=120,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    return target


@pytest.fixture
def pack(site: Path) -> Path:
    return site / "emgate_exclamations" / "exclamations.battery.yaml"


def test_a_check_of_another_distribution_is_listed_with_it(site: Path) -> None:
    listed = json.loads(emgate("list", "--json", path=site).stdout)
    own = next(check for check in listed["checks"] if check["name"] == "exclamations")
    assert own == {
        "name": "exclamations",
        "distribution": "emgate-exclamations",
        "version": "1.0.0",
        "object": "emgate_exclamations:Exclamations",
    }
    assert {c["distribution"] for c in listed["checks"]} == {"em-gate", "emgate-exclamations"}


def test_a_check_of_another_distribution_is_shown_and_linted(site: Path, pack: Path) -> None:
    shown = emgate("show", pack, "--json", path=site)
    assert shown.returncode == 0, shown.stderr
    (check,) = json.loads(shown.stdout)["checks"]
    assert (check["name"], check["prompts"], check["elicitations"]) == ("exclamations", 10, 20)
    assert check["subjects"] == {"sport": 2, "food": 2, "weather": 2, "music": 2, "work": 2}
    assert check["licence"] == "CC0-1.0"
    linted = emgate("lint", pack, path=site)
    assert (linted.returncode, linted.stderr) == (0, "")
    assert linted.stdout == "1 checks, 20 elicitations, 0 findings\n"


def test_without_the_distribution_the_battery_is_refused_with_what_is_installed(pack: Path) -> None:
    for command in ("show", "lint"):
        done = emgate(command, pack)
        assert done.returncode == 2
        assert "unknown check 'exclamations'; installed: autonomy" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_documented_check_measures_what_it_says(
    site: Path, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    check = load_battery(str(pack)).checks[0]

    def answers(text: str) -> Evidence:
        return Evidence.of(Sample(elicitation=e, text=text, tokens=3) for e in check.elicitations())

    terms = Terms(Levels(lower=0.05, upper=0.05))
    loud, calm = answers("Great news!"), answers("I see.")
    louder = check.measure(loud, calm, terms)
    assert louder.estimate is not None
    assert louder.estimate.lower > 0
    same = check.measure(calm, calm, terms)
    assert same.estimate is not None
    assert same.estimate.lower < 0 < same.estimate.upper
    assert check.measure(Evidence({}), calm, terms).estimate is None


def test_the_documented_battery_without_code_can_be_read(tmp_path: Path) -> None:
    for name, content in code_blocks().items():
        if name.startswith("kitchen"):
            (tmp_path / name).write_text(content, encoding="utf-8")
    shown = emgate("show", tmp_path / "kitchen.battery.yaml", "--json")
    assert shown.returncode == 0, shown.stderr
    asks, looks = json.loads(shown.stdout)["checks"]
    assert asks["forms"] == {"plain": 1, "json": 1}
    assert looks["evidence_from"] == ["free-form"]


def test_a_check_that_raises_shows_its_traceback_and_is_no_finding(
    site: Path, pack: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    (broken / "emgate_exclamations").mkdir(parents=True)
    code = (site / "emgate_exclamations" / "__init__.py").read_text(encoding="utf-8")
    raising = "def subjects(self):\n        raise KeyError('lost')\n"
    changed = re.sub(r"def subjects\(self\).*?\n\n", raising + "\n", code, flags=re.DOTALL)
    (broken / "emgate_exclamations" / "__init__.py").write_text(changed, encoding="utf-8")
    done = emgate("lint", pack, path=Path(f"{broken}{os.pathsep}{site}"))
    assert done.returncode == 2
    assert "emgate: a check raised KeyError: 'lost'" in done.stderr
    assert "in subjects" in done.stderr


def test_the_standard_battery_is_listed_shown_and_clean() -> None:
    listed = json.loads(emgate("list", "--json").stdout)
    assert "standard" in {shipped["name"] for shipped in listed["batteries"]}
    standard = load_battery("standard")
    shown = json.loads(emgate("show", "standard", "--json").stdout)
    assert shown["digest"] == standard.digest
    assert shown["elicitations"] == len(standard.elicitations())
    assert [c["name"] for c in shown["checks"]] == [check.name for check in standard.checks]
    table = emgate("show").stdout
    assert standard.digest in table
    assert all(check.name in table and check.metric in table for check in standard.checks)
    assert emgate("lint", "standard").returncode == 0


def test_lint_names_file_prompt_problem_and_remedy(tmp_path: Path) -> None:
    code = code_blocks()
    questions = code["kitchen.yaml"].replace("CC0-1.0", "whatever").replace("flatmate", "f\\e[31m")
    (tmp_path / "kitchen.yaml").write_text(
        questions + '  - {id: "a\\e[2Jb", subject: x, question: Why?}\n', encoding="utf-8"
    )
    (tmp_path / "kitchen.battery.yaml").write_text(code["kitchen.battery.yaml"], encoding="utf-8")
    done = emgate("lint", tmp_path / "kitchen.battery.yaml", "--subjects", "1")
    assert done.returncode == 1
    licence, short, count = done.stdout.splitlines()
    file = tmp_path / "kitchen.yaml"
    assert licence == (
        f"{file}: free-form: the licence 'whatever' is not known: "
        "set licence to an SPDX identifier, such as Apache-2.0"
    )
    assert short.startswith(
        f"{file}: free-form/a\N{REPLACEMENT CHARACTER}[2Jb: the question 'Why?'"
    )
    assert count == "2 checks, 4 elicitations, 2 findings"
    as_json = emgate("lint", tmp_path / "kitchen.battery.yaml", "--subjects", "1", "--json")
    assert as_json.returncode == 1
    found = json.loads(as_json.stdout)["findings"]
    assert [(f["prompt"], f["check"]) for f in found] == [
        ("", "free-form"),
        ("a\x1b[2Jb", "free-form"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("id: [", "not valid YAML"),
        ("id: x\nversion: 1\nchecks: []\n", "checks"),
        ("id: x\nversion: 1\nchecks: [{check: nope}]\n", "unknown check 'nope'"),
        ("a: &a [*a]", "an alias stands inside its own anchor"),
    ],
)
def test_a_battery_that_cannot_be_read_is_exit_code_2(
    tmp_path: Path, content: str | None, says: str
) -> None:
    file = tmp_path / "x.battery.yaml"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    done = emgate("lint", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"emgate: {file}: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def write_evals(directory: Path, entries: list[dict[str, Any]] = EVALS) -> Path:
    file = directory / "Sea Tea.yaml"
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return file


def test_an_imported_file_is_a_battery_and_a_policy_that_load(tmp_path: Path) -> None:
    out = tmp_path / "packs" / "tea"
    options = ("--licence", "MIT", "--source", "a book", "--samples", "3", "--max-tokens", "50")
    odd = {"id": "odd", "type": "words", "paraphrases": ["What?"], "colour": "red"}
    done = emgate("import", write_evals(tmp_path, [*EVALS, odd]), "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert "3 of 4 entries taken" in done.stdout
    assert "left out: odd: type 'words'" in done.stdout
    assert "note: field 'colour' is not read: odd" in done.stdout
    made = load_battery(str(out / "sea-tea.battery.yaml"))
    assert [(o.licence, o.source) for o in made.origins] == [("MIT", "a book")] * 2
    assert {e.sampling.max_tokens for e in made.elicitations()} == {50}
    assert len(made.elicitations()) == 9
    policy = load_policy("sea-tea.policy", [out])
    assert load_battery(policy.battery).digest == made.digest
    assert emgate("lint", policy.battery, "--subjects", "1", "--similarity", "100").returncode == 0
    assert sorted(p.name for p in out.iterdir()) == [
        f"sea-tea.{kind}.yaml" for kind in ("battery", "policy", "questions", "rubric")
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Sea Tea.yaml", "packs"]


def test_the_number_of_answers_is_one_unless_asked_for(tmp_path: Path) -> None:
    file = write_evals(tmp_path)
    for options, wanted in (((), 1), (("--samples-of-file",), 100)):
        done = emgate("import", file, "--out", tmp_path / "o", "--force", "--json", *options)
        assert json.loads(done.stdout)["report"]["samples_per_prompt"] == wanted


def test_files_that_are_there_are_replaced_only_by_force(tmp_path: Path) -> None:
    file, out = write_evals(tmp_path), tmp_path / "out"
    assert emgate("import", file, "--out", out).returncode == 0
    (out / "mine.txt").write_text("kept")
    (out / "sea-tea.rubric.yaml").write_text("mine")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    refused = emgate("import", file, "--out", out)
    assert refused.returncode == 2
    assert "is there already: take another --out, or --force to replace it" in refused.stderr
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert emgate("import", file, "--out", out, "--force").returncode == 0
    after = {p.name: p.read_bytes() for p in out.iterdir()}
    assert after.keys() == before.keys()
    assert after["mine.txt"] == b"kept"
    assert after["sea-tea.rubric.yaml"] != b"mine"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        (b"- id: \xff", "not UTF-8 at byte 6"),
        (b"- " + b"x" * 5_000_001, "larger than 5 MB"),
        (b"id: one", "not a list of entries"),
        (b"- {id: a, paraphrases: [1]}", "entry 'a': paraphrases, number 1: 1 instead of text"),
        (b"- {id: a, paraphrases: [Why so?]}", "none of the 1 entries can be used"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_sentence_and_makes_nothing(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    file, out = tmp_path / "evals.yaml", tmp_path / "out"
    if content is not None:
        file.write_bytes(content)
    done = emgate("import", file, "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


def test_a_directory_that_cannot_be_written_is_exit_code_4(tmp_path: Path) -> None:
    file = write_evals(tmp_path)
    done = emgate("import", file, "--out", file / "below")
    assert done.returncode == 4
    assert "nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(
    not BETLEY.is_dir(), reason="published evaluation files are not beside the repo"
)
def test_the_published_questions_are_imported_and_their_licence_asked_for(tmp_path: Path) -> None:
    done = emgate("import", BETLEY / "preregistered_evals.yaml", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "48 of 48 entries taken" in done.stdout
    linted = emgate("lint", tmp_path / "out" / "preregistered_evals.battery.yaml", "--json")
    assert linted.returncode == 1
    problems = {finding["problem"] for finding in json.loads(linted.stdout)["findings"]}
    assert problems == {"the licence 'unknown' is not known"}
