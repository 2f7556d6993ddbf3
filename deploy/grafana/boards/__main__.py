"""Writes the dashboards as JSON files for Grafana's provisioning, and the tables of their page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards.documentation import with_tables
from deploy.grafana.boards.operations import operations
from deploy.grafana.boards.releases import releases
from deploy.grafana.boards.variables import GATE_URL

DIRECTORY = Path(__file__).resolve().parent.parent / "dashboards"


def pages(gate_url: str = GATE_URL) -> dict[str, str]:
    """The JSON of each dashboard by its name; the same for the same code."""
    made = {"releases": releases(gate_url), "operations": operations()}
    return {
        name: json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, board in made.items()
    }


def main() -> None:
    """Write the JSON files, and the tables if a page is named."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.boards", description=__doc__)
    parser.add_argument("--out", type=Path, default=DIRECTORY, help="directory of the JSON files")
    parser.add_argument(
        "--gate-url", default=GATE_URL, help="address of the gate that reports are linked under"
    )
    parser.add_argument("--page", type=Path, help="Markdown page with a table of each's panels")
    options = parser.parse_args()
    made = pages(options.gate_url.rstrip("/"))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, page in made.items():
        (options.out / f"{name}.json").write_text(page, encoding="utf-8")
    if options.page:
        boards = {name: json.loads(page) for name, page in made.items()}
        text = options.page.read_text(encoding="utf-8")
        options.page.write_text(with_tables(text, boards), encoding="utf-8")


if __name__ == "__main__":
    main()
