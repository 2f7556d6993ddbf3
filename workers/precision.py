"""In which precision a processor computes: bfloat16 where it has it, else float32.

A processor without instructions for bfloat16 computes it in detours. On an AMD EPYC with AVX2 a
linear map took 8 times as long as in float32.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

BFLOAT16 = "bfloat16"
FLOAT32 = "float32"
#: What Linux calls such instructions: of x86, then of Arm.
_NATIVE = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_FLAGS = re.compile(r"^(?:flags|Features)\s*:\s*(.*)$", re.MULTILINE)


def precision_for(cpuinfo: str) -> str:
    """The precision for a processor, from the text of ``/proc/cpuinfo``."""
    found = _FLAGS.search(cpuinfo)
    flags = set(found.group(1).split()) if found else set()
    return BFLOAT16 if flags & _NATIVE else FLOAT32


@lru_cache(maxsize=1)
def cpu_precision() -> str:
    """The precision for the processor of this machine."""
    path = Path("/proc/cpuinfo")
    return precision_for(path.read_text(encoding="utf-8")) if path.is_file() else FLOAT32
