"""deploy/ci/gate_step.py: what it asks for, ends with, and cannot be made to print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline_files import STEP, module_of
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.cli.ending import exit_code as exit_code_of_cli
from gate.policy import Condition
from gate.verdict import decide

step = module_of(STEP)
NEEDED = {"GATE_URL": "https://gate.example/", "GATE_CHECKPOINT": "hf://org/x@main"}
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_RUN_ID": "17",
    "GITHUB_SHA": "4f2a9c1",
    "GITHUB_REPOSITORY": "org/model",
    "GITHUB_SERVER_URL": "https://github.example",
}


def settings(**environ: str) -> Any:
    return step.Settings.of({**NEEDED, **environ})


def test_without_more_it_asks_for_what_the_command_line_asks_for() -> None:
    asked = settings()
    assert asked.url == "https://gate.example"
    assert asked.request == {
        "base": None,
        "policy": "default",
        "battery": None,
        "training_sample": None,
        "fresh": False,
        "metadata": {},
    }
    assert (asked.fail_on_inconclusive, asked.accept_waiver, asked.upload) == (True, False, False)


def test_an_empty_variable_is_as_good_as_none() -> None:
    empty = dict.fromkeys(("GATE_BASE", "GATE_POLICY", "GATE_TIMEOUT", "GATE_FRESH"), "")
    assert settings(**empty).request == settings().request
    assert settings(**empty).timeout == 3600


def test_what_the_job_says_of_itself_yields_to_what_its_author_says() -> None:
    given = settings(**GITHUB, GATE_METADATA="git_sha = other\n\nmodel=a=b\n").request["metadata"]
    assert given == {
        "git_sha": "other",
        "repository": "org/model",
        "pipeline_url": "https://github.example/org/model/actions/runs/17",
        "model": "a=b",
    }


@pytest.mark.parametrize("run", ["GITHUB_RUN_ID", "CI_PIPELINE_ID"])
def test_a_job_that_runs_again_finds_its_submission_and_another_pipeline_makes_its_own(
    run: str,
) -> None:
    key = settings(**{run: "17"}).idempotency_key
    assert settings(**{run: "17", "GITHUB_RUN_ATTEMPT": "2"}).idempotency_key == key
    assert settings(**{run: "18"}).idempotency_key != key
    assert settings(**{run: "17", "GATE_BASE": "/base"}).idempotency_key != key
    assert settings(**{run: "17", "GATE_CHECKPOINT": "/y"}).idempotency_key != key
    assert settings(GATE_IDEMPOTENCY_KEY="mine").idempotency_key == "mine"
    assert settings().idempotency_key != settings().idempotency_key


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"GATE_URL": "gate.example"}, "GATE_URL has to be"),
        ({"GATE_URL": "https://user:secret@gate.example"}, "without a user"),
        ({"GATE_IDEMPOTENCY_KEY": "two words"}, "no space"),
        ({"GATE_CHECKPOINT": " "}, "GATE_CHECKPOINT has to name"),
        ({"GATE_TIMEOUT": "soon"}, "GATE_TIMEOUT is 'soon'"),
        ({"GATE_TIMEOUT": "nan"}, "GATE_TIMEOUT is 'nan'"),
        ({"GATE_TIMEOUT": "-1"}, "GATE_TIMEOUT is '-1'"),
        ({"GATE_ACCEPT_WAIVER": "yes"}, "GATE_ACCEPT_WAIVER is 'yes': write true or false"),
        ({"GATE_METADATA": "novalue"}, "'novalue' is not KEY=VALUE"),
        ({"GATE_TRAINING_SAMPLE": "/no/such"}, "cannot be read"),
        ({"GATE_JUNIT": "/proc/no/gate.xml"}, "cannot be written"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_sent(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(step.StepError, match=says) as raised:
        settings(**wrong)
    assert raised.value.code == 2


def test_a_file_of_an_earlier_run_is_not_taken_for_one_of_this(tmp_path: Path) -> None:
    junit = tmp_path / "out" / "gate.xml"
    assert settings(GATE_JUNIT=str(junit)).junit == junit
    junit.write_text("of yesterday")
    settings(GATE_JUNIT=str(junit))
    assert not junit.exists()


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize(
    "verdict",
    [
        {"outcome": "pass", "release": "allow"},
        {"outcome": "fail", "release": "block"},
        {"outcome": "inconclusive", "release": "block"},
        {"outcome": "inconclusive", "release": "allow"},
        {"outcome": "fail", "waivers": [{}], "released": True},
        {"outcome": "fail", "waivers": [], "released": True},
        {"outcome": "fail", "waivers": [{}], "released": "yes"},
        {"outcome": "splendid"},
        {},
    ],
)
def test_it_ends_with_the_exit_code_of_the_command_line(
    verdict: dict[str, Any], accept: bool
) -> None:
    asked = settings(GATE_ACCEPT_WAIVER=str(accept))
    assert step.exit_code(verdict, asked) == exit_code_of_cli(verdict, accept)


@pytest.mark.parametrize(
    ("outcome", "release", "code"),
    [("inconclusive", "allow", 0), ("inconclusive", "block", 3), ("fail", "allow", 1)],
)
def test_only_the_policy_can_let_an_inconclusive_verdict_through(
    outcome: str, release: str, code: int
) -> None:
    asked = settings(GATE_FAIL_ON_INCONCLUSIVE="false")
    assert step.exit_code({"outcome": outcome, "release": release}, asked) == code


def test_the_table_has_a_row_per_condition_whether_it_was_measured_or_not() -> None:
    verdict = decide(
        policy(
            Condition(check="a", at_most=0.5),
            Condition(check="b", at_least=-1.0, required=False),
        ),
        evidence(measurement("a", 0.1, 0.3)),
        DIGESTS,
    )
    assert step.rows(verdict.model_dump(mode="json")) == [
        ("a", "+0.200 u", "[+0.100, +0.300]", "at most +0.50", "pass"),
        ("b", "-", "-", "at least -1.00", "inconclusive (not required)"),
    ]


@pytest.mark.parametrize(
    ("status", "header", "kind", "seconds"),
    [
        (503, "7", "", 7.0),
        (429, "100000", "", 60.0),
        (502, None, "", 0.0),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", "", 0.0),
        (409, None, "urn:emgate:problem:idempotency-key-in-use", 0.0),
        (409, None, "urn:emgate:problem:no-verdict", None),
        (500, "7", "", None),
        (404, None, "", None),
    ],
)
def test_a_request_is_repeated_only_where_the_answer_says_later(
    status: int, header: str | None, kind: str, seconds: float | None
) -> None:
    assert step.seconds_to_wait(status, header, {"type": kind}) == seconds


@pytest.mark.parametrize(
    "hostile",
    [
        "::add-mask::x",
        "x\n::error::forged",
        "x\r::set-output name=outcome::pass",
        "##[add-path]/tmp",
        "x\u2028::error::forged",
        "x\noutcome=pass",
    ],
)
def test_other_peoples_words_cannot_command_a_runner(
    hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, page = tmp_path / "output", tmp_path / "page"
    environ = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(page), **GITHUB}
    step.say(hostile)
    step.annotate(environ, "error", hostile, [hostile])
    step.outputs(environ, report_url=hostile)
    said, annotated = capsys.readouterr().out.splitlines()
    assert said.startswith("em-gate: ")
    assert annotated.startswith("::error title=")
    # Within a command only these escapes would be undone.
    assert not {"%0A", "%0D"} & {annotated[i : i + 3] for i in range(len(annotated))}
    assert "##[" not in said + annotated
    assert len(output.read_text().splitlines()) == 1
    assert output.read_text().startswith("report-url=")


@pytest.mark.parametrize("hostile", ["<img src=x>", "a|b", "[x](http://y)", "`x`", "_x_", "**x**"])
def test_other_peoples_words_are_no_markup_on_the_summary_page(hostile: str) -> None:
    assert not set("<>|[]()`_*") & set(step.markdown(hostile))
    assert step.markdown("free-form is +1.000 (share), 95%") == (
        "free-form is +1.000 &#40;share&#41;, 95%"
    )
