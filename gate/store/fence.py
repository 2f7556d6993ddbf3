"""The fence: whoever writes for a run must still hold its submission, in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event, update

from gate.store.tables import SubmissionRow

_HOLDER = "emgate_holder"
_FENCED = "emgate_fenced"


class RunInterruptedError(Exception):
    """The run must stop at once and write nothing more."""


class LeaseLostError(RunInterruptedError):
    """The submission is not held by this run any more."""


class SubmissionEndedError(RunInterruptedError):
    """The submission has ended while it ran: somebody cancelled it."""


@dataclass(frozen=True)
class Holder:
    """Who holds a submission. ``token`` is of one lease; the next one has another."""

    submission_id: str
    token: str


def fenced(engine: Engine, holder: Holder) -> Engine:
    """The same database for writers who hold a submission.

    The first write of every transaction is preceded by a look at the lease which also locks the
    submission's row, so that no other worker can take the submission over before this transaction
    has ended. A transaction of someone who holds it no longer raises :class:`LeaseLostError` and
    leaves nothing behind.
    """
    return engine.execution_options(**{_HOLDER: holder})


def holder_of(engine: Engine) -> Holder | None:
    """Whom the writers of this engine write for; None where there is no fence."""
    found: Holder | None = engine.get_execution_options().get(_HOLDER)
    return found


def install_fence(engine: Engine) -> None:
    """Let an engine and all that :func:`fenced` makes of it look before they write."""
    event.listen(engine, "before_cursor_execute", _look_first)


def _look_first(
    connection: Connection,
    _cursor: Any,
    _statement: str,
    _parameters: Any,
    context: Any,
    _executemany: bool,
) -> None:
    holder: Holder | None = connection.get_execution_options().get(_HOLDER)
    if holder is None or not (context.isinsert or context.isupdate or context.isdelete):
        return
    transaction = connection.get_transaction()
    if connection.info.get(_FENCED) is transaction:
        return
    # Noted first, since the look is itself a write.
    connection.info[_FENCED] = transaction
    held = connection.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == holder.submission_id, SubmissionRow.lease_owner == holder.token)
        .values(lease_owner=holder.token)
    )
    if held.rowcount != 1:
        raise LeaseLostError(f"submission {holder.submission_id} is held by another worker now")
