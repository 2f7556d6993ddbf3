"""Merging a LoRA adapter into its base, for devices where serving it unmerged is slow."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from gate.errors import CheckpointError, GateError
from workers.checkpoint.inspection import TOKENIZER_FILES, Inspected
from workers.checkpoint.safetensors_files import weight_files

#: Room that a merge must leave on the disk, in bytes.
DISK_RESERVE_BYTES = 64 * 1024 * 1024


class DiskFullError(GateError):
    """There is no room for a merged checkpoint."""


def merge_adapter(base: Inspected, adapter: Inspected, destination: Path) -> Path:
    """Write base plus adapter as a full bfloat16 checkpoint with the right tokenizer.

    Raises:
        DiskFullError: the disk has no room, or ran full on the way.
        CheckpointError: peft cannot apply the adapter.
    """
    _require_room(base, destination)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            base.directory, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        merged = PeftModel.from_pretrained(model, str(adapter.directory)).merge_and_unload()
        merged.to(torch.bfloat16).save_pretrained(destination)
        _copy_tokenizer(adapter.directory, base.directory, destination)
    except Exception as error:
        if _is_disk_full(error):
            raise DiskFullError(
                f"the disk of {destination.parent} ran full while merging; free some room"
            ) from error
        if isinstance(error, RuntimeError | ValueError | KeyError | TypeError):
            raise CheckpointError(
                adapter.directory, f"the adapter cannot be merged into {base.directory}: {error}"
            ) from error
        raise
    return destination


def _copy_tokenizer(adapter: Path, base: Path, destination: Path) -> None:
    """The adapter's own tokenizer where it has one, the base's otherwise."""
    for name in TOKENIZER_FILES:
        for source in (adapter / name, base / name):
            if source.is_file():
                shutil.copyfile(source, destination / name)
                break


def _require_room(base: Inspected, destination: Path) -> None:
    needed = sum(file.stat().st_size for file in weight_files(base.directory)) + DISK_RESERVE_BYTES
    free = shutil.disk_usage(destination.parent).free
    if free < needed:
        raise DiskFullError(
            f"merging needs {needed / 2**20:.0f} MiB in {destination.parent}, which has "
            f"{free / 2**20:.0f} MiB free; free some room or move GATE_HOME"
        )


def _is_disk_full(error: BaseException) -> bool:
    """Whether the error, or a cause of it, says ENOSPC; safetensors says it only in words."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return True
    if "No space left on device" in str(error) or "File too large" in str(error):
        return True
    return error.__cause__ is not None and _is_disk_full(error.__cause__)
