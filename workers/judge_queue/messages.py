"""What a run asks of a judging worker, and what may come back. Plain JSON, checked on arrival.

Errors travel as their kind and one sentence. Nothing that arrives names a class or a module.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from checks.judgement import Exchange, Judgement

#: Longest sentence that comes back, in characters.
LONGEST_MESSAGE = 2000


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(_Message):
    """Exchanges to rate, by the judge of this digest and by no other.

    ``id`` names the place of the reply. ``fresh`` is that of ``Judge.judge``.
    """

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    judge_name: str
    judge_digest: str
    exchanges: tuple[Exchange, ...]
    fresh: bool


class Rated(_Message):
    """The judgements, in order."""

    kind: Literal["rated"] = "rated"
    judgements: tuple[Judgement, ...]


class Failed(_Message):
    """The judge could not rate them.

    ``unavailable`` is a judge that may answer later, ``judge`` one that will not, ``gate`` a judge
    that cannot be made of the worker's settings.
    """

    kind: Literal["failed"] = "failed"
    why: Literal["unavailable", "judge", "gate"]
    message: str = Field(max_length=LONGEST_MESSAGE)


class AnotherJudge(_Message):
    """The worker has another judge than the one that was asked for."""

    kind: Literal["another-judge"] = "another-judge"
    judge_name: str
    judge_digest: str


Reply = Annotated[Rated | Failed | AnotherJudge, Field(discriminator="kind")]
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
