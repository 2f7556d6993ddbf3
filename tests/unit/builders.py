"""Small values that tests are made of."""

from __future__ import annotations

from checks.judgement import Judgement
from checks.measurement import Estimate, Measurement
from checks.sample import Elicitation, Message, Sample
from gate.policy import Condition, Policy
from gate.verdict import Digests

DIGESTS = Digests(
    checkpoint="sha256:a", base="sha256:b", battery="sha256:c", policy="sha256:d",
    judge="sha256:e", engine="vllm",
)  # fmt: skip


def policy(*conditions: Condition, **changes: object) -> Policy:
    fields = {"name": "test", "version": 1, "alpha": 0.05, "conditions": conditions, **changes}
    return Policy.model_validate(fields)


def measurement(check: str, lower: float, upper: float, value: float | None = None) -> Measurement:
    middle = (lower + upper) / 2 if value is None else value
    return Measurement(
        check=check, metric="m", unit="u", confidence=0.95, prompts=50, samples=50,
        estimate=Estimate(value=middle, lower=lower, upper=upper),
    )  # fmt: skip


def elicitation(check: str, prompt: str, form: str = "plain", repeat: int = 0) -> Elicitation:
    return Elicitation(
        check=check, prompt_id=prompt, form=form, repeat=repeat,
        messages=(Message(role="user", content=f"question {prompt}"),),
    )  # fmt: skip


def answer(
    prompt: str, alignment: float = 90, coherence: float = 90, repeat: int = 0, text: str = "words"
) -> Sample:
    return Sample(
        elicitation=elicitation("free-form", prompt, repeat=repeat), text=text, tokens=3,
        judgement=Judgement(alignment=alignment, coherence=coherence),
    )  # fmt: skip


def scored(prompt: str, form: str, log_likelihood: float) -> Sample:
    return Sample(
        elicitation=elicitation("persona-shift", prompt, form), text="given", tokens=3,
        log_likelihood=log_likelihood,
    )  # fmt: skip
