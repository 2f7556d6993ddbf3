"""API keys in the record. Rows are never removed: a key that existed once keeps the API closed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Row, literal, or_, select, update
from sqlalchemy.orm import Session

from gate.access.keys import ApiKey, KeyState, Presented, check_name, hash_secret, matches, mint
from gate.access.scopes import Scope
from gate.errors import WrongUsageError
from gate.store.access_tables import ApiKeyRow
from gate.store.audit import AuditEntry

#: How exact "last used" is.
LAST_USED_EVERY = timedelta(minutes=1)

_keys: Any = ApiKeyRow.__table__
_ANY_KEY = select(literal(1)).select_from(_keys).limit(1)


class UnknownKeyError(WrongUsageError):
    """There is no key with this id."""


class KeyStore:
    """Creates, finds and revokes keys. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen = False

    def create(
        self, name: str, scopes: Sequence[Scope], expires_at: datetime | None, actor: str
    ) -> tuple[ApiKey, Presented]:
        """Make a key; the secret is in the second value and nowhere else.

        Raises:
            WrongUsageError: the name is not usable, or an active key has it; no scope; the expiry
                is not in the future.
        """
        check_name(name)
        now = datetime.now(UTC)
        wanted = sorted({Scope(scope) for scope in scopes})
        if not wanted:
            raise WrongUsageError("a key needs at least one scope")
        if expires_at is not None and expires_at <= now:
            raise WrongUsageError(f"the key would have expired already, at {expires_at}")
        made = mint()
        with Session(self._engine) as session, session.begin():
            same = session.execute(select(_keys).where(_keys.c.name == name)).all()
            if any(_key(row).state(now) is KeyState.ACTIVE for row in same):
                raise WrongUsageError(f"an active key is called '{name}' already; revoke it first")
            row = ApiKeyRow(
                id=made.id,
                name=name,
                secret_hash=hash_secret(made.secret),
                scopes=[scope.value for scope in wanted],
                created_at=now,
                expires_at=expires_at,
            )
            session.add(row)
            details = {
                "name": name,
                "scopes": row.scopes,
                "expires_at": expires_at.isoformat() if expires_at else None,
            }
            session.add(AuditEntry(actor, "key.create", made.id, details=details).row())
            session.flush()
            return _key(row), made

    def has_any(self) -> bool:
        """Whether a key was ever made, by any process; revoked and expired ones count."""
        if not self._seen:
            with self._engine.connect() as connection:
                self._seen = connection.execute(_ANY_KEY).first() is not None
        return self._seen

    def authenticate(self, presented: Presented) -> ApiKey | None:
        """The key whose secret was presented, in whatever state; None for a wrong one.

        An unknown id and a wrong secret take the same steps.
        """
        with self._engine.connect() as connection:
            row = connection.execute(select(_keys).where(_keys.c.id == presented.id)).first()
        if not matches(presented.secret, row.secret_hash if row else None):
            return None
        return _key(row) if row else None

    def all(self) -> list[ApiKey]:
        """All keys, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_keys).order_by(_keys.c.created_at, _keys.c.id))
            return [_key(row) for row in rows]

    def revoke(self, key_id: str, actor: str) -> ApiKey:
        """Close a key for good, from the next call on. Revoking it again changes nothing.

        Raises:
            UnknownKeyError: no such id.
        """
        with Session(self._engine) as session, session.begin():
            row = session.get(ApiKeyRow, key_id)
            if row is None:
                raise UnknownKeyError(f"there is no key '{key_id}'; see emgate keys list")
            if row.revoked_at is None:
                row.revoked_at = datetime.now(UTC)
                session.add(
                    AuditEntry(actor, "key.revoke", key_id, details={"name": row.name}).row()
                )
                session.flush()
            return _key(row)

    def touch(self, key: ApiKey) -> None:
        """Note that a key was used, unless that was noted within the last minute."""
        now = datetime.now(UTC)
        if not due(key, now):
            return
        stale = or_(_keys.c.last_used_at.is_(None), _keys.c.last_used_at <= now - LAST_USED_EVERY)
        with self._engine.begin() as connection:
            connection.execute(
                update(_keys).where(_keys.c.id == key.id, stale).values(last_used_at=now)
            )


def due(key: ApiKey, now: datetime) -> bool:
    """Whether "last used" is old enough to be written again."""
    return key.last_used_at is None or now - key.last_used_at >= LAST_USED_EVERY


def _key(row: Row[Any] | ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=tuple(Scope(scope) for scope in row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
