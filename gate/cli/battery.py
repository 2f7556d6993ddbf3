"""``emgate battery``: list, show, lint and import batteries."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import BaseModel
from rich.console import Console

from checks.battery import BatteryError, battery_path, load_battery, read_battery, shipped_batteries
from checks.betley_format import ImportFormatError
from checks.bounded_yaml import UnreadableYamlError, read_text
from checks.importing import ImportOptions, ImportReport, import_evaluation
from checks.lint import Limits, lint
from checks.summary import BatterySummary, CheckSummary, installed_checks, summarise
from gate.cli.app import ExitCode
from gate.cli.plain import folding_table, plain, plain_cells
from gate.whole_files import AlreadyThereError, write_together

battery = typer.Typer(help="List, show, lint and import batteries.", no_args_is_help=True)

Named = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped battery or a file.")]
#: More forms than this are counted, not named.
FORMS_SHOWN = 4
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@battery.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show the shipped batteries and every installed check with its distribution."""
    names = shipped_batteries()
    installed = installed_checks()
    if as_json:
        files = {name: str(battery_path(name)) for name in names}
        content = {
            "batteries": [{"name": name, "file": file} for name, file in files.items()],
            "checks": [check.model_dump() for check in installed],
        }
        _print_json(content)
        return
    batteries = folding_table("battery", "checks")
    for name in names:
        batteries.add_row(*plain_cells(name, ", ".join(_check_names(name))))
    found = folding_table("check", "distribution", "version")
    for check in installed:
        found.add_row(*plain_cells(check.name, check.distribution, check.version))
    Console().print(batteries, found)


@battery.command()
def show(name: Named = "standard", as_json: AsJson = False) -> None:
    """Show what a battery asks: checks, prompts, subjects, forms, digest, sources, licences.

    Example: emgate battery show standard --json
    """
    with _errors_of_batteries():
        summary = summarise(load_battery(name))
    if as_json:
        _print_json(summary)
    else:
        _print_summary(summary)


@battery.command("lint")
def lint_(
    name: Named,
    subjects: Annotated[
        int, typer.Option(min=1, help="Least number of subjects per check.")
    ] = Limits.subjects,
    similarity: Annotated[
        float, typer.Option(min=1, max=100, help="From here on two questions are alike, in %.")
    ] = Limits.similarity,
    as_json: AsJson = False,
) -> None:
    """Look for what makes a battery measure something else than it means to.

    Exit codes: 0 nothing found, 1 something found, 2 the battery cannot be read.
    Example: emgate battery lint ./my.battery.yaml
    """
    with _errors_of_batteries():
        read = read_battery(name)
        asked = len(read.elicitations())
        found = lint(read, Limits(subjects=subjects, similarity=similarity))
    if as_json:
        _print_json({"findings": [finding.model_dump() for finding in found]})
    else:
        for finding in found:
            place = "/".join(part for part in (finding.check, finding.prompt) if part)
            typer.echo(plain(f"{finding.file}: {place}: {finding.problem}: {finding.remedy}"))
        typer.echo(f"{len(read.checks)} checks, {asked} elicitations, {len(found)} findings")
    if found:
        sys.exit(ExitCode.FAIL)


@battery.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Evaluation file in the format of Betley et al.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the files that are made.")],
    licence: Annotated[
        str, typer.Option(help="Licence of the questions, an SPDX identifier.")
    ] = ImportOptions.licence,
    source: Annotated[str, typer.Option(help="Where the questions come from.")] = "",
    samples: Annotated[
        int, typer.Option(min=1, max=1000, help="Answers per wording. Such files ask for 100.")
    ] = 1,
    samples_of_file: Annotated[
        bool, typer.Option("--samples-of-file", help="Answers per wording as in the file.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = ImportOptions.temperature,
    max_tokens: Annotated[int, typer.Option(min=1, max=8192)] = ImportOptions.max_tokens,
    force: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a battery, a rubric and a policy of an evaluation file.

    One answer per wording is the default: the prompt is the statistical unit and sampling stops
    early, so that many answers to one prompt cost much and tell little.
    Example: emgate battery import questions.yaml --out ./packs --licence MIT
    """
    options = ImportOptions(
        licence=licence,
        source=source,
        samples=None if samples_of_file else samples,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    directory = out.resolve()
    try:
        imported = import_evaluation(read_text(file), file.name, directory, options)
    except (ImportFormatError, UnreadableYamlError) as error:
        _stop(f"{file}: {error}", ExitCode.USAGE)
    except OSError as error:
        _stop(f"{file}: {error.strerror}", ExitCode.USAGE)
    try:
        write_together(directory, imported.files, replace=force)
    except AlreadyThereError as error:
        _stop(
            f"{error} is there already: take another --out, or --force to replace it",
            ExitCode.USAGE,
        )
    except OSError as error:
        _stop(f"{error.filename or out}: {error.strerror}; nothing was changed", ExitCode.BROKEN)
    made = [str(directory / name) for name in imported.files]
    if as_json:
        _print_json({"files": made, "report": imported.report.model_dump()})
    else:
        _print_report(imported.report, made)


def _check_names(name: str) -> list[str]:
    with _errors_of_batteries():
        return [check.name for check in load_battery(name).checks]


@contextmanager
def _errors_of_batteries() -> Iterator[None]:
    """End with a sentence; a check of another distribution also gets its traceback shown."""
    try:
        yield
    except BatteryError as error:
        _stop(str(error), ExitCode.USAGE)
    except Exception as error:  # noqa: BLE001 - whatever code of other distributions raises
        traceback.print_exc()
        _stop(f"a check raised {type(error).__name__}: {error}", ExitCode.USAGE)


def _stop(message: str, code: ExitCode) -> NoReturn:
    typer.echo(plain(f"emgate: {message}"), err=True)
    sys.exit(code)


def _print_json(content: BaseModel | Mapping[str, object]) -> None:
    # Only ASCII: what comes from files could hold control characters beyond it.
    plain = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
    typer.echo(json.dumps(plain, indent=2))


def _print_summary(summary: BatterySummary) -> None:
    typer.echo(plain(f"{summary.id}, version {summary.version}, {summary.digest}"))
    table = folding_table("check", "prompts", "asked", "subjects", "forms", "licence")
    for check in summary.checks:
        table.add_row(
            *plain_cells(
                check.name,
                str(check.prompts),
                str(check.elicitations),
                str(len(check.subjects)),
                _asked_as(check),
                check.licence or "none",
            )
        )
    table.add_section()
    table.add_row("total", str(sum(c.prompts for c in summary.checks)), str(summary.elicitations))
    Console().print(table)
    for check in summary.checks:
        typer.echo(plain(f"{check.name}: {check.metric} ({check.unit})"))
        counted = ", ".join(f"{name} {count}" for name, count in check.subjects.items())
        for what, said in (
            ("subjects", counted or "none"),
            ("file", check.file),
            ("source", check.source or "not stated"),
        ):
            typer.echo(f"  {what}: {plain(said)}")


def _print_report(report: ImportReport, made: list[str]) -> None:
    typer.echo(
        plain(
            f"{report.prompts} of {report.entries} entries taken, {report.wordings} wordings, "
            f"{len(report.subjects)} subjects: {', '.join(report.subjects)}"
        )
    )
    for out in report.left_out:
        typer.echo(plain(f"left out: {out.entry}: {out.reason}"))
    for note in report.notes:
        typer.echo(plain(f"note: {note}"))
    for name in made:
        typer.echo(plain(f"made: {name}"))


def _asked_as(check: CheckSummary) -> str:
    if check.evidence_from != (check.name,):
        return f"answers of {', '.join(check.evidence_from)}"
    if not check.prompts:
        return "in a submission's contexts only"
    forms = list(check.forms)
    return ", ".join(forms) if len(forms) <= FORMS_SHOWN else str(len(forms))
