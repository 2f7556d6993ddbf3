"""A submission: one request to judge one checkpoint under one policy, and its state machine."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from checks.contexts import DECLARED, Context


class State(StrEnum):
    """Where a submission is. ``failed`` means that the gate could not judge: never a pass."""

    QUEUED = "queued"
    PREPARING = "preparing"
    SERVING = "serving"
    SAMPLING = "sampling"
    JUDGING = "judging"
    DECIDED = "decided"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ORDER = [
    State.QUEUED,
    State.PREPARING,
    State.SERVING,
    State.SAMPLING,
    State.JUDGING,
    State.DECIDED,
]
TERMINAL = frozenset({State.DECIDED, State.FAILED, State.CANCELLED})

#: Source of submissions that ``emgate check`` runs by itself.
COMMAND_LINE = "cli"


def may_move(current: State, target: State) -> bool:
    """Whether the move is forward.

    Law: there is no state from which a chain of moves leads back to it.
    """
    if current in TERMINAL:
        return False
    if target in {State.FAILED, State.CANCELLED}:
        return True
    return _ORDER.index(target) > _ORDER.index(current)


def states_before(target: State) -> list[State]:
    """All states from which a submission may move to the target."""
    return [state for state in State if may_move(state, target)]


#: A name or a value of the free metadata. Not every database can look for a NUL.
MetadataText = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")]


class DeclaredContext(BaseModel):
    """A context in which the model may behave otherwise, as the submitter describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(min_length=1, max_length=200, examples=["the tag of our live system"])
    system: str | None = Field(default=None, max_length=4000, description="System prompt.")
    template: str = Field(
        default="{question}",
        max_length=4000,
        description="The user turn; {question} stands where the question goes, exactly once.",
        examples=["[live] {question}"],
    )

    @model_validator(mode="after")
    def _is_context(self) -> Self:
        self.context()
        return self

    def context(self) -> Context:
        """The context that is asked in."""
        return Context(
            label=self.label, origin=DECLARED, system=self.system, template=self.template
        )


class SubmissionRequest(BaseModel):
    """What is asked of the gate."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str = Field(
        min_length=1,
        max_length=4096,
        description="The checkpoint, a full model or a PEFT LoRA adapter: a directory under a "
        "configured root, or a URI under an allowed source (hf://org/name@revision, "
        "s3://bucket/prefix, upload://sha256:…).",
        examples=["/checkpoints/my-fine-tune"],
    )
    base: str | None = Field(
        default=None,
        max_length=4096,
        description="The base model, which the fine-tune is compared with: a directory or a URI.",
        examples=["/checkpoints/base"],
    )
    policy: str = Field(default="default", max_length=64, description="Name of the policy.")
    battery: str | None = Field(
        default=None,
        max_length=4096,
        description="Name of the battery, if not the policy's own. Conditions on checks that it "
        "does not have are out of force.",
    )
    training_sample: str | None = Field(
        default=None,
        max_length=1_000_000,
        description="Sample of the fine-tuning data, JSON Lines in chat format. The check "
        "`context` asks inside the contexts that it shows.",
    )
    contexts: list[DeclaredContext] = Field(
        default_factory=list,
        max_length=8,
        description="Contexts, such as tags or system prompts, in which to ask as well.",
    )
    fresh: bool = Field(
        default=False,
        description="Run the battery even where a verdict on the same content stands.",
    )
    metadata: dict[MetadataText, MetadataText] = Field(
        default_factory=dict,
        max_length=32,
        description="Free text for your own records, such as git sha and pipeline URL.",
        examples=[{"git_sha": "4f2a9c1", "pipeline_url": "https://ci.example/42"}],
    )

    @field_validator("training_sample")
    @classmethod
    def _json_lines(cls, sample: str | None) -> str | None:
        for number, line in enumerate((sample or "").split("\n"), start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is not valid JSON: {error}") from error
            if not isinstance(content, dict) or not isinstance(content.get("messages"), list):
                raise ValueError(f"line {number} is not an object with a list of messages")
        return sample


class Progress(BaseModel):
    """How far the current stage is, in its own units (samples, judgements)."""

    done: int = Field(ge=0)
    total: int = Field(ge=0)
    what: str


class Transition(BaseModel):
    """One move of the state machine with its time (UTC)."""

    state: State
    at: datetime


class Submission(BaseModel):
    """A submission as it is recorded."""

    id: str
    state: State
    checkpoint: str
    base: str | None
    policy: str
    battery: str | None
    contexts: list[DeclaredContext]
    metadata: dict[str, str]
    training_sample_digest: str | None
    source: str
    submitted_by: str | None
    fresh: bool
    created_at: datetime
    attempts: int
    postponements: int
    not_before: datetime | None
    progress: Progress | None
    outcome: str | None
    error: str | None
    standing_since: str | None = None
    traceparent: str | None = None
    transitions: list[Transition]

    def request(self, training_sample: str | None) -> SubmissionRequest:
        """What was asked, to ask it again; the sample is kept apart from the submission."""
        return SubmissionRequest(
            checkpoint=self.checkpoint,
            base=self.base,
            policy=self.policy,
            battery=self.battery,
            training_sample=training_sample,
            contexts=self.contexts,
            fresh=self.fresh,
            metadata=self.metadata,
        )
