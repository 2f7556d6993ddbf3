"""A process loads what it needs and no more; completion; a crash is no verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = ["torch", "vllm", "transformers", "sqlalchemy", "celery"]
PROBE = """
import json, sys
from gate.cli.app import main
try:
    main()
finally:
    print(json.dumps([m for m in {heavy} if m in sys.modules]), file=sys.stderr)
"""


def emgate(*arguments: str, code: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    code = code or "from gate.cli.app import main; main()"
    setting = f"import sys; sys.argv = {['emgate', *arguments]!r}\n"
    return subprocess.run(
        [sys.executable, "-c", setting + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("command", ["status", "submit", "verdict"])
def test_commands_of_the_api_load_no_engine_and_no_database(command: str) -> None:
    done = emgate(command, "--help", code=PROBE.format(heavy=HEAVY))
    assert done.returncode == 0
    assert "Example: emgate" in done.stdout
    assert json.loads(done.stderr.splitlines()[-1]) == []


@pytest.mark.parametrize("module", ["workers.celery_app", "gate.api.process"])
def test_services_start_without_models_and_distributions(module: str) -> None:
    heavy = ["torch", "vllm", "transformers", "scipy.stats"]
    code = f"import json, sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert emgate(code=code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("line", "word", "offered"),
    [("emgate sta", "1", "status"), ("emgate list --out", "2", "--outcome")],
)
def test_the_shell_completes_commands_and_options(line: str, word: str, offered: str) -> None:
    asked = {"_EMGATE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": word}
    assert offered in emgate(**asked).stdout.split()


def test_a_crash_ends_with_the_code_of_a_broken_gate() -> None:
    crash = """
from gate.cli import app
@app.app.command()
def crash() -> None:
    raise RuntimeError("no such chip")
app.main()
"""
    done = emgate("crash", code=crash)
    assert done.returncode == 4
    assert "no such chip" in done.stderr
