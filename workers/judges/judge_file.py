"""Judge files: which judge rates the answers, in YAML.

The forms are documented with examples in ``docs/judges.md``. Every mistake is a
:class:`JudgeFileError` that names the file, the place in it and what to do; no message repeats a
value of the file, because somebody may have put a key there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import httpx
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from gate.errors import WrongUsageError

#: The member of an ensemble, and the setting, that mean the judge that ships with the project.
EMBEDDED = "embedded"
_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class JudgeFileError(WrongUsageError):
    """A judge file or a rubric cannot be used."""


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Price(_Form):
    """What an endpoint charges, in units of ``currency`` for a million tokens."""

    input_per_million: float = Field(ge=0, allow_inf_nan=False)
    output_per_million: float = Field(ge=0, allow_inf_nan=False)
    currency: str = Field(pattern=r"^[A-Z]{3}$")

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Cost of so many tokens, in units of ``currency``."""
        paid = input_tokens * self.input_per_million + output_tokens * self.output_per_million
        return paid / 1_000_000


class EndpointFile(_Form):
    """A judge behind an OpenAI-compatible chat completions endpoint.

    ``url`` is the base, such as ``https://host/v1``. ``logprobs`` ``auto`` uses token probabilities
    where they are offered. Durations are seconds: ``timeout_seconds`` for one attempt, and
    ``patience_seconds`` for all attempts at one request, waiting included.
    """

    kind: Literal["endpoint"]
    name: str = Field(pattern=_NAME)
    url: str
    model: str = Field(min_length=1)
    api_key_env: str | None = None
    rubric: str = "default"
    logprobs: Literal[True, False, "auto"] = "auto"
    concurrency: int = Field(default=8, ge=1, le=256)
    requests_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    timeout_seconds: float = Field(default=60, gt=0, allow_inf_nan=False)
    patience_seconds: float = Field(default=300, ge=0, allow_inf_nan=False)
    price: Price | None = None

    @field_validator("url")
    @classmethod
    def _base_only(cls, value: str) -> str:
        try:
            parsed = httpx.URL(value)
        except httpx.InvalidURL:
            raise ValueError("give a URL such as https://host/v1") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError("give a URL such as https://host/v1")
        if parsed.userinfo or parsed.query or parsed.fragment:
            raise ValueError("leave out user, password, query and fragment; a key has api_key_env")
        base = value.rstrip("/")
        if base.endswith("/chat/completions"):
            raise ValueError("give the base alone, without /chat/completions")
        return base

    @field_validator("api_key_env")
    @classmethod
    def _name_only(cls, value: str | None) -> str | None:
        # Upper case only: keys of some providers would pass for names in lower case.
        upper = value is not None and value.replace("_", "").isalnum() and value.isupper()
        if value is not None and not (upper and value.isascii() and not value[0].isdigit()):
            raise ValueError(
                "give the NAME of an environment variable in capitals, such as JUDGE_API_KEY, "
                "and never the key itself"
            )
        return value

    def api_key(self, path: Path, environment: Mapping[str, str] = os.environ) -> str | None:
        """The key from the environment; None if the endpoint needs none. ``path`` is this file's.

        Raises:
            JudgeFileError: the variable is not set, or holds what cannot be a key.
        """
        if self.api_key_env is None:
            return None
        key = environment.get(self.api_key_env, "").strip()
        if not key:
            raise JudgeFileError(
                f"{path}: api_key_env: the environment variable {self.api_key_env} is "
                "not set; export the key under that name"
            )
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise JudgeFileError(
                f"{path}: api_key_env: what the environment variable {self.api_key_env} "
                "holds cannot be a key; export the key alone, on one line"
            )
        return key


class EnsembleFile(_Form):
    """Several judges that rate every answer together.

    ``members`` are ``embedded`` or paths of endpoint judge files, relative to this file.
    """

    kind: Literal["ensemble"]
    name: str = Field(pattern=_NAME)
    members: tuple[str, ...] = Field(min_length=2)
    combine: Literal["mean", "median"] = "mean"

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.members)) != len(self.members):
            raise ValueError("members: name each judge once")
        return self


def read_judge_file(path: Path) -> EndpointFile | EnsembleFile:
    """Read a judge file.

    Raises:
        JudgeFileError: it cannot be read or is not of the right form.
    """
    content = read_mapping(path)
    match content.get("kind"):
        case "endpoint":
            return validated(path, EndpointFile, content)
        case "ensemble":
            return validated(path, EnsembleFile, content)
        case _:
            raise JudgeFileError(f"{path}: kind: give endpoint or ensemble")


def member_path(ensemble_path: Path, member: str) -> Path:
    """Where the file of an ensemble's member lies."""
    return ensemble_path.parent / member


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        JudgeFileError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JudgeFileError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise JudgeFileError(f"{path}: {line}not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise JudgeFileError(f"{path}: not valid YAML in UTF-8; correct it") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise JudgeFileError(f"{path}: give a mapping of names to values at the top")
    return content


_F = TypeVar("_F", bound=BaseModel)


def validated(path: Path, form: type[_F], content: Mapping[str, Any]) -> _F:
    """Content in its form.

    Raises:
        JudgeFileError: it is not of that form; names the first place that is wrong.
    """
    try:
        return form.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        place = f"{place}: " if place else ""
        raise JudgeFileError(f"{path}: {place}{_advice(first['type'], first['msg'])}") from None


def _advice(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is missing; add it"
        case "extra_forbidden":
            return "is not known here; remove it or correct its name (docs/judges.md lists all)"
        case "value_error":
            return message.removeprefix("Value error, ")
        case _:
            return f"{message[:1].lower()}{message[1:]}; correct it"
