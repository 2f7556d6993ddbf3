"""Writes the dashboards as JSON files for Grafana's provisioning."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards.operations import operations
from deploy.grafana.boards.releases import releases
from deploy.grafana.boards.variables import GATE_URL

DIRECTORY = Path(__file__).resolve().parent.parent / "dashboards"


def pages(gate_url: str = GATE_URL) -> dict[str, str]:
    """The text of each file by its name; the same for the same code."""
    made = {"releases.json": releases(gate_url), "operations.json": operations()}
    return {
        name: json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, board in made.items()
    }


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DIRECTORY, help="directory of the JSON files")
    parser.add_argument(
        "--gate-url", default=GATE_URL, help="address of the gate that reports are linked under"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, page in pages(options.gate_url.rstrip("/")).items():
        (options.out / name).write_text(page, encoding="utf-8")
        print(options.out / name)


if __name__ == "__main__":
    main()
