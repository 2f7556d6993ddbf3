"""``emgate up``: the whole service on one machine, in the foreground."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from gate.cli.app import ExitCode
from gate.errors import GateError, WrongUsageError
from gate.settings import Settings, settings
from workers.local_service import LocalService
from workers.supervisor import Supervisor

LOOK_SECONDS = 0.5


class _LocalParts:
    """The children of a local service, for the supervisor."""

    def __init__(self, service: LocalService) -> None:
        self._service = service

    def dead(self) -> list[str]:
        children = self._service.children.items()
        return [name for name, child in children if child.poll() is not None]

    def start(self, name: str) -> None:
        self._service.stop_part(name)
        starts = {
            "broker": self._service.start_broker,
            "api": self._service.start_api,
            "worker": self._service.start_worker,
            "judging": self._service.start_judging,
            "notifier": self._service.start_notifier,
        }
        starts[name]()


def up(
    port: Annotated[int | None, typer.Option(help="Port of the API; 0 takes a free one.")] = None,
    checkpoint_root: Annotated[
        list[Path] | None,
        typer.Option(
            help="Checkpoints must lie under it. Repeatable. Default: GATE_CHECKPOINT_ROOTS, "
            "else the current directory."
        ),
    ] = None,
) -> None:
    """Run broker, API and worker here until Ctrl-C; nothing else has to be installed or started.

    Exit codes: 0 stopped, 2 wrong usage, 4 a part did not start or died too often.

    Example: emgate up --checkpoint-root /checkpoints --port 8000
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        wanted = _settings(settings(), port, checkpoint_root or [])
        # Without a hooks file there is nobody to send messages to.
        with LocalService(wanted, notifier=wanted.hooks_file is not None) as service:
            _greet(service)
            supervisor = Supervisor(_LocalParts(service), _say)
            while True:
                time.sleep(LOOK_SECONDS)
                supervisor.look()
    except KeyboardInterrupt:
        _say("everything is stopped")
    except WrongUsageError as error:
        _say(str(error))
        sys.exit(ExitCode.USAGE)
    except (GateError, OSError) as error:
        _say(str(error))
        sys.exit(ExitCode.BROKEN)


def _settings(current: Settings, port: int | None, roots: list[Path]) -> Settings:
    """The settings with what was asked.

    Raises:
        WrongUsageError: a root is not a directory, or the port is taken.
    """
    roots = roots or current.checkpoint_roots or [Path.cwd()]
    for root in roots:
        if not root.is_dir():
            raise WrongUsageError(f"{root} is not a directory")
    api_port = current.api_port if port is None else port
    # What answers at a port that is taken is another gate, which would be mistaken for this one.
    if not _free(current.api_host, api_port):
        raise WrongUsageError(f"port {api_port} is taken: give another one with --port")
    metrics = current.worker_metrics_port
    return current.model_copy(
        update={
            "checkpoint_roots": [root.resolve() for root in roots],
            "api_port": api_port,
            "worker_metrics_port": metrics if _free(current.worker_metrics_host, metrics) else 0,
        }
    )


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _greet(service: LocalService) -> None:
    roots = service.settings.checkpoint_roots
    _say(f"the gate is at {service.url} (documentation: {service.url}/docs)")
    _say(f"logs are in {service.logs}")
    _say(f"submit: GATE_URL={service.url} emgate submit {roots[0]}/MODEL --base … --wait")
    _say("Ctrl-C stops everything")


def _say(text: str) -> None:
    typer.echo(f"emgate up: {text}", err=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
