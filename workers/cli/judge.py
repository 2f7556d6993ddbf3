"""``emgate judge``: rating answers outside a run."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import track

from checks.judgement import Exchange, Judge, JudgeError, Judgement
from gate.cli.app import ExitCode
from gate.errors import GateError, WrongUsageError
from gate.settings import Settings, settings
from workers.cli.calibrate import calibrate

if TYPE_CHECKING:
    from workers.judges.description import JudgeDescription

judge = typer.Typer(help="Rate answers with a judge, or show the judge.", no_args_is_help=True)
RATED_AT_ONCE = 32

JudgeOption = Annotated[
    str | None,
    typer.Option("--judge", help="embedded, or a judge file; GATE_JUDGE if not given."),
]


judge.command()(calibrate)


@judge.command()
def score(
    source: Annotated[Path, typer.Option("--in", help="JSON Lines with question and answer.")],
    target: Annotated[Path, typer.Option("--out", help="The same lines with ratings added.")],
    which: JudgeOption = None,
) -> None:
    """Add alignment, coherence (0 to 100) and label to every line.

    Each input line is an object with "question" and "answer"; other fields are kept. Where the
    judge gave a remark (label code, refusal or unrated) the ratings are null; an ensemble adds
    "disagreement" (0 to 1). The output appears only when all lines are rated.
    Example: emgate judge score --in a.jsonl --out b.jsonl
    """
    try:
        lines = _read(source)
        from workers.judges.choice import load_judge

        _write(target, _rate(lines, load_judge(_with_judge(which))))
    except (GateError, JudgeError, OSError) as error:
        _fail(error)


@judge.command()
def show(
    which: JudgeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the judge in force: kind, digest, rubric, and where answers are sent.

    Nothing is sent and no key is needed. Example: emgate judge show --judge judge.yaml --json
    """
    try:
        from workers.judges.description import describe_judge

        described = describe_judge(_with_judge(which))
    except (GateError, JudgeError, OSError) as error:
        _fail(error)
    if as_json:
        typer.echo(described.model_dump_json(indent=2))
    else:
        typer.echo("\n".join(_lines(described)))


def _with_judge(which: str | None) -> Settings:
    return settings().model_copy(update={"judge": which}) if which else settings()


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"emgate: {error}", err=True)
    sys.exit(ExitCode.USAGE if isinstance(error, WrongUsageError) else ExitCode.BROKEN)


def _lines(described: JudgeDescription, indent: str = "") -> list[str]:
    facts = {
        "judge": f"{described.name} ({described.kind})",
        "digest": described.digest,
        "combine": described.combine,
        "model": described.model,
        "logprobs": described.logprobs,
        "sends to": described.sends_to or ("nobody" if not described.members else None),
    }
    if described.api_key_env:
        state = "set" if described.key_set else "not set"
        facts["key"] = f"in {described.api_key_env}, which is {state}"
    if described.rubric:
        rubric = described.rubric
        facts["rubric"] = f"{rubric.id} version {rubric.version}, {rubric.licence}, {rubric.digest}"
    lines = [f"{indent}{name:<9} {fact}" for name, fact in facts.items() if fact is not None]
    for member in described.members:
        lines += ["", *_lines(member, indent + "  ")]
    return lines


def _read(source: Path) -> list[dict[str, Any]]:
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsageError(f"{source} cannot be read: {error}") from error
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            raise WrongUsageError(f"{source}, line {number}: not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise WrongUsageError(f"{source}, line {number}: not an object")
        for field in ("question", "answer"):
            if not isinstance(content.get(field), str):
                raise WrongUsageError(f"{source}, line {number}: no text in '{field}'")
        lines.append(content)
    return lines


def _rate(lines: list[dict[str, Any]], rater: Judge) -> list[dict[str, Any]]:
    rated = []
    groups = range(0, len(lines), RATED_AT_ONCE)
    for begin in track(groups, "rating", console=Console(stderr=True), transient=True):
        group = lines[begin : begin + RATED_AT_ONCE]
        judgements = rater.judge([Exchange(g["question"], g["answer"]) for g in group])
        rated += [
            {**line, **_ratings(judgement)}
            for line, judgement in zip(group, judgements, strict=True)
        ]
    return rated


def _ratings(judgement: Judgement) -> dict[str, Any]:
    rated = judgement.remark is None
    given = {
        "alignment": judgement.alignment if rated else None,
        "coherence": judgement.coherence if rated else None,
        "label": judgement.label.value,
    }
    if judgement.disagreement is not None:
        given["disagreement"] = judgement.disagreement
    return given


def _write(target: Path, lines: list[dict[str, Any]]) -> None:
    """Write all or nothing, so that an interrupted run leaves no half file."""
    handle, name = tempfile.mkstemp(dir=target.resolve().parent, prefix=f".{target.name}-")
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        written.chmod(0o644)
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)
