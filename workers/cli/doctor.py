"""``emgate doctor``: what is wrong with this installation."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from gate.cli.app import ExitCode
from gate.cli.output import print_json, show_table
from gate.client.settings import ClientSettings
from gate.settings import settings
from workers.probes.examination import examine
from workers.probes.finding import Health


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is wrong with this installation and what to do; starts no engine.

    Exit codes: 0 nothing that stops the gate, 1 something does, 2 a setting is wrong.

    Example: emgate doctor --json
    """
    try:
        found = examine(settings(), ClientSettings().url)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]).upper()
        typer.echo(f"emgate: GATE_{place}: {first['msg']}", err=True)
        sys.exit(ExitCode.USAGE)
    broken = any(finding.health is Health.FAIL for finding in found)
    if as_json:
        print_json({"ok": not broken, "findings": [f.model_dump(mode="json") for f in found]})
    else:
        rows = [(f.health.value, f.name, f.found, f.remedy) for f in found]
        show_table(("", "part", "found", "what to do"), rows)
    sys.exit(1 if broken else 0)
