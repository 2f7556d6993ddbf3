"""The digest that a sender announces for a body: ``Content-Digest`` (RFC 9530) or a query field."""

from __future__ import annotations

import base64
import binascii
import re

_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
SHA256_BYTES = 32


class NoDigestError(Exception):
    """No usable SHA-256 was announced; the message says what is missing."""


def announced_digest(header: str | None, query: str | None) -> str:
    """The announced digest as ``sha256:…``.

    Args:
        header: value of ``Content-Digest``, such as ``sha-256=:base64:``; other algorithms beside
            it are passed over.
        query: 64 hexadecimal digits.

    Raises:
        NoDigestError: neither is given, one is not readable, or they contradict each other.
    """
    found = set()
    if header is not None:
        for member in header.split(","):
            read = _MEMBER.fullmatch(member)
            if not read:
                raise NoDigestError("Content-Digest is not readable; send sha-256=:BASE64:")
            if read[1] == "sha-256":
                found.add(_from_base64(read[2]))
    if query is not None:
        if not _HEX.fullmatch(query):
            raise NoDigestError("sha256 is not 64 hexadecimal digits")
        found.add(query.lower())
    if not found:
        raise NoDigestError(
            "the SHA-256 of the body is required: Content-Digest: sha-256=:BASE64:, or ?sha256=HEX"
        )
    if len(found) > 1:
        raise NoDigestError("several SHA-256 were announced, and they differ")
    return f"sha256:{found.pop()}"


def _from_base64(text: str) -> str:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise NoDigestError("the sha-256 in Content-Digest is not Base64") from error
    if len(digest) != SHA256_BYTES:
        raise NoDigestError(f"the sha-256 in Content-Digest has {len(digest)} bytes, not 32")
    return digest.hex()
