"""How good a judge is: its labels on the gold set against the true ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from scipy import special

from checks.agreement import auc, auc_interval, share_interval
from checks.gold import GoldAnswer
from checks.judge_errors import JudgeErrors
from checks.judgement import Judgement, Label
from checks.measurement import Estimate

#: Labels of answers that the judge rated; the others are no evidence for or against it.
RATED = (Label.ALIGNED, Label.MISALIGNED)
#: Of the embedded judge on the shipped gold set, written by ``emgate judge calibrate --json``; a
#: test holds it to both.
SHIPPED_CALIBRATION = Path(__file__).parent / "data" / "embedded_judge_calibration.json"
#: Confidence of the intervals that are printed.
CONFIDENCE = 0.95


class Calibration(BaseModel):
    """A judge's figures on one gold set; intervals are 95%.

    ``errors`` counts coherent answers that the judge rated; None when it rated none of one kind.
    ``auc`` is the chance that a misaligned answer gets a lower alignment than an aligned one.
    ``kappa`` is Cohen's, over the three labels. ``incoherent_found`` and ``coherent_kept`` are
    shares in [0, 1]. ``confusion`` counts answers by true label and given label.
    """

    model_config = ConfigDict(frozen=True)

    judge: str
    judge_digest: str
    gold_digest: str
    answers: int = Field(ge=0)
    errors: JudgeErrors | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    auc: Estimate | None
    kappa: Estimate | None
    incoherent_found: Estimate | None
    coherent_kept: Estimate | None
    confusion: dict[str, dict[str, int]]


def shipped_calibration() -> Calibration:
    """The embedded judge's figures on the shipped gold set."""
    return Calibration.model_validate_json(SHIPPED_CALIBRATION.read_text(encoding="utf-8"))


def calibrate(
    judge: str,
    judge_digest: str,
    gold_digest: str,
    answers: Sequence[GoldAnswer],
    judgements: Sequence[Judgement],
) -> Calibration:
    """Compare a judge's ratings of the gold answers with their labels.

    Raises:
        ValueError: there are not as many judgements as answers.
    """
    pairs = [
        (answer.label, judgement) for answer, judgement in zip(answers, judgements, strict=True)
    ]
    errors = judge_errors(answers, judgements)
    bad, good = (
        [-j.alignment for label, j in pairs if label is wanted and j.label in RATED]
        for wanted in (Label.MISALIGNED, Label.ALIGNED)
    )
    nonsense = [j.label is Label.INCOHERENT for label, j in pairs if label is Label.INCOHERENT]
    sense = [j.label is not Label.INCOHERENT for label, j in pairs if label in RATED]
    given = Counter((label.value, j.label.value) for label, j in pairs)
    return Calibration(
        judge=judge,
        judge_digest=judge_digest,
        gold_digest=gold_digest,
        answers=len(pairs),
        errors=errors,
        sensitivity=_share(errors.found, errors.misaligned) if errors else None,
        specificity=_share(errors.cleared, errors.aligned) if errors else None,
        auc=_auc(bad, good) if bad and good else None,
        kappa=_kappa([(label, j.label) for label, j in pairs]),
        incoherent_found=_share(sum(nonsense), len(nonsense)) if nonsense else None,
        coherent_kept=_share(sum(sense), len(sense)) if sense else None,
        confusion={
            true.value: {label.value: given[true.value, label.value] for label in Label}
            for true in (Label.ALIGNED, Label.MISALIGNED, Label.INCOHERENT)
        },
    )


def judge_errors(
    answers: Sequence[GoldAnswer], judgements: Sequence[Judgement]
) -> JudgeErrors | None:
    """Right and wrong labels on those coherent answers that the judge rated."""
    rated = [
        (answer.label, judgement.label)
        for answer, judgement in zip(answers, judgements, strict=True)
        if answer.label in RATED and judgement.label in RATED
    ]
    misaligned = [given is true for true, given in rated if true is Label.MISALIGNED]
    aligned = [given is true for true, given in rated if true is Label.ALIGNED]
    if not misaligned or not aligned:
        return None
    return JudgeErrors(
        found=sum(misaligned),
        misaligned=len(misaligned),
        cleared=sum(aligned),
        aligned=len(aligned),
    )


def _share(hits: int, total: int) -> Estimate:
    lower, upper = share_interval(hits, total)
    return Estimate(value=hits / total, lower=lower, upper=upper)


def _auc(bad: Sequence[float], good: Sequence[float]) -> Estimate:
    value = auc(bad, good)
    lower, upper = auc_interval(bad, good)
    return Estimate(value=value, lower=min(lower, value), upper=max(upper, value))


def _kappa(pairs: Sequence[tuple[Label, Label]]) -> Estimate | None:
    """Cohen's kappa with the large-sample interval of Fleiss, Cohen and Everitt 1969."""
    total = len(pairs)
    if not total:
        return None
    joint = {pair: count / total for pair, count in Counter(pairs).items()}
    true = {a: sum(p for (x, _), p in joint.items() if x is a) for a in Label}
    given = {b: sum(p for (_, y), p in joint.items() if y is b) for b in Label}
    agreed = sum(p for (x, y), p in joint.items() if x is y)
    chance = sum(true[a] * given[a] for a in Label)
    if chance == 1:
        return None
    value = (agreed - chance) / (1 - chance)
    kept = sum(
        joint.get((a, a), 0.0) * (1 - (true[a] + given[a]) * (1 - value)) ** 2 for a in Label
    )
    crossed = (1 - value) ** 2 * sum(
        p * (given[x] + true[y]) ** 2 for (x, y), p in joint.items() if x is not y
    )
    variance = kept + crossed - (value - chance * (1 - value)) ** 2
    error = max(0.0, variance / total) ** 0.5 / (1 - chance)
    half = -float(special.ndtri((1 - CONFIDENCE) / 2)) * error
    return Estimate(value=value, lower=max(-1.0, value - half), upper=min(1.0, value + half))
