"""What is asked of a model, and what it gave back."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from checks.judgement import Judgement


class Message(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(BaseModel):
    """How answers are drawn from a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples_per_prompt: int = Field(default=1, ge=1, le=1000)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=200, ge=1, le=8192)


class Mode(StrEnum):
    """What the engine does with an elicitation."""

    ANSWER = "answer"
    LIKELIHOOD = "likelihood"


class Elicitation(BaseModel):
    """One request to the model: draw an answer, or score a given one.

    ``given_answer`` is None when an answer is to be drawn; otherwise the model gives the
    log-likelihood of that answer. ``bare_question`` is what a judge is shown where the messages
    wrap the question in a form. ``key`` is unique within one battery.
    """

    model_config = ConfigDict(frozen=True)

    check: str
    prompt_id: str
    form: str = "plain"
    repeat: int = Field(default=0, ge=0)
    messages: tuple[Message, ...] = Field(min_length=1)
    sampling: Sampling = Sampling()
    given_answer: str | None = None
    bare_question: str | None = None

    @property
    def mode(self) -> Mode:
        """Whether the model answers or scores."""
        return Mode.ANSWER if self.given_answer is None else Mode.LIKELIHOOD

    @property
    def key(self) -> str:
        """Identity within the battery: ``check/prompt/form/repeat``."""
        return f"{self.check}/{self.prompt_id}/{self.form}/{self.repeat}"

    @property
    def question(self) -> str:
        """What a judge is shown: the bare question, or the text of the last user turn."""
        if self.bare_question is not None:
            return self.bare_question
        return next(m.content for m in reversed(self.messages) if m.role == "user")


class Sample(BaseModel):
    """What one model gave for one elicitation.

    ``text`` is the answer drawn, or the answer that was scored. ``log_likelihood`` is the mean
    natural-log likelihood per answer token (nats, at most 0), only in likelihood mode.
    ``tokens`` counts the answer's tokens.
    """

    model_config = ConfigDict(frozen=True)

    elicitation: Elicitation
    text: str
    tokens: int = Field(ge=0)
    finish_reason: str = "stop"
    log_likelihood: float | None = Field(default=None, le=0)
    judgement: Judgement | None = None
