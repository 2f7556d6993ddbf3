"""Secrets of the hooks file: it names environment variables, and only these hold them."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping

from gate.hooks.config import HooksFileError

#: Prefix of a Standard Webhooks secret; the rest is base64.
SECRET_PREFIX = "whsec_"
#: The least that the Standard Webhooks specification allows, in bytes.
LEAST_SECRET_BYTES = 24


def plain_secrets(names: list[str], environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """The values of these environment variables; a secret is never in the file.

    Raises:
        HooksFileError: a variable is not set or empty.
    """
    values = []
    for name in names:
        value = environment.get(name, "").strip()
        if not value:
            raise HooksFileError(f"the environment variable {name} holds no secret: set it")
        values.append(value.encode())
    return values


def signing_secrets(names: list[str], environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """The keys of Standard Webhooks in these variables, decoded from ``whsec_`` and base64.

    Raises:
        HooksFileError: a variable is not set, or holds no such secret.
    """
    keys = []
    for name, value in zip(names, plain_secrets(names, environment), strict=True):
        encoded = value.decode().removeprefix(SECRET_PREFIX)
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise HooksFileError(f"{name} must hold {SECRET_PREFIX} and base64: {error}") from error
        if len(key) < LEAST_SECRET_BYTES:
            raise HooksFileError(f"the secret in {name} is shorter than {LEAST_SECRET_BYTES} bytes")
        keys.append(key)
    return keys
