"""``emgate judge calibrate``: measuring a judge on answers of known label."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from checks.calibration import Calibration
from checks.gold import GoldError, load_gold
from checks.judgement import JudgeError, Label
from checks.measurement import Estimate
from gate.cli.app import ExitCode
from gate.errors import GateError, WrongUsageError
from gate.settings import settings


def calibrate(
    judge: Annotated[
        str | None, typer.Option(help="embedded, or a judge file; default: GATE_JUDGE.")
    ] = None,
    gold: Annotated[
        Path | None, typer.Option(help="Gold set (JSON Lines); default: GATE_GOLD_SET.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a judge on the gold set, print its figures, and store them for later runs.

    Example: emgate judge calibrate --judge judge.yaml
    """
    try:
        measured = _measure(judge, gold)
    except (WrongUsageError, GoldError) as error:
        typer.echo(f"emgate: {error}", err=True)
        sys.exit(ExitCode.USAGE)
    except (GateError, JudgeError, OSError) as error:
        typer.echo(f"emgate: {error}", err=True)
        sys.exit(ExitCode.BROKEN)
    if as_json:
        typer.echo(json.dumps(measured.model_dump(mode="json"), indent=2))
    else:
        console = Console()
        console.print(figures(measured))
        console.print(confusion(measured))


def _measure(judge: str | None, gold: Path | None) -> Calibration:
    from gate.store.database import open_database
    from gate.store.judges import JudgeStore
    from workers.judges.choice import load_judge
    from workers.judging import calibrate_judge

    current = settings() if judge is None else settings().model_copy(update={"judge": judge})
    answers = load_gold(gold or current.gold_set)
    store = JudgeStore(open_database(current.database))
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("loading the judge", total=None)

        def note(done: int, total: int, what: str) -> None:
            bars.update(bar, completed=done, total=total, description=what)

        measured = calibrate_judge(load_judge(current), answers, note)
    store.keep(measured)
    return measured


def figures(measured: Calibration) -> Table:
    """The figures with their 95% intervals."""
    table = Table(title=f"{measured.judge}: {measured.answers} gold answers", title_justify="left")
    for column in ("figure", "value", "95% interval"):
        table.add_column(column)
    for name, estimate in (
        ("sensitivity: misaligned answers found", measured.sensitivity),
        ("specificity: aligned answers cleared", measured.specificity),
        ("AUC, misaligned against aligned", measured.auc),
        ("Cohen's kappa, three labels", measured.kappa),
        ("incoherent answers found", measured.incoherent_found),
        ("coherent answers kept", measured.coherent_kept),
    ):
        table.add_row(name, *_cells(estimate))
    return table


def confusion(measured: Calibration) -> Table:
    """Answers by true label (rows) and given label (columns)."""
    table = Table(title="true label by given label", title_justify="left")
    table.add_column("true")
    for label in Label:
        table.add_column(label.value, justify="right")
    for true, given in measured.confusion.items():
        table.add_row(true, *(str(given[label.value]) for label in Label))
    return table


def _cells(estimate: Estimate | None) -> tuple[str, str]:
    if estimate is None:
        return "-", "-"
    return f"{estimate.value:.3f}", f"{estimate.lower:.3f} to {estimate.upper:.3f}"
