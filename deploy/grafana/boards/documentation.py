"""The tables of panels in docs/grafana.md, from the dashboards' JSON."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.grafana.boards.reading import Board, rows

_KINDS = {
    "stat": "number",
    "timeseries": "over time",
    "table": "table",
    "bargauge": "bars",
    "state-timeline": "strips",
}


def table(board: Board) -> str:
    """The panels of one dashboard with the first sentence on each, as Markdown."""
    lines = ["| row | panel | kind | what it shows |", "| --- | --- | --- | --- |"]
    for heading, under in rows(board):
        for place, panel in enumerate(under):
            cells = (
                "" if place else heading,
                panel["title"],
                _KINDS[panel["type"]],
                panel["description"].partition(". ")[0].removesuffix("."),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_tables(page: str, boards: Mapping[str, Board]) -> str:
    """The page with the table of each dashboard made anew between its two markers.

    Raises:
        ValueError: a marker is missing; the message names it.
    """
    for name, board in boards.items():
        begin, end = f"<!-- panels of {name} -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"the page lacks '{begin}' or, after it, '{end}'")
        page = f"{before}{begin}\n{table(board)}\n{end}{after}"
    return page
