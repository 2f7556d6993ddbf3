"""``emgate keys``: make, list and revoke API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gate.access.durations import after
from gate.access.keys import ApiKey
from gate.access.scopes import Scope
from gate.cli.administration import administration, moment, person, show_json, show_table
from gate.store.keys import KeyStore

keys = typer.Typer(
    help="Make, list and revoke API keys. Works on the database of this installation.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="May be given several times; admin includes the others."),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="DURATION", help="Such as 90d, 12h or 2w, or 'never'.")
    ] = "365d",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it once; only a hash of it is kept. Default scopes: submit and read.

    Example: emgate keys create ci-pipeline --scope submit --scope read --expires 90d
    """
    with administration() as database:
        until = None if expires == "never" else after(datetime.now(UTC), expires)
        store = KeyStore(database)
        first = not store.has_any()
        scopes = scope or [Scope.SUBMIT, Scope.READ]
        made, presented = store.create(name, scopes, until, person())
    if as_json:
        show_json({**_document(made), "key": presented.text})
        return
    held = ", ".join(made.scopes)
    typer.echo(
        f"key {made.id} '{made.name}' may {held}; expires: {moment(made.expires_at, 'never')}\n"
        "It is shown this once. Send it as 'Authorization: Bearer KEY'.",
        err=True,
    )
    if first:
        typer.echo("From now on every request to the API needs a key.", err=True)
    typer.echo(presented.text)


@keys.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show all keys with scopes, state and last use; never their secrets."""
    now = datetime.now(UTC)
    with administration() as database:
        found = KeyStore(database).all()
    if as_json:
        show_json([_document(key) for key in found])
        return
    columns = ("id", "name", "scopes", "state", "made", "expires", "last used")
    rows = [
        (
            key.id,
            key.name,
            " ".join(key.scopes),
            key.state(now).value,
            moment(key.created_at),
            moment(key.expires_at, "never"),
            moment(key.last_used_at, "never"),
        )
        for key in found
    ]
    show_table(columns, rows, "no keys: only this machine is served, and everybody on it")


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From emgate keys list.")],
    as_json: AsJson = False,
) -> None:
    """Close a key for good, from the next request on.

    Example: emgate keys revoke 3f9c01ab77de
    """
    with administration() as database:
        ended = KeyStore(database).revoke(key_id, person())
    if as_json:
        show_json(_document(ended))
    else:
        typer.echo(f"key {ended.id} '{ended.name}' is revoked since {moment(ended.revoked_at)}")


def _document(key: ApiKey) -> dict[str, object]:
    return key.model_dump(mode="json") | {"state": key.state(datetime.now(UTC)).value}
