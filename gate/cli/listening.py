"""Before ``emgate serve`` listens: no other machine is let in while there is no key."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from gate.access.start import hint_without_active_key, require_key_to_listen
from gate.cli.administration import administration
from gate.settings import Settings
from gate.store.keys import KeyStore

log = logging.getLogger(__name__)


def may_listen(host: str, current: Settings) -> None:
    """End the command with one sentence and exit code 2 where a key must be made first."""
    with administration(current) as database:
        found = KeyStore(database).all()
        require_key_to_listen(host, found, current.keys_required)
    if hint := hint_without_active_key(found, datetime.now(UTC)):
        log.warning(hint)
