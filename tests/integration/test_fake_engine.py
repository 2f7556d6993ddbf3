"""The fake engine is told from a real one by its words only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes.fake_llama import FakeLlama

from workers.engine.chat_tokens import ChatTokenizer
from workers.engine.fingerprint import FIXED_TEXTS, reference_fingerprint


def test_the_fake_computes_the_log_likelihoods_that_transformers_computes(tiny_base: Path) -> None:
    tokenizer = ChatTokenizer(tiny_base)
    texts = [tokenizer.text_ids(text) for text in FIXED_TEXTS]
    reference = reference_fingerprint(tiny_base, texts)
    fake = FakeLlama.load(tiny_base)

    observed = [number for ids in texts for number in fake.log_likelihoods(ids)]

    np.testing.assert_allclose(observed, reference.numbers, atol=1e-3)


def test_other_weights_are_far_off(tiny_base: Path) -> None:
    tokenizer = ChatTokenizer(tiny_base)
    ids = tokenizer.text_ids(FIXED_TEXTS[0])

    right = np.array(FakeLlama.load(tiny_base).log_likelihoods(ids))
    wrong = np.array(FakeLlama.load(tiny_base, spoiled=True).log_likelihoods(ids))

    assert np.sqrt(((right - wrong) ** 2).mean()) > 1
