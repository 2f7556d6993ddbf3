"""Logs: one handler for our records and those of libraries, as JSON lines or for a terminal.

Code logs with the standard library (``logging.getLogger(__name__)``). Fields that belong to a
record go into ``extra`` and are named in :data:`FIELDS`; those that hold for all that is done for
a request or a run are bound with ``structlog.contextvars``.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.types import EventDict, ExcInfo, Processor

from gate import tracing
from gate.access.keys import redact
from gate.cli.plain import plain
from gate.settings import LogFormat

#: What a record may say of itself beside its message. Other attributes, such as those that
#: libraries set for handlers of their own, are not shown.
FIELDS = frozenset({"submission", "policy", "outcome", "seconds", "engine_pid"})
#: The order in which every line begins.
_FIRST = ("timestamp", "level", "service", "logger", "event")
#: Loggers that say at INFO what nobody needs.
_CHATTY = ("httpx", "httpcore", "alembic")
#: Frames that a structured traceback keeps.
_MOST_FRAMES = 50


def install_logs(
    service: str,
    log_format: LogFormat,
    level: int | str,
    stream: TextIO | None = None,
) -> None:
    """Send the records of this process to its standard error, or to the stream.

    What would be printed in spite of that (warnings, errors that end a thread) becomes records.
    Called again it replaces what it set before.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(service, log_format, stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread


def writes_json(log_format: LogFormat, at_terminal: bool) -> bool:
    """What ``auto`` means: JSON unless a person looks on."""
    return log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not at_terminal)


def formatter(service: str, log_format: LogFormat, at_terminal: bool) -> logging.Formatter:
    """Makes one line of a record, and on a terminal more lines of a traceback."""
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    last: list[Processor]
    if writes_json(log_format, at_terminal):
        frames = ExceptionDictTransformer(
            # Local variables hold what must not be logged: keys, prompts, answers.
            show_locals=False,
            max_frames=_MOST_FRAMES,
            use_rich=False,
        )
        last = [
            structlog.processors.ExceptionRenderer(frames),
            _in_order,
            structlog.processors.JSONRenderer(),
        ]
    else:
        last = [
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=at_terminal, exception_formatter=_indented_traceback, sort_keys=False
            ),
        ]
    return _Formatter(
        foreign_pre_chain=[
            _access_fields,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ExtraAdder(allow=FIELDS),
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _names_service(service),
            _trace_ids,
        ],
        processors=[remove, *last],
        pass_foreign_args=True,
    )


def line_outside_of_log(
    service: str, log_format: LogFormat, at_terminal: bool, event: str
) -> bytes:
    """A line for where nothing may be logged, such as a signal handler."""
    record = logging.LogRecord(__name__, logging.INFO, __file__, 0, event, None, None)
    return f"{formatter(service, log_format, at_terminal).format(record)}\n".encode()


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Whatever a record carries, no API key leaves with it."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _access_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Fields instead of uvicorn's access line; the query, which may hold anything, is left out."""
    arguments = event.pop("positional_args", None)
    record: logging.LogRecord = event["_record"]
    if record.name == "uvicorn.access" and isinstance(arguments, tuple) and len(arguments) == 5:
        client, method, target, _version, status = arguments
        path = str(target).partition("?")[0]
        event.update(client=client, method=method, path=path, status=status)
        event["event"] = f"{method} {path} {status}"
    return event


def _names_service(service: str) -> Processor:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _trace_ids(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if (ids := tracing.traces().ids()) is not None:
        event["trace_id"], event["span_id"] = ids
    return event


def _in_order(_logger: Any, _method: str, event: EventDict) -> EventDict:
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return {**first, **event}


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Whoever's words a record repeats, they neither steer the terminal nor begin a line."""
    return {k: plain(v) if isinstance(v, str) and k != "level" else v for k, v in event.items()}


def _indented_traceback(stream: TextIO, error: ExcInfo) -> None:
    lines = "".join(traceback.format_exception(*error)).splitlines()
    stream.writelines(f"\n    {_kept_indent(line)}" for line in lines)


def _kept_indent(line: str) -> str:
    words = line.lstrip(" ")
    return " " * (len(line) - len(words)) + plain(words)


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is SystemExit or ended.exc_value is None:
        return
    name = ended.thread.name if ended.thread else "unknown"
    logging.getLogger(__name__).critical(
        "the thread %s was ended by an error",
        name,
        exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback),
    )
