"""Writes deploy/ci/gate_step.py into the GitLab template, which cannot bring a file along."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
STEP = HERE.parent / "gate_step.py"
TEMPLATE = HERE / "em-gate.gitlab-ci.yml"
INDENT = " " * 6
BEGIN, END = "<<'END-OF-STEP'\n", f"{INDENT}END-OF-STEP\n"


def carrying(template: str, step: str) -> str:
    """The template with this text between its two marks."""
    head, _, rest = template.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = (f"{INDENT}{line}" if line.strip() else line for line in step.splitlines(True))
    return head + BEGIN + "".join(lines) + END + tail


if __name__ == "__main__":
    TEMPLATE.write_text(
        carrying(TEMPLATE.read_text(encoding="utf-8"), STEP.read_text(encoding="utf-8")),
        encoding="utf-8",
    )
