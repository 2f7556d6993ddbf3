"""The command ``emgate``: this package's commands, and those that others register."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from enum import IntEnum
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from gate.cli.lazy import LazyGroup
from gate.errors import WrongUsageError
from gate.secret_files import load_secret_files

log = logging.getLogger(__name__)

#: Entry point group of further commands: a Typer app or a function each.
COMMAND_GROUP = "emgate.commands"
#: An API process, one of several, that is silent for so long is replaced, in seconds.
_HUNG_SECONDS = 30


class ExitCode(IntEnum):
    """What the exit codes of every command mean."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    BROKEN = 4


app = typer.Typer(
    name="emgate",
    cls=LazyGroup,
    help="Release gate for fine-tuned language models: tests a checkpoint for emergent "
    "misalignment and says pass, fail or inconclusive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"em-gate {version('em-gate')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the port and the metrics.")
    ] = None,
) -> None:
    """Run the HTTP API.

    Example: GATE_CHECKPOINT_ROOTS='["/checkpoints"]' emgate serve --port 8000

    Example: emgate serve --processes 4
    """
    import uvicorn

    from gate.cli.listening import may_listen
    from gate.counting import counting_together
    from gate.hooks.config import load_hooks
    from gate.logs import install_logs
    from gate.settings import settings
    from gate.tracing import start_traces

    current = settings()
    install_logs("emgate-api", current.log_format, current.log_level)
    start_traces("emgate-api")
    host = current.api_host if host is None else host
    processes = current.api_processes if processes is None else processes
    may_listen(host, current)
    # Said once, in one sentence, rather than by each process.
    load_hooks(current.hooks_file)
    with counting_together(processes):
        uvicorn.run(
            "gate.api.process:app_of_process",
            factory=True,
            workers=processes,
            host=host,
            port=current.api_port if port is None else port,
            # Its loggers have no handlers of their own then, and ours gets their records.
            log_config=None,
            # The peer is who connects, whatever a header says: see gate/access/loopback.py.
            proxy_headers=False,
            timeout_worker_healthcheck=_HUNG_SECONDS,
        )


def main() -> None:
    """Run the command line with all registered commands."""
    # Checkpoints lie on disk, and the libraries that read them draw progress bars of their own.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    LazyGroup.entries = {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}
    try:
        load_secret_files(os.environ)
        app()
    except WrongUsageError as error:
        # What a command did not say itself: settings and files that cannot be used.
        typer.echo(f"emgate: {error}", err=True)
        sys.exit(ExitCode.USAGE)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is shown and ends the command)
        # Python's own exit code of a crash is 1, which says that the checkpoint failed.
        _show_crash(error)
        sys.exit(ExitCode.BROKEN)


def _show_crash(error: Exception) -> None:
    """As a record in a service, else as Python does."""
    if logging.getLogger().handlers:
        log.critical("emgate ends: %s", error, exc_info=error)
    else:
        traceback.print_exc()
