"""When an earlier verdict answers a submission."""

from __future__ import annotations

import pytest
from unit.builders import DIGESTS, evidence, measurement, policy

from checks.contexts import DECLARED, Context
from gate.policy import Condition
from gate.standing import NO_CONTEXTS, contexts_digest, stands
from gate.verdict import decide


@pytest.mark.parametrize(
    ("lower", "upper", "answers"), [(0.0, 0.1, True), (0.3, 0.4, True), (0.1, 0.4, False)]
)
def test_a_pass_and_a_fail_stand_and_an_inconclusive_verdict_does_not(
    lower: float, upper: float, answers: bool
) -> None:
    strict = policy(Condition(check="a", at_most=0.2))
    assert stands(decide(strict, evidence(measurement("a", lower, upper)), DIGESTS)) is answers


@pytest.mark.parametrize("part", list(type(DIGESTS).model_fields))
def test_verdicts_that_differ_in_any_part_have_different_identities(part: str) -> None:
    assert DIGESTS.model_copy(update={part: "other"}).identity != DIGESTS.identity


def test_contexts_are_told_apart_by_content_and_order() -> None:
    a, b = (
        Context(label=name, origin=DECLARED, system=None, template=f"[{name}] {{question}}")
        for name in "ab"
    )
    asked = [(), (a,), (b,), (a, b), (b, a)]
    digests = [contexts_digest(contexts) for contexts in asked]
    assert digests[0] == NO_CONTEXTS
    assert len(set(digests)) == len(asked)
    assert contexts_digest((a, b)) == digests[3]
