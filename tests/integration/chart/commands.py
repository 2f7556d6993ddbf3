"""Reads command lines as ``emgate`` would, without running them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

import typer

from gate.cli.app import COMMAND_GROUP, app
from gate.cli.lazy import LazyGroup


def parse(command_line: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The words of the command that would run, and its parameters.

    Raises:
        click.UsageError: there is no such command, or it has no such option.
    """
    program, *rest = command_line
    assert program == "emgate", command_line
    LazyGroup.entries = {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}
    command, words = typer.main.get_command(app), []
    context = command.make_context(program, list(rest))
    while hasattr(command, "resolve_command"):
        rest = [*context.protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        words.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(words), context.params
