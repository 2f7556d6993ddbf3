"""What the administrators' commands share: the database, who acts, and how things are shown."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NoReturn

import typer
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gate.cli.app import ExitCode
from gate.cli.plain import folding_table, plain, plain_cells
from gate.errors import GateError, WrongUsageError
from gate.settings import Settings, settings
from gate.store.database import open_database


@contextmanager
def administration(current: Settings | None = None) -> Iterator[Engine]:
    """The database of this installation; errors end the command with one sentence.

    Whoever may write the database may do everything: these commands ask for no key.
    """
    try:
        yield open_database((current or settings()).database)
    except GateError as error:
        broken = not isinstance(error, WrongUsageError)
        stop(str(error), ExitCode.BROKEN if broken else ExitCode.USAGE)
    except SQLAlchemyError as error:
        # Only the driver's words: the whole message would show the values of the statement.
        stop(f"the database does not work: {getattr(error, 'orig', error)}", ExitCode.BROKEN)


def stop(message: str, code: ExitCode) -> NoReturn:
    """End the command with one sentence."""
    typer.echo(f"emgate: {plain(message)}", err=True)
    sys.exit(code)


def person() -> str:
    """Who acts, in records: ``cli:USER``. From the process and not from variables, which lie."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:uid-{os.getuid()}"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """A table for people, or one line where there is nothing."""
    if not rows:
        typer.echo(nothing)
        return
    table = folding_table(*columns, whole_first=True)
    for row in rows:
        table.add_row(*plain_cells(*row))
    Console().print(table)


def show_json(content: object) -> None:
    """JSON for programs."""
    typer.echo(json.dumps(content, indent=2))


def moment(at: datetime | None, none: str = "-") -> str:
    """A time for people, in UTC, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else none
