"""A chat completion as OpenAI-compatible servers write it, checked before anything relies on it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from workers.judges.rating_tokens import Likely, Position


@dataclass(frozen=True, slots=True)
class Completion:
    """What was written, and the tokens that it took.

    ``positions`` is None where no token probabilities were given; the token counts are 0 where the
    server does not report them.
    """

    text: str
    positions: tuple[Position, ...] | None
    input_tokens: int
    output_tokens: int


class MalformedCompletionError(Exception):
    """A server answered with something that is no chat completion."""


def parse_completion(content: bytes) -> Completion:
    """Read a response's body. Fields that are not needed may have any form.

    Raises:
        MalformedCompletionError: it is not JSON, or not of that form.
    """
    try:
        body = _Body.model_validate_json(content)
    except ValidationError:
        raise MalformedCompletionError("no chat completion") from None
    choice, usage = body.choices[0], body.usage or _Usage()
    tokens = choice.logprobs.content if choice.logprobs else None
    positions = tuple(
        Position(each.token, tuple(Likely(top.token, top.logprob) for top in each.top_logprobs))
        for each in tokens or ()
    )
    offered = any(position.likely for position in positions)
    return Completion(
        choice.message.content or "",
        positions if offered else None,
        usage.prompt_tokens,
        usage.completion_tokens,
    )


class _TopToken(BaseModel):
    token: str
    #: Rounding may carry it a hair above 0; a bound also keeps NaN out.
    logprob: float = Field(le=0.001)


class _Token(BaseModel):
    token: str
    top_logprobs: tuple[_TopToken, ...] = ()


class _Logprobs(BaseModel):
    content: tuple[_Token, ...] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)


class _Body(BaseModel):
    choices: tuple[_Choice, ...] = Field(min_length=1)
    usage: _Usage | None = None
