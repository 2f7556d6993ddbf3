"""Makes the API key with which Prometheus reads /metrics. Usage: scrape_key.py FILE

The key in FILE stays as long as the database knows it and it is in force; otherwise a new one is
made and replaces it. So this may run at every start, also after the database was restored.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from gate.access.keys import KeyState, parse_key
from gate.access.scopes import Scope
from gate.secret_files import load_secret_files
from gate.settings import settings
from gate.store.database import open_database
from gate.store.keys import KeyStore

NAME = "prometheus"
ACTOR = "compose"
#: Others may read it: who scrapes is another user, and the volume has nothing else.
MODE = 0o644


def opens(store: KeyStore, file: Path, now: datetime) -> bool:
    """Whether the file holds a key that is in force."""
    text = file.read_text(encoding="ascii", errors="replace").strip() if file.exists() else ""
    presented = parse_key(text)
    key = store.authenticate(presented) if presented else None
    return key is not None and key.state(now) is KeyState.ACTIVE


def ensure(store: KeyStore, file: Path, now: datetime) -> bool:
    """Put a key of the scope ``read`` that does not expire into the file; whether it is new."""
    if opens(store, file, now):
        return False
    _, presented = store.create(NAME, [Scope.READ], None, ACTOR)
    written = file.with_suffix(".new")
    written.write_text(presented.text, encoding="ascii")
    written.chmod(MODE)
    written.replace(file)
    return True


def main(arguments: list[str]) -> int:
    """Ensure the key; the text of it is never printed."""
    if len(arguments) != 1:
        print("usage: scrape_key.py FILE", file=sys.stderr)
        return 2
    load_secret_files(os.environ)
    store = KeyStore(open_database(settings().database))
    made = ensure(store, Path(arguments[0]), datetime.now(UTC))
    print(f"the key '{NAME}' in {arguments[0]} {'was made' if made else 'is in force'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
