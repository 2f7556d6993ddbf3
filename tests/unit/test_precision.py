"""Which precision is computed in, by what the processor has."""

from __future__ import annotations

import pytest

from workers.precision import BFLOAT16, FLOAT32, cpu_precision, precision_for


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("flags\t\t: fpu sse2 avx2 fma", FLOAT32),
        ("flags\t\t: fpu avx512f avx512bw", FLOAT32),
        ("flags\t\t: fpu avx512f avx512_bf16", BFLOAT16),
        ("flags\t\t: fpu amx_bf16 amx_tile", BFLOAT16),
        ("Features\t: fp asimd i8mm bf16", BFLOAT16),
        ("Features\t: fp asimd", FLOAT32),
        ("", FLOAT32),
    ],
)
def test_bfloat16_is_for_processors_that_have_it(flags: str, precision: str) -> None:
    assert (
        precision_for(f"processor\t: 0\nmodel name\t: bf16 by name\n{flags}\nbugs\t:\n")
        == precision
    )


def test_this_machine_has_one() -> None:
    assert cpu_precision() in {BFLOAT16, FLOAT32}
