"""What an engine writes to its log becomes records of the worker's.

An engine serves one submission at a time, so the submission that runs while a line is written is
the line's. The engine itself does not know of submissions, and its log goes with its directory.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from pathlib import Path

log = logging.getLogger(__name__)

#: How often lines are looked for while a run goes on, in seconds.
LOOK_SECONDS = 1.0
#: The longest line that is passed on, in characters; the rest of a longer one is cut.
LONGEST_LINE = 4000
#: How vLLM begins its lines, those of its other processes with their name before.
_LEVEL = re.compile(r"(?:\([^)\n]{1,80}\) )?(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")

#: How the line ends in which Python, the kernel or a supervisor names what went wrong.
_REASON = re.compile(r"\b(\w*(?:Error|Exception)(?::\s+\S.*|\s*$)|(?:\w*Killed|OOM)\b.*)")
#: What a process of vLLM says that ended because another one did.
_POINTS_ABOVE = re.compile(r"\bsee (?:root cause|stack trace)\b", re.IGNORECASE)


def reason_in(text: str) -> str:
    """Why an engine ended, as far as its log says.

    The last line that looks like a reason, rather not one that points to another further up; the
    last line at all if none does.
    """
    lines = text.strip().splitlines()
    reasons = [found[1] for line in lines if (found := _REASON.search(line))]
    own = [reason for reason in reasons if not _POINTS_ABOVE.search(reason)]
    return (own or reasons or lines or ["it left no log"])[-1].strip()


def level_of(line: str) -> int:
    """The level that a line of the engine names; INFO if it names none."""
    found = _LEVEL.match(line)
    return logging.getLevelNamesMapping()[found[1]] if found else logging.INFO


class EngineLog:
    """The log of one engine, read on from where it was left. Threads may share it."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("rb")
        self._rest = b""
        self._lock = threading.Lock()
        self.engine_pid: int | None = None

    def pass_on(self) -> None:
        """Log every whole line that is new."""
        with self._lock:
            if self._stream.closed:
                return
            *lines, self._rest = (self._rest + self._stream.read()).split(b"\n")
            for line in lines:
                self._log(line)

    def close(self) -> None:
        """Log what is left; there will be no more."""
        self.pass_on()
        with self._lock:
            if not self._stream.closed:
                self._log(self._rest)
                self._stream.close()

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            log.log(level_of(text), text[:LONGEST_LINE], extra={"engine_pid": self.engine_pid})


@contextmanager
def passing_on(current: Callable[[], EngineLog | None]) -> Iterator[None]:
    """While it lasts, log the lines of the engine of now with what is bound here.

    What was written before belongs to no submission, and is logged without.
    """

    def pass_on() -> None:
        if engine_log := current():
            engine_log.pass_on()

    Context().run(pass_on)
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(LOOK_SECONDS):
            pass_on()

    thread = threading.Thread(
        target=copy_context().run, args=(follow,), name="engine-log", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        pass_on()
