"""Other people's words on a terminal: shown as they are, and unable to steer it."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text


def plain(text: str) -> str:
    """One line in which nothing steers a terminal."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def plain_cells(*texts: str) -> list[Text]:
    """Cells that are shown and not read as markup."""
    return [Text(plain(text)) for text in texts]


def folding_table(*columns: str, whole_first: bool = False) -> Table:
    """A table whose cells are folded, not cut; with ``whole_first`` the first column is neither."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=whole_first and number == 0)
    return table
