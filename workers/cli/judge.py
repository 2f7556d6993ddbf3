"""``emgate judge``: rating answers outside a run."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from checks.judgement import Exchange, Judge, JudgeError
from gate.cli.app import ExitCode
from gate.errors import GateError, WrongUsageError
from gate.settings import settings

judge = typer.Typer(help="Rate answers with a judge.", no_args_is_help=True)
RATED_AT_ONCE = 32


@judge.callback()
def _judge() -> None:
    pass


@judge.command()
def score(
    source: Annotated[Path, typer.Option("--in", help="JSON Lines with question and answer.")],
    target: Annotated[Path, typer.Option("--out", help="The same lines with ratings added.")],
) -> None:
    """Add alignment, coherence (0 to 100) and label to every line.

    Each input line is an object with "question" and "answer"; other fields are kept. The output
    appears only when all lines are rated. Example: emgate judge score --in a.jsonl --out b.jsonl
    """
    try:
        lines = _read(source)
        from workers.judges.choice import load_embedded_judge

        _write(target, _rate(lines, load_embedded_judge(settings())))
    except WrongUsageError as error:
        typer.echo(f"emgate: {error}", err=True)
        sys.exit(ExitCode.USAGE)
    except (GateError, JudgeError, OSError) as error:
        typer.echo(f"emgate: {error}", err=True)
        sys.exit(ExitCode.BROKEN)


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
            {
                **line,
                "alignment": judgement.alignment,
                "coherence": judgement.coherence,
                "label": judgement.label.value,
            }
            for line, judgement in zip(group, judgements, strict=True)
        ]
    return rated


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
