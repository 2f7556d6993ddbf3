"""An engine's lines as records: their level, and the submission that ran when they were written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from workers.engine.log import LONGEST_LINE, EngineLog, level_of, passing_on, reason_in

Passed = list[tuple[str, int, str]]


@pytest.fixture
def passed() -> Iterator[Passed]:
    """Submission, level and text of what was logged, in order."""
    seen: Passed = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            submission = str(get_contextvars().get("submission", "none"))
            seen.append((submission, record.levelno, record.getMessage()))

    logger = logging.getLogger("workers.engine.log")
    logger.setLevel(logging.DEBUG)
    handler = Keep()
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("INFO 11-25 18:35:11 [api_server.py:10] started", logging.INFO),
        ("(EngineCore pid=12) WARNING 11-25 18:35:11 [core.py:3] slow", logging.WARNING),
        ("(APIServer pid=7) ERROR 11-25 18:35:11 [x.py:1] Traceback", logging.ERROR),
        ("INFORMATION of no level", logging.INFO),
        ("no level, and an ERROR later", logging.INFO),
        ("", logging.INFO),
    ],
)
def test_a_line_has_the_level_that_it_names(line: str, level: int) -> None:
    assert level_of(line) == level


#: As vLLM 0.26 wrote it on a machine where a package was missing; shortened.
DEATH_OF_A_CORE = """\
(EngineCore pid=106) ERROR 11-26 13:49:10 [core.py:1330]     from flashinfer import (
(EngineCore pid=106) ERROR 11-26 13:49:10 [core.py:1330] ModuleNotFoundError: No module named 'x'
(EngineCore pid=106) ModuleNotFoundError: No module named 'x'
(APIServer pid=94)   File "core_client.py", line 573, in __init__
(APIServer pid=94)     raise RuntimeError(
(APIServer pid=94) RuntimeError: Engine core initialization failed. See root cause above.
  warnings.warn('resource_tracker: There appear to be %d '
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DEATH_OF_A_CORE, "ModuleNotFoundError: No module named 'x'"),
        (
            "a\nRuntimeError: failed. See root cause above.",
            "RuntimeError: failed. See root cause above.",
        ),
        ("x.OutOfMemoryError: CUDA out of memory.\nbye", "OutOfMemoryError: CUDA out of memory."),
        ("    raise ValueError(\nValueError", "ValueError"),
        ("started\nKilled", "Killed"),
        ("started\nstopped\n\n", "stopped"),
        ("", "it left no log"),
    ],
)
def test_the_reason_of_a_death_is_the_last_that_is_one_itself(text: str, reason: str) -> None:
    assert reason_in(text) == reason


def test_lines_are_passed_on_once_and_whole(tmp_path: Path, passed: Passed) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"first\nsec")
    engine_log = EngineLog(file)
    engine_log.pass_on()
    with file.open("ab") as stream:
        stream.write(b"ond %s \xff\n\n" + b"x" * (LONGEST_LINE + 1) + b"\nlast words")
    engine_log.pass_on()
    engine_log.pass_on()
    assert [text for _, _, text in passed] == ["first", "second %s \ufffd", "x" * LONGEST_LINE]

    engine_log.close()
    engine_log.close()
    engine_log.pass_on()
    assert [text for _, _, text in passed][3:] == ["last words"]


def test_each_line_belongs_to_the_submission_that_ran_when_it_was_written(
    tmp_path: Path, passed: Passed
) -> None:
    file = tmp_path / "log"
    file.touch()
    engine_log = EngineLog(file)

    def write(words: str) -> None:
        with file.open("a") as stream:
            stream.write(f"{words}\n")

    for submission in ("sub_1", "sub_2"):
        write(f"before {submission}")
        with bound_contextvars(submission=submission), passing_on(lambda: engine_log):
            write(f"in {submission}")
    engine_log.close()

    assert [(submission, text) for submission, _, text in passed] == [
        ("none", "before sub_1"),
        ("sub_1", "in sub_1"),
        ("none", "before sub_2"),
        ("sub_2", "in sub_2"),
    ]


def test_a_run_without_an_engine_passes_nothing_on(passed: Passed) -> None:
    with passing_on(lambda: None):
        pass
    assert passed == []
