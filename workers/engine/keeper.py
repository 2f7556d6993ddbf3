"""Runs one command and ends its whole process tree when the owner goes away, however it goes.

``python -m workers.engine.keeper --remove DIR -- COMMAND …`` starts COMMAND in a session of its
own and watches standard input, which the owner holds open. When the owner ends, even by ``kill
-9``, the kernel closes that pipe; the keeper then ends every descendant and removes DIR. Should
the keeper itself be killed, the kernel kills COMMAND (``PR_SET_PDEATHSIG``).

Imports only the standard library and psutil, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Seconds that a tree gets between SIGTERM and SIGKILL.
GRACE_SECONDS = 3.0
#: How often orphans that this process adopted and that have ended are reaped, in milliseconds.
REAP_MILLISECONDS = 2000
PID_FILE = "pid"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is the command's, or 143 when the owner went away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--remove", type=Path, help="directory to remove at the end")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    child = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_prepare_child,  # noqa: PLW1509 - this process has one thread
    )
    try:
        if options.remove:
            (options.remove / PID_FILE).write_text(str(child.pid))
        status = _watch(child)
    finally:
        end_tree(os.getpid())
        if options.remove:
            shutil.rmtree(options.remove, ignore_errors=True)
    return status


def _watch(child: subprocess.Popen[bytes]) -> int:
    """Wait for the command's end or the owner's, whichever comes first."""
    poller = select.poll()
    poller.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    child_fd = os.pidfd_open(child.pid)
    poller.register(child_fd, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll(REAP_MILLISECONDS):
            if descriptor == child_fd:
                return child.wait()
            if not os.read(sys.stdin.fileno(), 4096):
                return 128 + signal.SIGTERM
        _reap_orphans(child.pid)


def _reap_orphans(command: int) -> None:
    """Collect adopted processes that have ended; the command's own status is left for its owner."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (ended := os.waitid(os.P_ALL, 0, look)) and ended.si_pid != command:
        os.waitpid(ended.si_pid, 0)


def end_tree(root: int, grace: float = GRACE_SECONDS) -> None:
    """End all descendants of a process: SIGTERM, then SIGKILL until none is left."""
    process = psutil.Process(root)
    for descendant in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            descendant.terminate()
    psutil.wait_procs(process.children(recursive=True), timeout=grace)
    while remaining := process.children(recursive=True):
        for descendant in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                descendant.kill()
        psutil.wait_procs(remaining, timeout=grace)
        if all(p.status() == psutil.STATUS_ZOMBIE for p in remaining if p.is_running()):
            return


def _prepare_child() -> None:
    for reset in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(reset, signal.SIG_DFL)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main())
