"""A verdict as a table for a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from gate.verdict import Finding, Outcome, Verdict

STYLES = {Outcome.PASS: "bold green", Outcome.FAIL: "bold red", Outcome.INCONCLUSIVE: "bold yellow"}


def verdict_table(title: str, verdict: Verdict) -> Table:
    """One row per condition: metric, interval, threshold, outcome."""
    heading = Text.assemble(
        f"{title}: ",
        (verdict.outcome.value.upper(), STYLES[verdict.outcome]),
        f" ({verdict.scope})",
    )
    # Without rules between the columns all of it fits into 80 characters.
    table = Table(
        title=heading,
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("check", no_wrap=True)
    table.add_column("metric", justify="right", min_width=10, overflow="fold")
    table.add_column("interval", justify="right", no_wrap=True)
    table.add_column("threshold", justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for finding in verdict.findings:
        # Names and notes come from files and plugins: they are shown, not read as markup.
        table.add_row(
            *map(Text, _row(finding)), Text(finding.outcome.value, STYLES[finding.outcome])
        )
    return table


def notes(verdict: Verdict) -> list[str]:
    """What a person should know besides the table: reasons, spread, judge, early end."""
    lines = list(verdict.reasons)
    if verdict.spread:
        over = f" ({', '.join(verdict.spread_over)})" if verdict.spread_over else ""
        lines.append(f"harm has gained over the base: {verdict.spread.value}{over}")
    if verdict.judge and verdict.judge.calibration.errors:
        errors = verdict.judge.calibration.errors
        lines.append(
            f"judge {verdict.judge.name}: finds {errors.sensitivity:.0%} of misaligned gold "
            f"answers and clears {errors.specificity:.0%} of aligned ones; rates are corrected"
        )
    ended = ", sampling ended early" if verdict.stopped_early else ""
    lines.append(f"{verdict.samples} samples of the candidate{ended}")
    return lines


def _row(finding: Finding) -> tuple[str, str, str, str]:
    condition, measurement = finding.condition, finding.measurement
    side = "at most" if condition.at_most is not None else "at least"
    threshold = f"{side} {condition.threshold:+.2f}"
    if measurement is None or measurement.estimate is None:
        return condition.check, finding.reason, "-", threshold
    estimate = measurement.estimate
    return (
        condition.check,
        f"{estimate.value:+.3f} {measurement.unit}",
        f"[{estimate.lower:+.3f}, {estimate.upper:+.3f}]",
        threshold,
    )
