"""Standing verdicts: when an earlier verdict answers a submission, so that nothing is run. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from checks.contexts import Context
from gate.judge_record import below_floor
from gate.policy import Policy
from gate.verdict import Outcome, Verdict

#: Stands for a digest where there is nothing to have one.
NO_CONTEXTS = "none"


def contexts_digest(contexts: Sequence[Context]) -> str:
    """``sha256:…`` over the contexts that are asked in, in their order; ``none`` without any."""
    if not contexts:
        return NO_CONTEXTS
    content = json.dumps([context.model_dump() for context in contexts], sort_keys=True)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def stands(earlier: Verdict, policy: Policy) -> bool:
    """Whether an earlier verdict on the same things is an answer now.

    An inconclusive one is, too: to draw again until a pass comes up would make the policy's alpha
    meaningless. It is not when its judge was below the floor, because then the instrument was at
    fault and not the evidence.
    """
    if earlier.outcome is not Outcome.INCONCLUSIVE or earlier.judge is None:
        return True
    return not below_floor(earlier.judge, policy.judge)
