"""Standing verdicts: when an earlier verdict answers a submission, so that nothing is run. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from checks.contexts import Context
from gate.verdict import Outcome, Verdict

#: Stands for a digest where there is nothing to have one.
NO_CONTEXTS = "none"


def contexts_digest(contexts: Sequence[Context]) -> str:
    """``sha256:…`` over the contexts that are asked in, in their order; ``none`` without any."""
    if not contexts:
        return NO_CONTEXTS
    content = json.dumps([context.model_dump() for context in contexts], sort_keys=True)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def stands(earlier: Verdict) -> bool:
    """Whether the newest verdict that a run gave on the same things is an answer now.

    A pass or a fail is. An inconclusive one is not: it says that the evidence, or the judge, did
    not suffice, so the submission is run.
    """
    return earlier.outcome in {Outcome.PASS, Outcome.FAIL}
