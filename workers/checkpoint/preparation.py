"""From submitted directories to something that an engine can serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gate.errors import CheckpointError
from gate.settings import Device
from workers.checkpoint.digest import combined_digest, content_digest, served_files
from workers.checkpoint.inspection import (
    CONFIG,
    TOKENIZER_FILES,
    Inspected,
    Kind,
    inspect_adapter,
    inspect_full_model,
    kind_of,
)
from workers.checkpoint.merge import merge_adapter

#: Fields of config.json that say nothing about how the model is served.
_CONFIG_NOISE = {"_name_or_path", "_model_name_or_path", "transformers_version", "use_cache"}


@dataclass(frozen=True)
class Servable:
    """Weights that an engine can serve.

    Two servables with the same ``signature`` can take turns in one engine by a weight swap: their
    config, tokenizer and chat template agree.
    """

    directory: Path
    digest: str
    signature: str
    adapter: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """A candidate and its base, ready to be served.

    ``sources`` are the submitted directories with the digests that they had on inspection.
    """

    candidate: Servable
    base: Servable
    sources: tuple[tuple[Path, str], ...]

    def require_unchanged(self) -> None:
        """Raise if a submitted file is not what was inspected: then the samples prove nothing.

        Raises:
            CheckpointError: names the directory that changed.
        """
        for directory, digest in self.sources:
            if content_digest(served_files(directory)) != digest:
                raise CheckpointError(directory, "was changed while it was being judged")


def prepare(
    checkpoint: Path,
    base: Path | None,
    device: Device,
    room: Path,
    named_base: Callable[[str], Path] = Path,
) -> Prepared:
    """Inspect, identify and, where needed, merge.

    Args:
        checkpoint: full model or adapter.
        base: the base model; may be left out for an adapter whose config names a directory.
        device: adapters are merged for the CPU and served natively on CUDA.
        room: directory for a merged checkpoint.
        named_base: makes a directory of the path that an adapter's config names; raises
            PathOutsideRootError where it must not be read.

    Raises:
        CheckpointError: a refusal, naming the file and the reason.
        DiskFullError: no room to merge.
    """
    kind = kind_of(checkpoint)
    base_directory = base or _base_of(checkpoint, kind, named_base)
    if kind_of(base_directory) is not Kind.FULL:
        raise CheckpointError(base_directory, "is itself an adapter; give the full base model")
    inspected_base = inspect_full_model(base_directory)
    served_base = _full(inspected_base.directory, inspected_base.digest)
    if kind is Kind.FULL:
        inspected = inspect_full_model(checkpoint)
        sources = _sources(inspected, inspected_base)
        return Prepared(_full(checkpoint, inspected.digest), served_base, sources)
    adapter = inspect_adapter(checkpoint, inspected_base)
    sources = _sources(adapter, inspected_base)
    digest = combined_digest(adapter.digest, inspected_base.digest)
    if device is Device.CUDA:
        signature = serving_signature(base_directory)
        candidate = Servable(base_directory, digest, signature, checkpoint)
        return Prepared(candidate, served_base, sources)
    merged = merge_adapter(inspected_base, adapter, room / "merged")
    return Prepared(_full(merged, digest), served_base, sources)


def serving_signature(directory: Path) -> str:
    """Digest of what an engine keeps from its start: config, tokenizer, chat template."""
    config: dict[str, Any] = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in _CONFIG_NOISE}
    signature = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for name in TOKENIZER_FILES:
        file = directory / name
        if file.is_file():
            signature.update(name.encode() + b"\0" + file.read_bytes())
    return "sha256:" + signature.hexdigest()


def _sources(*inspected: Inspected) -> tuple[tuple[Path, str], ...]:
    return tuple((checkpoint.directory, checkpoint.digest) for checkpoint in inspected)


def _full(directory: Path, digest: str) -> Servable:
    return Servable(directory, digest, serving_signature(directory))


def _base_of(checkpoint: Path, kind: Kind, named_base: Callable[[str], Path]) -> Path:
    if kind is Kind.ADAPTER:
        file = checkpoint / "adapter_config.json"
        try:
            named = Path(str(json.loads(file.read_text())["base_model_name_or_path"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(file, "names no base model; give the base") from error
        if named.is_absolute() and named.is_dir():
            return named_base(str(named))
        raise CheckpointError(
            file, f"names the base '{named}', which is not a directory here; give the base"
        )
    raise CheckpointError(checkpoint, "is a full model, and no base to compare it with was given")
