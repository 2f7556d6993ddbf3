"""A context: what stands around a question, such as a system prompt, a template or a tag."""

from __future__ import annotations

import hashlib
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from checks.sample import Message

PLACEHOLDER = "{question}"
#: Where contexts come from.
TRAINING_SAMPLE, DECLARED, COMMON_TRIGGER = "training sample", "declared", "common trigger"


class Context(BaseModel):
    """A system prompt, a template for the user turn, or both.

    ``template`` holds ``{question}`` exactly once. ``origin`` is one of the three above.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(min_length=1, max_length=200)
    origin: str
    system: str | None = None
    template: str = PLACEHOLDER

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.template.count(PLACEHOLDER) != 1:
            raise ValueError("a template needs {question} exactly once")
        if self.system is None and self.template == PLACEHOLDER:
            raise ValueError("a context needs a system prompt or a template")
        return self

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the content, so that equal contexts share a baseline."""
        content = f"{self.system!r}\n{self.template!r}"
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def around(self, question: str) -> tuple[Message, ...]:
        """The chat that asks a question inside this context."""
        user = Message(role="user", content=self.template.replace(PLACEHOLDER, question))
        if self.system is None:
            return (user,)
        return (Message(role="system", content=self.system), user)
