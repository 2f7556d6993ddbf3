"""Commands of other modules, loaded when they are called and not before."""

from __future__ import annotations

import ast
import inspect
from functools import lru_cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def load(entry: EntryPoint) -> Any:
    """The command behind an entry point: a Typer app or a function, as one that can be invoked."""
    found = entry.load()
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_command(found)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name=entry.name)(found)
        command = typer.main.get_command(alone)
    command.name = entry.name
    return command


def summary(entry: EntryPoint) -> str | None:
    """The help of a command, read from its source without running it; None where that fails."""
    spec = find_spec(entry.module.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    parts = entry.module.split(".")[1:]
    for root in spec.submodule_search_locations:
        file = Path(root, *parts).with_suffix(".py")
        if file.is_file():
            return _help_in(ast.parse(file.read_text(encoding="utf-8")), entry.attr)
    return None


def _help_in(module: ast.Module, name: str) -> str | None:
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return inspect.cleandoc(ast.get_docstring(node) or "")
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            named = any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
            for word in node.value.keywords if named else ():
                if word.arg == "help" and isinstance(word.value, ast.Constant):
                    return str(word.value.value)
    return None


class LazyGroup(TyperGroup):
    """A group that knows further commands by entry point and loads only the one that is called."""

    #: Set once, by ``main``, before the group is asked.
    entries: dict[str, EntryPoint] = {}  # noqa: RUF012 (one per process, like the entry points)

    def list_commands(self, ctx: Any) -> list[str]:
        """Own commands first, then the registered ones by name."""
        own: list[str] = list(super().list_commands(ctx))
        return own + sorted(set(self.entries) - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """An own command, or one that stands for a registered one and has its help."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in self.entries:
            return own
        entry = self.entries[cmd_name]
        words = summary(entry)
        return load(entry) if words is None else TyperCommand(cmd_name, help=words)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """What is called is loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self.entries:
            command = loaded(name)
        return name, command, rest


@lru_cache
def loaded(name: str) -> Any:
    """A registered command, loaded once."""
    return load(LazyGroup.entries[name])
