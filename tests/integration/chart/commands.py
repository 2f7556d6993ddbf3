"""Reads command lines as ``emgate`` would, without running them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

import typer

from gate.cli.app import COMMAND_GROUP, app
from gate.cli.lazy import LazyGroup


def parse(command_line: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The words of the command that would run, and its parameters. Groups take no options here.

    Raises:
        click.UsageError: there is no such command, or it has no such option.
    """
    program, *rest = command_line
    assert program == "emgate", command_line
    LazyGroup.entries = {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}
    command: Any = typer.main.get_command(app)
    context, words = command.context_class(command, info_name=program), []
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, list(rest))
        words.append(name)
        context = command.context_class(command, info_name=name, parent=context)
    return " ".join(words), command.make_context(
        words[-1], list(rest), parent=context.parent
    ).params
