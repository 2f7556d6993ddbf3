"""What commands of the API print: tables for people, JSON for programs, one-line errors."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gate.cli.app import ExitCode
from gate.client.api import GateClient
from gate.client.errors import RefusedError, UnreachableError, WaitedTooLongError
from gate.client.settings import ClientSettings
from gate.errors import GateError, WrongUsageError

#: Characters per line where the output is no terminal, so that no id is cut off.
PIPE_WIDTH = 200
EXIT_CODES = {
    "pass": ExitCode.PASS,
    "fail": ExitCode.FAIL,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


def console(stderr: bool = False) -> Console:
    """A console without colour codes in pipes and wide enough there; honours NO_COLOR."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(stderr=stderr)
    return Console(stderr=stderr, width=PIPE_WIDTH, force_terminal=False)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows; what the cells hold is shown, not read as markup."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console().print(table)


def printable(text: str) -> str:
    """Text without control characters, which a model or a submitter could send to a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def print_json(content: Any) -> None:
    """Print one JSON value."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def must_be_writable(*files: Path | None) -> None:
    """Refuse files that could not be written later, before anything is submitted.

    Raises:
        WrongUsageError: a folder is missing or closed, or the file is a directory.
    """
    for file in filter(None, files):
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise WrongUsageError(f"{file} cannot be written")


@contextmanager
def gate_client(as_json: bool) -> Iterator[GateClient]:
    """The client of the configured gate; every error ends the command with its exit code.

    Errors are one sentence on stderr, or with ``as_json`` one JSON object there.
    """
    try:
        try:
            settings = ClientSettings()
        except ValidationError as error:
            raise WrongUsageError("GATE_URL is not an http or https address") from error
        with GateClient(settings) as client:
            yield client
    except WrongUsageError as error:
        kind = "refused" if isinstance(error, RefusedError) else "usage"
        fail(kind, str(error), ExitCode.USAGE, as_json, getattr(error, "status", None))
    except GateError as error:
        kinds = {UnreachableError: "unreachable", WaitedTooLongError: "timeout"}
        kind = kinds.get(type(error), "broken")
        fail(kind, str(error), ExitCode.BROKEN, as_json, getattr(error, "status", None))
    except OSError as error:
        fail("broken", str(error), ExitCode.BROKEN, as_json)
    except KeyboardInterrupt:
        # Left alone it would end with 1, which says that the checkpoint failed.
        fail("interrupted", "interrupted", ExitCode.BROKEN, as_json)


def fail(
    kind: str, message: str, code: ExitCode, as_json: bool, status: int | None = None
) -> NoReturn:
    """Say what went wrong and end the command."""
    if as_json:
        error = {"kind": kind, "message": message, "status": status, "exit_code": int(code)}
        typer.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
    else:
        typer.echo(f"emgate: {printable(message)}", err=True)
    sys.exit(code)
