"""The audit log: who changed what. Rows are added and completed, never changed or removed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import BaseModel, Field
from sqlalchemy import Connection, Engine, Table, bindparam, insert, select, update
from sqlalchemy.orm import Session

from gate.access.keys import redact
from gate.store.access_tables import AuditRow

log = logging.getLogger(__name__)

_AUDIT = cast(Table, AuditRow.__table__)
# Made once: what is cached of a statement stays with it.
_NEW_ROW = insert(_AUDIT)
#: Longest text of a row, in characters; what is longer is cut.
TEXT_MAX = 500


@dataclass(frozen=True)
class AuditEntry:
    """A call that changes something. Texts are cut, and keys are cut out of them, when stored."""

    actor: str
    action: str
    target: str | None = None
    status: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def columns(self) -> dict[str, Any]:
        """The columns of the row."""
        return {
            "at": self.at,
            "actor": _clean(self.actor),
            "action": _clean(self.action),
            "target": None if self.target is None else _clean(self.target),
            "status": self.status,
            "details": {
                key: _clean(value) if isinstance(value, str) else value
                for key, value in self.details.items()
            },
        }

    def row(self) -> AuditRow:
        """The row, for callers that write it in the transaction of the change itself."""
        return AuditRow(**self.columns())


class PendingEntry:
    """The entry of a call whose route writes it in the transaction of the change itself.

    So the row and the change are there together or not at all, for one flush to disk.
    """

    def __init__(self, entry: AuditEntry, status: int) -> None:
        """``status`` is that of a call which makes the change."""
        self.entry = entry
        #: The id of the row once its transaction is committed.
        self.row_id: int | None = None
        self.status = status

    def write(self, connection: Connection, target: str) -> int:
        """Write the row into the transaction that makes ``target``, and return its id."""
        return _insert(connection, replace(self.entry, target=target, status=self.status))


class AuditRecord(BaseModel):
    """One row of the audit log."""

    id: int
    at: datetime
    actor: str = Field(description="key:NAME:ID, cli:USER, local (no keys exist) or anonymous.")
    action: str = Field(description="Such as submission.create; METHOD PATH for what has no name.")
    target: str | None = Field(description="What was worked on.")
    status: int | None = Field(
        description="HTTP status; null for the command line, and where the API died meanwhile."
    )
    details: dict[str, Any]


@dataclass(frozen=True)
class _Ending:
    row_id: int
    status: int
    target: str | None


class _Ticket:
    """One writer's wish, and how it ended."""

    def __init__(self, entry: AuditEntry) -> None:
        self.entry = entry
        self.done = False
        self.row_id = 0
        self.error: BaseException | None = None


class AuditLog:
    """Writes and reads the audit log.

    Writers in several threads share transactions: one commits for all that wait, so that the log
    costs a busy API less than one flush to disk per call.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[_Ticket] = []
        self._endings: list[_Ending] = []
        self._list_lock = threading.Lock()
        self._leader = threading.Lock()
        # Its thread ends with the process, after what it was given.
        self._later = ThreadPoolExecutor(1, "audit")

    def add(self, entry: AuditEntry) -> int:
        """Write an entry and return its id; it is on disk when this returns."""
        return self._commit(entry)

    def complete(self, row_id: int, status: int, target: str | None = None) -> None:
        """Note soon how the call ended, and on what if only its answer says so."""
        with self._list_lock:
            self._endings.append(_Ending(row_id, status, target))
            if len(self._endings) > 1:
                # Whoever takes the first takes this one too.
                return
        self.later(self._write_endings)

    def later(self, write: Callable[[], object]) -> None:
        """Let a thread write what nobody waits for; what fails is logged."""
        self._later.submit(_logged, write)

    def settle(self) -> None:
        """Wait until what was to be written later is written."""
        self._later.submit(_nothing).result()

    def newest(
        self,
        limit: int,
        before: int | None = None,
        since: datetime | None = None,
        actor: str | None = None,
        action: str | None = None,
    ) -> list[AuditRecord]:
        """Rows with an id below ``before``, newest first, filtered."""
        self.settle()
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.id < before)
        if since is not None:
            query = query.where(AuditRow.at >= since)
        if actor is not None:
            query = query.where(AuditRow.actor == actor)
        if action is not None:
            query = query.where(AuditRow.action == action)
        with Session(self._engine) as session:
            return [
                AuditRecord(
                    id=row.id,
                    at=row.at,
                    actor=row.actor,
                    action=row.action,
                    target=row.target,
                    status=row.status,
                    details=row.details,
                )
                for row in session.scalars(query)
            ]

    def _commit(self, entry: AuditEntry) -> int:
        ticket = _Ticket(entry)
        with self._list_lock:
            self._waiting.append(ticket)
        with self._leader:
            # Whoever led before may have written this one too.
            if not ticket.done:
                with self._list_lock:
                    batch, self._waiting = self._waiting, []
                self._write(batch)
        if ticket.error is not None:
            raise ticket.error
        return ticket.row_id

    def _write(self, batch: Sequence[_Ticket]) -> None:
        try:
            # Plain statements: on this path the unit of work costs more than they do.
            with self._engine.begin() as connection:
                for ticket in batch:
                    ticket.row_id = _insert(connection, ticket.entry)
        except BaseException as error:
            for ticket in batch:
                ticket.error = error
            raise
        finally:
            for ticket in batch:
                ticket.done = True

    def _write_endings(self) -> None:
        with self._list_lock:
            endings, self._endings = self._endings, []
        with self._engine.begin() as connection:
            _complete(connection, endings)


def _insert(connection: Connection, entry: AuditEntry) -> int:
    added = connection.execute(_NEW_ROW, entry.columns())
    (row_id,) = added.inserted_primary_key or (0,)
    return int(row_id)


def _logged(write: Callable[[], object]) -> None:
    try:
        write()
    except Exception:  # nobody waits for it who could be told
        # The calls themselves are done and their rows are there; only how they ended is missing.
        log.exception("how calls ended was not recorded")


def _nothing() -> None:
    """What is waited for when all before it is done."""


def _complete(connection: Connection, endings: Sequence[_Ending]) -> None:
    change = update(_AUDIT).where(_AUDIT.c.id == bindparam("row"))
    plain = [{"row": e.row_id, "ended": e.status} for e in endings if e.target is None]
    named = [
        {"row": e.row_id, "ended": e.status, "on": _clean(e.target)}
        for e in endings
        if e.target is not None
    ]
    if plain:
        connection.execute(change.values(status=bindparam("ended")), plain)
    if named:
        connection.execute(change.values(status=bindparam("ended"), target=bindparam("on")), named)


def _clean(text: str) -> str:
    """A text without keys, without what a database cannot store, and not longer than TEXT_MAX."""
    return redact(text).replace("\0", "\\0").encode("utf-8", "replace").decode()[:TEXT_MAX]
