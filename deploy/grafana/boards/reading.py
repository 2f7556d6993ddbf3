"""What a dashboard's JSON asks and shows, for its documentation and its tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Board = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """One query, with the title of the panel or annotation that asks it.

    ``instant`` says that it asks for the values at one moment and not over the time range.
    """

    title: str
    expr: str
    instant: bool


def rows(board: Board) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The headings of a dashboard with the panels under each."""
    title, under = "", list[Mapping[str, Any]]()
    for panel in board["panels"]:
        if panel["type"] == "row":
            if under:
                yield title, under
            title, under = panel["title"], []
        else:
            under.append(panel)
    yield title, under


def panels(board: Board) -> list[Mapping[str, Any]]:
    """The panels of a dashboard in reading order, without the headings."""
    return [panel for _, under in rows(board) for panel in under]


def queries(board: Board) -> list[Asked]:
    """Every query of the panels and annotations of a dashboard."""
    asked = [
        Asked(panel["title"], target["expr"], target["instant"])
        for panel in panels(board)
        for target in panel["targets"]
    ]
    return asked + [
        Asked(event["name"], event["expr"], instant=False) for event in board["annotations"]["list"]
    ]


def variables(board: Board) -> dict[str, Mapping[str, Any]]:
    """The variables of a dashboard by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}
