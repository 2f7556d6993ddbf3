"""The table of all metrics in docs/metrics.md, from the code.

``python -m gate.metrics.table FILE`` writes it anew between its two marks in the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gate.metrics
import gate.metrics.names_of_record  # noqa: F401  (both fill the catalogue)
from gate.metrics.catalogue import CATALOGUE, Described, Where

BEGIN = "<!-- from the code: make docs-tables -->"
END = "<!-- end of what is from the code -->"
_TITLES = {
    Where.RECORD: "Of the record, on the page of every API process",
    Where.API: "Of the API",
    Where.WORKER: "Of workers",
    Where.BOTH: "Of both",
}


def table() -> str:
    """Markdown: one table for each kind of page, metrics by name."""
    parts = []
    for where, title in _TITLES.items():
        found = sorted((d for d in CATALOGUE if d.where is where), key=lambda each: each.name)
        head = [f"### {title}", "", "| name | type | labels | unit | meaning |"]
        parts.append("\n".join([*head, "| --- | --- | --- | --- | --- |", *map(_row, found)]))
    return "\n\n".join(parts)


def inserted(page: str) -> str:
    """The page with the table of now between its marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    if page.find(BEGIN) < 0 or page.find(END) < page.find(BEGIN):
        raise ValueError(f"the page has no '{BEGIN}' with '{END}' after it")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _row(metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {metric.help} |"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(inserted(file.read_text(encoding="utf-8")), encoding="utf-8")
