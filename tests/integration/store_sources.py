"""What tests of object stores share: a fetch as a worker does it, an archive to put there."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from gate.settings import Settings
from workers.checkpoint.fetching import fetched


def fetch(uri: str, settings: Settings) -> dict[str, bytes]:
    """The files of a source, by name, as a worker gets them."""
    with fetched(uri, settings, lambda *_: None) as source:
        assert source.name == uri
        return {f.name: f.read_bytes() for f in source.directory.iterdir()}


def tar_of(model: Path, mode: str) -> bytes:
    """A model's directory as an archive; ``mode`` is tarfile's, such as ``w:gz``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        tar.add(model, "model")
    return buffer.getvalue()
