"""Who is let in: key, scope and rate of one request, and its row in the audit log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gate.access.keys import ApiKey, KeyState, parse_header
from gate.access.loopback import why_not_local
from gate.access.scopes import action_of, changes_state, includes, scope_needed
from gate.access.scrapers import Scrapers
from gate.metrics import REFUSED
from gate.rate_limits import KeyLimits
from gate.settings import Settings
from gate.store.audit import AuditEntry, AuditLog, PendingEntry
from gate.store.keys import KeyStore, due
from gate.store.waivers import WaiverStore

log = logging.getLogger(__name__)

METRICS_PATH = "/metrics"
LOCAL = "local"
ANONYMOUS = "anonymous"
#: Calls whose row is written in the transaction of the change, and how those that make it end.
WRITTEN_WITH_CHANGE = {"submission.create": 202}
#: Refused attempts that one process writes down per minute. More are counted in the metrics only:
#: whoever has no key must not fill the disk.
REFUSALS_PER_MINUTE = 120

HOW = "Send 'Authorization: Bearer emg_…'; keys are made with 'emgate keys create'."


@dataclass(frozen=True)
class Call:
    """What admission looks at. Header names are lower-case; the headers may hold a secret."""

    method: str
    path: str
    peer: str | None
    headers: Mapping[str, str] = field(repr=False)

    def details(self, **more: str) -> dict[str, str]:
        """What the audit log says of a call besides its name."""
        return {"method": self.method, "path": self.path, "peer": self.peer or "", **more}


@dataclass(frozen=True)
class Admitted:
    """A call that goes on to its route.

    Attributes:
        actor: who acts, for records.
        key: the key used, if any.
        audit_row: the row to complete when the call has ended, if there is one.
        pending: the entry that the route writes together with its change, if it does.
        is_open: no key was asked for; the route itself knows whether the caller is genuine.
    """

    actor: str
    key: ApiKey | None = None
    audit_row: int | None = None
    pending: PendingEntry | None = None
    is_open: bool = False


@dataclass(frozen=True)
class Refused:
    """A call that is turned away, as the problem that answers it."""

    status: int
    title: str
    detail: str
    reason: str
    actor: str = ANONYMOUS
    headers: Mapping[str, str] = field(default_factory=dict)


class Admission:
    """Decides on calls. ``begin`` blocks on the database; keep it off the event loop."""

    def __init__(self, settings: Settings, database: Engine) -> None:
        self._settings = settings
        self.keys = KeyStore(database)
        self.audit = AuditLog(database)
        self.waivers = WaiverStore(database)
        self._limits = KeyLimits(settings)
        self._scrapers = Scrapers()
        self._noted = FixedWindowRateLimiter(MemoryStorage())
        self._noted_item = RateLimitItemPerMinute(REFUSALS_PER_MINUTE)

    def begin(self, call: Call) -> Admitted | Refused:
        """Admit or refuse. The audit row of a change is on disk before the change, or with it."""
        decided = self._decide_about_scraper(call) if _is_scrape(call) else self._decide(call)
        action, target = action_of(call.method, call.path)
        if isinstance(decided, Refused):
            REFUSED.labels(decided.reason).inc()
            self._note_refusal(call, decided, action, target)
            return decided
        if not changes_state(call.method) or decided.is_open:
            return decided
        entry = AuditEntry(decided.actor, action, target, details=call.details())
        if (status := WRITTEN_WITH_CHANGE.get(action)) is not None:
            return replace(decided, pending=PendingEntry(entry, status))
        return replace(decided, audit_row=self.audit.add(entry))

    def end(
        self, call: Call, admitted: Admitted, actor: str, status: int, location: str | None
    ) -> None:
        """Have the audit row completed and the use of the key noted soon; blocks on nothing.

        An open call gets its row only here: before its route has verified the sender it could be
        anybody's, and anybody must not fill the disk. The route may name the actor.
        """
        if changes_state(call.method):
            action, target = action_of(call.method, call.path)
            if target is None and location and status < 300:
                # Only the answer says what was made.
                target = location.rsplit("/", 1)[-1]
            if admitted.audit_row is not None:
                self.audit.complete(admitted.audit_row, status, target)
            elif admitted.pending is not None:
                self._end_pending(admitted.pending, status, target)
            elif admitted.is_open:
                entry = AuditEntry(actor, action, target, status, call.details())
                self.audit.later(lambda: self._note_open(entry))
        if (key := admitted.key) is not None and due(key, datetime.now(UTC)):
            self.audit.later(lambda: self.keys.touch(key))

    def _decide_about_scraper(self, call: Call) -> Admitted | Refused:
        """Decide on a call for the metrics, from memory where the database does not answer."""
        header, now = call.headers.get("authorization"), datetime.now(UTC)
        try:
            decided = self._decide(call)
        except SQLAlchemyError:
            is_known, key = self._scrapers.knows(header, now)
            if not is_known:
                raise
            return Admitted(key.actor, key) if key else self._without_keys(call)
        if isinstance(decided, Admitted):
            self._scrapers.remember(header, decided.key, now)
        else:
            self._scrapers.forget(header)
        return decided

    def _decide(self, call: Call) -> Admitted | Refused:
        needed = scope_needed(call.method, call.path)
        if needed is None:
            return Admitted(ANONYMOUS, is_open=True)
        if not self.keys.has_any():
            return self._without_keys(call)
        header = call.headers.get("authorization")
        if header is None:
            return _unauthorized("A key is needed.", "no_key", 'Bearer realm="em-gate"')
        presented = parse_header(header)
        key = self.keys.authenticate(presented) if presented else None
        if key is None:
            return _unauthorized("The key is not known.", "unknown_key")
        state = key.state(datetime.now(UTC))
        if state is not KeyState.ACTIVE:
            # Only who has the secret is told so.
            return _unauthorized(f"The key is {state}.", f"{state}_key", actor=key.actor)
        if refusal := self._limits.hit(key.id, changes_state(call.method)):
            return Refused(
                429,
                "Too many requests",
                f"This key may make {refusal.quota} such calls a minute ({refusal.limit}); "
                f"try again in {refusal.retry_after} s.",
                "rate",
                key.actor,
                refusal.headers,
            )
        if not includes(key.scopes, needed):
            return Refused(
                403,
                "The scope is missing",
                f"This call needs the scope '{needed}', which key {key.id} does not have.",
                "scope",
                key.actor,
                {"WWW-Authenticate": f'{_INVALID.format("insufficient_scope")}, scope="{needed}"'},
            )
        return Admitted(key.actor, key)

    def _without_keys(self, call: Call) -> Admitted | Refused:
        why = why_not_local(call.peer, call.headers)
        if self._settings.keys_required:
            why = "GATE_KEYS_REQUIRED is set"
        if why is None:
            return Admitted(LOCAL)
        return _unauthorized(
            f"No API key exists yet, and this request is not served without one: {why}.",
            "not_local",
            'Bearer realm="em-gate"',
        )

    def _end_pending(self, pending: PendingEntry, status: int, target: str | None) -> None:
        row_id = pending.row_id
        if row_id is None:
            # Nothing was changed: the call was refused, repeated an earlier one, or broke.
            entry = replace(pending.entry, status=status, target=target)
            self.audit.later(lambda: self.audit.add(entry))
        elif status != pending.status:
            self.audit.complete(row_id, status)

    def _note_open(self, entry: AuditEntry) -> None:
        if (entry.status or 500) < 400 or self._noted.hit(self._noted_item, "open"):
            self.audit.add(entry)

    def _note_refusal(self, call: Call, refused: Refused, action: str, target: str | None) -> None:
        """Write a refused attempt down, unless it is one of very many or only a scrape."""
        if not (changes_state(call.method) or call.path.startswith("/v1/")):
            return
        if not self._noted.hit(self._noted_item, refused.actor):
            return
        details = call.details(reason=refused.reason)
        try:
            self.audit.add(AuditEntry(refused.actor, action, target, refused.status, details))
        except SQLAlchemyError:
            # It is refused all the same.
            log.exception("a refused attempt was not recorded")


def _is_scrape(call: Call) -> bool:
    return call.path == METRICS_PATH and not changes_state(call.method)


_INVALID = 'Bearer realm="em-gate", error="{}"'


def _unauthorized(
    what: str,
    reason: str,
    challenge: str = _INVALID.format("invalid_token"),
    actor: str = ANONYMOUS,
) -> Refused:
    return Refused(
        401,
        "A valid API key is needed",
        f"{what} {HOW}",
        reason,
        actor,
        {"WWW-Authenticate": challenge},
    )
