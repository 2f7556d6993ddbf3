"""``emgate webhooks``: who is told, what was delivered, dead letters, and a test message."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gate.cli.app import ExitCode
from gate.cli.plain import folding_table, plain, plain_cells
from gate.errors import GateError, WrongUsageError
from gate.hooks.config import Hooks, load_hooks
from gate.settings import Settings, settings
from gate.store.announcing import DEAD, DELIVERED, PENDING, WAITING
from gate.store.database import open_database
from gate.store.deliveries import Delivery, DeliveryRecord
from workers.notify.outcome import Result

webhooks = typer.Typer(
    help="Show endpoints and deliveries, send dead letters again, test an endpoint.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
#: Most deliveries that one call starts again.
MOST_RESENT = 10_000


class DeliveryState(StrEnum):
    """States to filter by."""

    WAITING = WAITING
    PENDING = PENDING
    DELIVERED = DELIVERED
    DEAD = DEAD


@webhooks.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show the endpoints of the hooks file, with their events and deliveries by state.

    Example: GATE_HOOKS_FILE=hooks.yaml emgate webhooks list
    """
    hooks, database = _open()
    counts = DeliveryRecord(database).counts()
    rows: list[dict[str, Any]] = [
        {
            "name": endpoint.name,
            "url": endpoint.url,
            "events": [event.value for event in endpoint.events],
            "deliveries": counts.pop(endpoint.name, {}),
        }
        for endpoint in hooks.send
    ]
    rows += [
        {"name": name, "url": None, "events": [], "deliveries": counted}
        for name, counted in sorted(counts.items())
    ]
    if as_json:
        _print_json({"endpoints": rows})
        return
    table = folding_table("endpoint", "url", "events", *(state.value for state in DeliveryState))
    for row in rows:
        counted = row["deliveries"]
        table.add_row(
            *plain_cells(str(row["name"]), str(row["url"] or "-"), ", ".join(row["events"])),
            *plain_cells(*(str(counted.get(state.value, 0)) for state in DeliveryState)),
        )
    Console().print(table)


@webhooks.command()
def deliveries(
    state: Annotated[DeliveryState | None, typer.Option(help="Only those in this state.")] = None,
    target: Annotated[str | None, typer.Option(help="Only those to this endpoint.")] = None,
    submission: Annotated[str | None, typer.Option(help="Only those of this submission.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_RESENT)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the delivery log, newest first. Dead letters are those in state dead.

    Example: emgate webhooks deliveries --state dead --json
    """
    _, database = _open()
    found = DeliveryRecord(database).listed(
        limit, state.value if state else None, target, submission
    )
    if as_json:
        _print_json({"deliveries": [delivery.model_dump(mode="json") for delivery in found]})
        return
    table = folding_table(
        "id", "target", "event", "submission", "state", "attempts", "next", "last"
    )
    for one in found:
        table.add_row(
            *plain_cells(str(one.id), one.target, one.event, one.submission_id, one.state),
            *plain_cells(str(one.attempts), _time(one.next_attempt_at), _last(one)),
        )
    Console().print(table)


@webhooks.command()
def resend(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids of deliveries.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters.")] = False,
    target: Annotated[str | None, typer.Option(help="With --dead: of this endpoint.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send deliveries again, from their first attempt on, under the ids that receivers know.

    Exit codes: 0 all that were named wait to be sent, 2 one of them cannot be sent again.
    Example: emgate webhooks resend --dead --target deploy-bot
    """
    if bool(ids) == dead or (target is not None and not dead):
        _stop("name deliveries by id, or give --dead, with --target if you like", ExitCode.USAGE)
    _, database = _open()
    record = DeliveryRecord(database)
    wanted = ids or [one.id for one in record.listed(MOST_RESENT, DEAD, target)]
    started = record.resend(wanted)
    if as_json:
        _print_json({"resent": started})
    else:
        typer.echo(f"{len(started)} of {len(set(wanted))} deliveries wait to be sent again")
    missing = sorted(set(wanted) - set(started))
    if missing:
        shown = ", ".join(str(one) for one in missing)
        _stop(f"unknown, or waiting for its submission to end: {shown}", ExitCode.USAGE)


@webhooks.command("test")
def send_test(
    name: Annotated[str, typer.Argument(help="Name of an endpoint in the hooks file.")],
    as_json: AsJson = False,
) -> None:
    """Send one signed message of type webhook.test to an endpoint, now and once.

    Exit codes: 0 the endpoint took it, 2 it is not configured, 4 it did not take it.
    Example: emgate webhooks test deploy-bot
    """
    from workers.notify.delivering import Notifier

    hooks, database = _open()
    if hooks.endpoint(name) is None:
        _stop(f"the hooks file has no endpoint '{name}'", ExitCode.USAGE)
    payload = {
        "type": "webhook.test",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": {"endpoint": name},
    }
    message_id = f"msg_{uuid.uuid4().hex}"
    outcome = Notifier(settings(), database, hooks).send_to_endpoint(name, message_id, payload)
    if as_json:
        _print_json(
            {
                "result": outcome.result.value,
                "status": outcome.status,
                "error": outcome.error or None,
                "message_id": message_id,
            }
        )
    if outcome.result is Result.UNCONFIGURED:
        _stop(outcome.error, ExitCode.USAGE)
    if outcome.result is not Result.DELIVERED:
        _stop(f"{name} did not take the message: {outcome.error}", ExitCode.BROKEN)
    if not as_json:
        typer.echo(f"{name} answered {outcome.status} to {message_id}")


def _open() -> tuple[Hooks, Engine]:
    try:
        current: Settings = settings()
        return load_hooks(current.hooks_file), open_database(current.database)
    except (WrongUsageError, ValidationError) as error:
        _stop(str(error), ExitCode.USAGE)
    except (GateError, SQLAlchemyError, OSError) as error:
        _stop(f"the database cannot be opened: {error}", ExitCode.BROKEN)


def _last(one: Delivery) -> str:
    if one.state == DELIVERED:
        return f"{one.last_status} at {_time(one.delivered_at)}"
    return one.last_error or "-"


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}" if at else "-"


def _stop(message: str, code: ExitCode) -> NoReturn:
    typer.echo(plain(f"emgate: {message}"), err=True)
    sys.exit(code)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2))
