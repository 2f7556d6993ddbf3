"""Secrets from files: what containers mount, put where everything else looks, the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from gate.errors import WrongUsageError

#: Names the directory of the files; compose secrets and Kubernetes secrets are mounted like this.
VARIABLE = "GATE_SECRETS_DIRECTORY"
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def load_secret_files(environment: MutableMapping[str, str]) -> None:
    """Set each variable after which a file of the secrets directory is named.

    The content without white space around it is the value. A variable that is set stays, an empty
    file sets nothing, and files that are not named like a variable are not ours. A file is better
    than a variable of the container: ``docker inspect`` does not show it.

    Raises:
        WrongUsageError: the directory or one of the files cannot be read.
    """
    directory = environment.get(VARIABLE, "")
    if not directory:
        return
    for name, value in _secrets(Path(directory)):
        if value:
            environment.setdefault(name, value)


def _secrets(directory: Path) -> Iterator[tuple[str, str]]:
    place = directory
    try:
        for place in sorted(directory.iterdir()):
            if _VARIABLE_NAME.fullmatch(place.name) and place.is_file():
                yield place.name, place.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise WrongUsageError(f"{VARIABLE}: {place} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        # Without its cause, which has the bytes of the secret.
        raise WrongUsageError(f"{VARIABLE}: {place} is not text in UTF-8") from None
