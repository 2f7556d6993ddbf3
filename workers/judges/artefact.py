"""The embedded judge's committed artefact: ``weights.safetensors`` and ``config.json``.

Written whole or not at all; read without pickle. Its digest, with the base checkpoint's, names
everything that determines a rating.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.judgement import JudgeError
from workers.judges.ratings import Blend, Scale
from workers.judges.surface import FEATURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from workers.judges.reader import Shape

#: Where the project's own artefact lies.
ARTEFACT = Path(__file__).parent / "embedded"
#: Raised when a reader of this code could not understand an older artefact.
FORMAT = 1
_WEIGHTS = "weights.safetensors"
_CONFIG = "config.json"
#: What identifies the base's architecture, from its ``config.json``.
_IDENTITY = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything of an artefact but its tensors."""

    base: dict[str, Any]
    shape: dict[str, Any]
    alignment: Scale
    coherence: Scale
    blend: Blend
    training: dict[str, Any]


def write(
    directory: Path, settings: Settings, tensors: Mapping[str, Tensor], note: str = ""
) -> None:
    """Write an artefact; each file is replaced in one step, the weights first."""
    import torch
    from safetensors.torch import save

    directory.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().to(torch.bfloat16).contiguous() for name, value in tensors.items()}
    row = {"format": FORMAT, "note": note, "features": list(FEATURES), **asdict(settings)}
    _replace(directory / _WEIGHTS, save(half, metadata={"format": "pt"}))
    _replace(directory / _CONFIG, (json.dumps(row, indent=2) + "\n").encode())


def read(directory: Path) -> tuple[Settings, dict[str, Tensor]]:
    """Read an artefact.

    Raises:
        JudgeError: it is missing, damaged or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        row = json.loads((directory / _CONFIG).read_text(encoding="utf-8"))
        if row["format"] != FORMAT or tuple(row["features"]) != FEATURES:
            raise JudgeError("the embedded judge's artefact is of another format")
        settings = Settings(
            base=row["base"],
            shape=row["shape"],
            alignment=Scale(**row["alignment"]),
            coherence=Scale(**row["coherence"]),
            blend=Blend(tuple(row["blend"]["weights"]), float(row["blend"]["bias"])),
            training=row["training"],
        )
        return settings, load((directory / _WEIGHTS).read_bytes())
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise JudgeError(f"the embedded judge's artefact cannot be read: {error}") from error


def shape_of(settings: Settings) -> Shape:
    """The network's shape."""
    from workers.judges.reader import Shape

    return Shape(**settings.shape)


def identity(base_checkpoint: Path) -> dict[str, Any]:
    """What of a base checkpoint's configuration the artefact depends on.

    Raises:
        JudgeError: the checkpoint has no readable configuration.
    """
    try:
        config = json.loads((base_checkpoint / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JudgeError(f"the judge's base checkpoint cannot be read: {error}") from error
    return {name: config.get(name) for name in _IDENTITY}


def digest(directory: Path, base_checkpoint: Path) -> str:
    """``sha256:…`` over the artefact's files and the base's configuration, tokens and weights."""
    total = hashlib.sha256()
    files = [directory / _CONFIG, directory / _WEIGHTS]
    files += [base_checkpoint / "config.json", base_checkpoint / "tokenizer.json"]
    files += sorted(base_checkpoint.glob("*.safetensors"))
    for path in files:
        with path.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{path.name} {content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
