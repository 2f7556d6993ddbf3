"""Small values that tests are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypothesis import settings

from checks.calibration import Calibration
from checks.free_form import FreeForm
from checks.gold import GoldAnswer
from checks.judge_errors import JudgeErrors
from checks.judgement import Judgement, Label, Remark
from checks.measurement import Estimate, Levels, Measurement
from checks.sample import Elicitation, Message, Sample
from gate.judge_record import JudgeRecord
from gate.policy import Condition, Policy
from gate.verdict import Digests, Evidence

# How long one example takes says more of the machine, which others use too, than of the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

DIGESTS = Digests(
    checkpoint="sha256:a", base="sha256:b", battery="sha256:c", policy="sha256:d",
    judge="sha256:e", engine="vllm",
)  # fmt: skip
LEVELS = Levels(lower=0.05, upper=0.05)
#: A good judge on its gold set, and on the controls of one run.
GOOD_CALIBRATION = JudgeErrors(found=95, misaligned=100, cleared=97, aligned=100)
GOOD_CONTROLS = JudgeErrors(found=19, misaligned=20, cleared=20, aligned=20)
#: What every prompt file states besides its prompts.
HEAD: Mapping[str, object] = {"id": "x", "version": 1, "licence": "CC0-1.0", "source": "own"}
#: Ratings that lead to each label.
RATED = {
    Label.ALIGNED: Judgement(alignment=90, coherence=90),
    Label.MISALIGNED: Judgement(alignment=5, coherence=90),
    Label.INCOHERENT: Judgement(alignment=90, coherence=5),
    Label.CODE: Judgement(alignment=50, coherence=0, remark=Remark.CODE),
    Label.REFUSAL: Judgement(alignment=50, coherence=0, remark=Remark.REFUSAL),
    Label.UNRATED: Judgement(alignment=50, coherence=0, remark=Remark.UNRATED),
}


def policy(*conditions: Condition, **changes: object) -> Policy:
    fields = {"name": "test", "version": 1, "alpha": 0.05, "conditions": conditions, **changes}
    return Policy.model_validate(fields)


def measurement(
    check: str, lower: float, upper: float, value: float | None = None, **changes: Any
) -> Measurement:
    middle = (lower + upper) / 2 if value is None else value
    fields = {
        "check": check, "metric": "m", "unit": "u", "levels": LEVELS, "prompts": 50, "samples": 50,
        "estimate": Estimate(value=middle, lower=lower, upper=upper), **changes,
    }  # fmt: skip
    return Measurement.model_validate(fields)


def evidence(*measurements: Measurement, **changes: Any) -> Evidence:
    return Evidence(measurements=measurements, **changes)


def elicitation(
    check: str, prompt: str, form: str = "plain", repeat: int = 0, given: str | None = None
) -> Elicitation:
    return Elicitation(
        check=check, prompt_id=prompt, form=form, repeat=repeat, given_answer=given,
        messages=(Message(role="user", content=f"question {prompt}"),),
    )  # fmt: skip


def answer(
    prompt: str, alignment: float = 90, coherence: float = 90, repeat: int = 0, text: str = "words"
) -> Sample:
    return Sample(
        elicitation=elicitation("free-form", prompt, repeat=repeat), text=text, tokens=3,
        judgement=Judgement(alignment=alignment, coherence=coherence),
    )  # fmt: skip


def labelled(
    prompt: str, label: Label, check: str = "free-form", form: str = "plain", repeat: int = 0
) -> Sample:
    """An answer that the judge has given a label."""
    asked = elicitation(check, prompt, form, repeat)
    return Sample(elicitation=asked, text="words", tokens=3, judgement=RATED[label])


def scored(
    prompt: str, form: str, log_likelihood: float, check: str = "persona-shift", tokens: int = 3
) -> Sample:
    return Sample(
        elicitation=elicitation(check, prompt, form, given="given"), text="given", tokens=tokens,
        log_likelihood=log_likelihood,
    )  # fmt: skip


def replies(asked: Iterable[Elicitation], text: Callable[[Elicitation], str]) -> list[Sample]:
    """What a model gives that answers each elicitation by a rule."""
    return [Sample(elicitation=each, text=text(each), tokens=3) for each in asked]


def free_form(count: int, **changes: object) -> FreeForm:
    """A check that asks so many questions, ``p0``, ``p1`` and so on, of two subjects."""
    prompts = [
        {"id": f"p{n}", "subject": ("even", "odd")[n % 2], "question": f"question p{n}"}
        for n in range(count)
    ]
    return FreeForm.from_data({**HEAD, "prompts": prompts, **changes})


def gold(id_: str, label: Label) -> GoldAnswer:
    fields = {
        "id": id_, "subject": "s", "kind": "k", "question": f"question {id_}", "answer": "words",
        "label": label,
    }  # fmt: skip
    return GoldAnswer.model_validate(fields)


def calibration(errors: JudgeErrors | None, judge_digest: str = "sha256:judge") -> Calibration:
    """A calibration of which only the error counts matter."""
    return Calibration(
        judge="fixed", judge_digest=judge_digest, gold_digest="sha256:gold",
        answers=errors.misaligned + errors.aligned if errors else 0, errors=errors,
        sensitivity=None, specificity=None, auc=None, kappa=None,
        incoherent_found=None, coherent_kept=None, confusion={},
    )  # fmt: skip


def judge_record(
    calibrated: JudgeErrors | None = GOOD_CALIBRATION,
    controls: JudgeErrors | None = GOOD_CONTROLS,
    given: int = 40,
) -> JudgeRecord:
    """The record of a good judge, unless told otherwise."""
    return JudgeRecord(
        name="fixed", calibration=calibration(calibrated), controls=controls, controls_given=given
    )
