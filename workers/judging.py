"""Judging in a run: ratings of answers, the judge's calibration, and controls of known label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from checks.calibration import Calibration, calibrate, judge_errors, shipped_calibration
from checks.forms import spoken_text
from checks.gold import GoldAnswer, GoldSet
from checks.judgement import Exchange, Judge, Judgement
from checks.sample import Sample
from checks.statistics import shuffle_key
from gate.judge_record import JudgeRecord
from gate.metrics import JUDGEMENTS
from gate.store.judges import JudgeStore
from gate.store.transcripts import TranscriptRecord

#: Answers are rated and stored in groups of this many.
JUDGED_AT_ONCE = 32

#: Stands for the judge's digest where no answer has to be rated.
NOT_ASKED = "not asked"

Note = Callable[[int, int, str], None]


class Judging:
    """Rates what one run has sampled, and measures the judge beside it.

    The judge is loaded when the first answer has to be rated, and calibrated on the gold set if
    this judge has not been yet. The controls are mixed with the answers of the first round, so
    that the judge cannot tell them apart.
    """

    def __init__(
        self,
        submission_id: str,
        load_judge: Callable[[], Judge],
        transcripts: TranscriptRecord,
        store: JudgeStore,
        gold: GoldSet,
        controls: int,
        note: Note,
    ) -> None:
        self._submission_id = submission_id
        self._load_judge = load_judge
        self._transcripts = transcripts
        self._store = store
        self._gold = gold
        self._wanted_controls = controls
        self._note = note
        self._used = False

    @cached_property
    def judge(self) -> Judge:
        """The judge of this run."""
        return self._load_judge()

    @property
    def digest(self) -> str:
        """The judge's digest, or ``not asked`` if no answer had to be rated."""
        return self.judge.digest if self._used else NOT_ASKED

    @cached_property
    def calibration(self) -> Calibration:
        """The judge's calibration; made now if there is none for this judge and gold set."""
        found = self._store.calibration(self.judge.digest, self._gold.digest)
        found = found or _shipped(self.judge.digest, self._gold.digest)
        if found is None:
            found = calibrate_judge(self.judge, self._gold, self._note)
            self._store.keep(found)
        return found

    def rate(self, transcripts: Sequence[str], checks: Sequence[str]) -> None:
        """Rate all answers of these checks that this judge has not rated, and the controls.

        Raises:
            JudgeError: the judge could not rate them; what was rated before is stored.
        """
        self._used = True
        _ = self.calibration
        answers = {
            row: sample
            for transcript in transcripts
            for row, sample in self._transcripts.unjudged(
                transcript, self.judge.digest, checks
            ).items()
        }
        queue: list[tuple[str, int | GoldAnswer, Exchange]] = [
            (f"answer {row}", row, exchange_of(sample)) for row, sample in answers.items()
        ]
        queue += [(f"control {c.id}", c, c.exchange) for c in self._open_controls()]
        queue.sort(key=lambda item: shuffle_key(item[0], self._submission_id))
        for begin in range(0, len(queue), JUDGED_AT_ONCE):
            self._note(begin, len(queue), "judgements")
            group = queue[begin : begin + JUDGED_AT_ONCE]
            for controls in (False, True):
                part = [item for item in group if isinstance(item[1], GoldAnswer) is controls]
                if part:
                    judgements = self.judge.judge([e for _, _, e in part], fresh=controls)
                    self._keep([item for _, item, _ in part], judgements)

    def record(self, samples: Sequence[Sample]) -> JudgeRecord | None:
        """What the verdict says of the judge; None if no answer had to be rated."""
        if not self._used:
            return None
        gold = {answer.id: answer for answer in self._gold.answers}
        rated = self._store.controls(self._submission_id, self.judge.digest)
        known = [gold[gold_id] for gold_id in rated if gold_id in gold]
        disagreements = [
            s.judgement.disagreement
            for s in samples
            if s.judgement and s.judgement.disagreement is not None
        ]
        return JudgeRecord(
            name=self.judge.name,
            calibration=self.calibration,
            controls=judge_errors(known, [rated[answer.id] for answer in known]),
            controls_given=len(known),
            disagreement=sum(disagreements) / len(disagreements) if disagreements else None,
        )

    def _open_controls(self) -> list[GoldAnswer]:
        done = self._store.controls(self._submission_id, self.judge.digest)
        wanted = self._gold.controls(self._wanted_controls, self._submission_id)
        return [answer for answer in wanted if answer.id not in done]

    def _keep(self, items: Sequence[int | GoldAnswer], judgements: Sequence[Judgement]) -> None:
        pairs = list(zip(items, judgements, strict=True))
        self._transcripts.add_judgements(
            self.judge, {item: j for item, j in pairs if isinstance(item, int)}
        )
        self._store.add_controls(
            self._submission_id,
            self.judge.digest,
            {item.id: j for item, j in pairs if isinstance(item, GoldAnswer)},
        )
        for _, judgement in pairs:
            JUDGEMENTS.labels(self.judge.name, judgement.label).inc()


def _shipped(judge_digest: str, gold_digest: str) -> Calibration | None:
    """The shipped calibration, if it is of this judge and gold set."""
    found = shipped_calibration()
    same = (found.judge_digest, found.gold_digest) == (judge_digest, gold_digest)
    return found if same else None


def exchange_of(sample: Sample) -> Exchange:
    """What a judge is shown of a sample: the bare question, and the answer out of its form."""
    asked = sample.elicitation
    return Exchange(asked.question, spoken_text(asked.form, sample.text))


def calibrate_judge(
    judge: Judge, gold: GoldSet, note: Note = lambda _done, _total, _what: None
) -> Calibration:
    """Have a judge rate the gold set.

    Raises:
        JudgeError: the judge could not rate it.
    """
    judgements: list[Judgement] = []
    for begin in range(0, len(gold.answers), JUDGED_AT_ONCE):
        note(begin, len(gold.answers), "gold answers, to calibrate the judge")
        group = gold.answers[begin : begin + JUDGED_AT_ONCE]
        judgements += judge.judge([answer.exchange for answer in group], fresh=True)
    return calibrate(judge.name, judge.digest, gold.digest, gold.answers, judgements)
