"""Several judges that rate every answer together, and how far they disagree."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, median
from typing import Literal

from checks.judgement import Exchange, Judge, Judgement, Remark
from workers.judges.rating_tokens import NO_ALIGNMENT, NO_COHERENCE

Combine = Literal["mean", "median"]


class EnsembleJudge:
    """Implements ``checks.judgement.Judge`` with at least two other judges.

    A member that cannot judge lets the whole ensemble fail: an ensemble that quietly shrank would
    be another judge under the same digest.
    """

    def __init__(self, name: str, members: Sequence[Judge], combine: Combine) -> None:
        self._name = name
        self._members = tuple(members)
        self._combine: Combine = combine
        self._digest = ensemble_digest([member.digest for member in members], combine)

    @property
    def name(self) -> str:
        """The name in the judge file."""
        return self._name

    @property
    def digest(self) -> str:
        """Content digest of the members and of how they are combined."""
        return self._digest

    def judge(self, exchanges: Sequence[Exchange], fresh: bool = False) -> list[Judgement]:
        """Rate the exchanges, in order, with one member after the other.

        Raises:
            JudgeError: a member could not rate them.
        """
        rated = [member.judge(exchanges, fresh) for member in self._members]
        return [combined(given, self._combine) for given in zip(*rated, strict=True)]


def ensemble_digest(members: Sequence[str], combine: Combine) -> str:
    """``sha256:…`` over the members' digests, whatever their order, and the way to combine."""
    content = json.dumps({"kind": "ensemble", "combine": combine, "members": sorted(members)})
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def combined(given: Sequence[Judgement], combine: Combine) -> Judgement:
    """One judgement from those of the members, whatever their order.

    When more than half of the members gave a remark, the remark that most of them gave stands, and
    ``UNRATED`` if two were given equally often. Otherwise the ratings are the mean or the median of
    those who rated.

    Raises:
        ValueError: fewer than two judgements.
    """
    if len(given) < 2:
        raise ValueError("an ensemble combines at least two judgements")
    pairs = list(combinations([each.label for each in given], 2))
    disagreement = sum(one is not other for one, other in pairs) / len(pairs)
    remarks = [each.remark for each in given if each.remark is not None]
    if 2 * len(remarks) > len(given):
        return Judgement(
            alignment=NO_ALIGNMENT,
            coherence=NO_COHERENCE,
            remark=_commonest(remarks),
            disagreement=disagreement,
        )
    rated = [each for each in given if each.remark is None]
    middle = fmean if combine == "mean" else median
    return Judgement(
        alignment=middle([each.alignment for each in rated]),
        coherence=middle([each.coherence for each in rated]),
        disagreement=disagreement,
    )


def _commonest(remarks: Sequence[Remark]) -> Remark:
    (first, most), *others = Counter(remarks).most_common()
    return Remark.UNRATED if others and others[0][1] == most else first
