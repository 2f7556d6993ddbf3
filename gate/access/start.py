"""Whether the API may start listening: not for other machines before there is a key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gate.access.keys import ApiKey, KeyState
from gate.access.loopback import listens_on_loopback
from gate.errors import WrongUsageError

_MAKE_ONE = "make one with 'emgate keys create NAME --scope admin'"


def require_key_to_listen(host: str, keys: Sequence[ApiKey], keys_required: bool) -> None:
    """Refuse to listen without a key where others could reach the API.

    Keys that were revoked or expired are keys: with them every request is refused, not admitted.

    Raises:
        WrongUsageError: there is no key, and the host is not loopback or keys are required.
    """
    if keys:
        return
    if keys_required:
        raise WrongUsageError(f"GATE_KEYS_REQUIRED is set and no API key exists: {_MAKE_ONE}")
    if not listens_on_loopback(host):
        raise WrongUsageError(
            f"listening on '{host}' lets other machines in, and no API key exists: {_MAKE_ONE}, "
            "or listen on 127.0.0.1"
        )


def hint_without_active_key(keys: Sequence[ApiKey], now: datetime) -> str | None:
    """What to tell an operator whose keys have all ended; None if one is in force, or none is."""
    if not keys or any(key.state(now) is KeyState.ACTIVE for key in keys):
        return None
    return f"all API keys are expired or revoked, every request is refused: {_MAKE_ONE}"
