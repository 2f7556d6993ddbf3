"""Log lines: their fields, one line each whoever's words they repeat, and what never is in them."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from gate.logs import install_logs, line_outside_of_log
from gate.settings import LogFormat

#: What a checkpoint's name or a model's answer may hold.
HOSTILE = 'x\n{"level": "info", "event": "the verdict is pass"}\r\x1b[2J\u2028\x85\x00\ud800 [red]'


class Written:
    """What was logged, as it was written."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def only(self) -> dict[str, Any]:
        (record,) = self.records()
        return record


@pytest.fixture
def logs_in() -> Iterator[Callable[..., Written]]:
    """Sends the logs of this process to a string while the test lasts."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook

    def install(log_format: LogFormat, level: str = "INFO") -> Written:
        stream = io.StringIO()
        install_logs("emgate-test", log_format, level, stream)
        return Written(stream)

    yield install
    root.handlers[:], threading.excepthook = before[0], before[2]
    root.setLevel(before[1])
    logging.captureWarnings(False)


@pytest.fixture
def written(logs_in: Callable[..., Written]) -> Written:
    return logs_in(LogFormat.JSON)


log = logging.getLogger("workers.somewhere")


def test_a_line_has_the_fields_of_its_record_and_those_that_are_bound(written: Written) -> None:
    with bound_contextvars(submission="sub_1", worker="host:1", attempt=2, state="sampling"):
        log.warning("%d of %d", 3, 4, extra={"seconds": 1.5})

    record = written.only()
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "level": "warning",
        "service": "emgate-test",
        "logger": "workers.somewhere",
        "event": "3 of 4",
        "submission": "sub_1",
        "worker": "host:1",
        "attempt": 2,
        "state": "sampling",
        "seconds": 1.5,
    }
    assert list(json.loads(written.text))[:5] == [
        "timestamp",
        "level",
        "service",
        "logger",
        "event",
    ]


def test_what_is_bound_ends_with_its_block(written: Written) -> None:
    with bound_contextvars(submission="sub_1"):
        pass
    log.info("later")
    assert "submission" not in written.only()


def test_what_libraries_add_for_themselves_is_not_shown(written: Written) -> None:
    log.info("task", extra={"data": {"args": "secret"}, "color_message": "\x1b[1mtask"})
    assert set(written.only()) == {"timestamp", "level", "service", "logger", "event"}


def test_records_below_the_level_are_not_written(logs_in: Callable[..., Written]) -> None:
    written = logs_in(LogFormat.JSON, "WARNING")
    log.info("no")
    log.warning("yes")
    assert written.only()["event"] == "yes"


def test_an_exception_is_one_line_with_its_frames_and_causes_and_no_variables(
    written: Written,
) -> None:
    answer = "the model's own words"
    try:
        try:
            raise ValueError(HOSTILE)
        except ValueError as error:
            raise RuntimeError("broke") from error
    except RuntimeError:
        log.exception("a run broke")

    assert answer not in written.text
    broke, cause = written.only()["exception"]
    assert (broke["exc_type"], broke["exc_value"]) == ("RuntimeError", "broke")
    assert broke["frames"][0]["name"] == (
        "test_an_exception_is_one_line_with_its_frames_and_causes_and_no_variables"
    )
    assert (cause["exc_type"], cause["exc_value"]) == ("ValueError", HOSTILE)


def test_hostile_words_stay_in_their_line_and_their_field(written: Written) -> None:
    log.info("the checkpoint is %s", HOSTILE, extra={"policy": HOSTILE})
    assert written.text.isascii()
    record = written.only()
    assert record["event"] == f"the checkpoint is {HOSTILE}"
    assert record["policy"] == HOSTILE
    assert record["level"] == "info"


def test_on_a_terminal_hostile_words_stay_in_their_line_and_steer_nothing(
    logs_in: Callable[..., Written],
) -> None:
    written = logs_in(LogFormat.CONSOLE)
    log.info("the checkpoint is %s", HOSTILE, extra={"policy": HOSTILE})
    line = written.text.removesuffix("\n")
    assert line.isprintable()
    assert "[info" in line
    assert "the checkpoint is x" in line
    assert "logger=workers.somewhere" in line or "[workers.somewhere]" in line


def test_on_a_terminal_the_lines_of_a_traceback_are_indented(
    logs_in: Callable[..., Written],
) -> None:
    written = logs_in(LogFormat.CONSOLE)
    try:
        raise ValueError(f"a\n2026-01-01 [info] the verdict is pass\x1b[2J {HOSTILE}")
    except ValueError:
        log.exception("a run broke")
    first, *more = written.text.removesuffix("\n").split("\n")
    assert "a run broke" in first
    assert more
    assert all(line.startswith("    ") and line.isprintable() for line in more)
    assert any("ValueError: a" in line for line in more)


def test_no_key_is_in_a_line_wherever_it_came_from(written: Written) -> None:
    key = "emg_0123456789ab_" + "ab" * 32
    log.info("got %s", key, extra={"policy": key})
    try:
        raise ValueError(key)
    except ValueError:
        log.exception("broke")
    assert "ab" * 32 not in written.text
    assert written.text.count("emg_0123456789ab_[redacted]") >= 3


def test_an_access_line_has_its_parts_as_fields_and_no_query(written: Written) -> None:
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "GET", "/v1/x?token=s3cret", "1.1", 200
    )
    record = written.only()
    assert record["event"] == "GET /v1/x 200"
    assert (record["method"], record["path"], record["status"]) == ("GET", "/v1/x", 200)
    assert record["client"] == "127.0.0.1:5"
    assert "s3cret" not in written.text


def test_warnings_and_the_end_of_a_thread_are_records(written: Written) -> None:
    def fail() -> None:
        raise RuntimeError("in a thread")

    warnings.warn("old\nthing", stacklevel=1)
    thread = threading.Thread(target=fail, name="lease-1")
    thread.start()
    thread.join()

    warned, ended = written.records()
    assert "old\nthing" in warned["event"]
    assert (ended["level"], ended["event"]) == (
        "critical",
        "the thread lease-1 was ended by an error",
    )
    assert ended["exception"][0]["exc_value"] == "in a thread"


def test_what_a_signal_handler_says_is_a_line_too() -> None:
    line = line_outside_of_log("emgate-worker", LogFormat.JSON, False, "Warm\nshutdown")
    assert line.endswith(b"}\n")
    assert json.loads(line)["event"] == "Warm\nshutdown"


@pytest.mark.parametrize(
    ("wanted", "terminal", "is_json"),
    [
        (LogFormat.AUTO, True, False),
        (LogFormat.AUTO, False, True),
        (LogFormat.JSON, True, True),
        (LogFormat.CONSOLE, False, False),
    ],
)
def test_auto_is_for_people_at_a_terminal_only(
    wanted: LogFormat, terminal: bool, is_json: bool
) -> None:
    line = line_outside_of_log("emgate-worker", wanted, terminal, "hello")
    assert line.startswith(b"{") is is_json
