"""API keys: how they are made, read, hashed and compared."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from gate.access.scopes import Scope
from gate.errors import WrongUsageError

#: What a key looks like wherever it may turn up; also for secret scanners.
KEY_PATTERN = re.compile(r"emg_([0-9a-f]{12})_([0-9a-f]{64})")
#: Anything that starts like a key: what is cut out of texts, even where a part is missing.
_KEY_LIKE = re.compile(r"emg_([0-9a-zA-Z]{1,64})_[0-9a-zA-Z_\-]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@/-]{0,63}")
#: Compared with where a key is unknown, so that the work is the same. Nothing hashes to it.
_NO_HASH = "sha256:" + "0" * 64


@dataclass(frozen=True, repr=False)
class Presented:
    """A key as somebody presented it. Its repr shows no secret, so that no traceback does."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Presented(id={self.id!r})"

    @property
    def text(self) -> str:
        """The whole key."""
        return f"emg_{self.id}_{self.secret}"


class KeyState(StrEnum):
    """Whether a key opens anything."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiKey(BaseModel):
    """What is known of a key; neither its secret nor the hash of it."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> KeyState:
        """Revoked goes before expired; a key expires at its very time."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return KeyState.EXPIRED
        return KeyState.ACTIVE

    @property
    def actor(self) -> str:
        """Who acts, in records: ``key:NAME:ID``."""
        return f"key:{self.name}:{self.id}"


def mint() -> Presented:
    """A new key: 48 random bits of id, 256 random bits of secret."""
    return Presented(secrets.token_hex(6), secrets.token_hex(32))


def parse_key(text: str) -> Presented | None:
    """Read ``emg_<id>_<secret>``; None if it is nothing of the kind.

    Law: ``parse_key(key.text) == key`` for every key that ``mint`` makes.
    """
    found = KEY_PATTERN.fullmatch(text)
    return Presented(found[1], found[2]) if found else None


def parse_header(value: str) -> Presented | None:
    """Read ``Authorization: Bearer …``; the scheme's case does not matter (RFC 9110)."""
    scheme, _, credentials = value.partition(" ")
    return parse_key(credentials.strip(" ")) if scheme.lower() == "bearer" else None


def hash_secret(secret: str) -> str:
    """``sha256:…`` of a secret.

    A slow hash protects secrets that can be guessed. These have 256 random bits: nobody guesses
    them at any speed, so that a slow hash would only make every call slow.
    """
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, stored: str | None) -> bool:
    """Compare in constant time; with ``None`` (unknown id) the same work is done for a no."""
    same = hmac.compare_digest(hash_secret(secret), stored or _NO_HASH)
    return same and stored is not None


def redact(text: str) -> str:
    """Cut the secret out of everything in the text that looks like a key."""
    return _KEY_LIKE.sub(r"emg_\1_[redacted]", text)


def check_name(name: str) -> str:
    """The name, if a key may be called so.

    Raises:
        WrongUsageError: it is empty, too long, or has characters that records do not take.
    """
    if not _NAME.fullmatch(name):
        raise WrongUsageError(
            f"'{redact(name)}' is not a name for a key: 1 to 64 letters, digits, spaces or ._@/-, "
            "the first a letter or digit"
        )
    return name
