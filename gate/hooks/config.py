"""The hooks file: who may call, what a call submits, and who is told what happens here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from checks.bounded_yaml import UnreadableYamlError, read_yaml_file
from gate.errors import WrongUsageError
from gate.hooks.template import TemplateError, parse_path, parse_template


class HooksFileError(WrongUsageError):
    """The hooks file, or the environment that it names, is not usable; says where and why."""


class Sender(StrEnum):
    """Who calls, as the last part of the path."""

    GITHUB = "github"
    GITLAB = "gitlab"
    HUGGINGFACE = "huggingface"
    GENERIC = "generic"


class Event(StrEnum):
    """What receivers are told of."""

    STATE_CHANGED = "submission.state_changed"
    VERDICT_CREATED = "verdict.created"
    FAILED = "submission.failed"
    CANCELLED = "submission.cancelled"


class Answer(StrEnum):
    """How GitHub is answered once the submission has ended."""

    DEPLOYMENT_PROTECTION_RULE = "deployment-protection-rule"
    CHECK_RUN = "check-run"


def _a_template(text: str) -> str:
    try:
        parse_template(text)
    except TemplateError as error:
        raise ValueError(str(error)) from error
    return text


def _a_path(text: str) -> str:
    try:
        parse_path(text)
    except TemplateError as error:
        raise ValueError(str(error)) from error
    return text


def _a_url(text: str) -> str:
    """An absolute http(s) URL without user, query of secrets being the receiver's own affair."""
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine:
        raise ValueError("must be an absolute http:// or https:// URL")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must have neither user, password nor fragment")
    if any(ord(c) <= ord(" ") or ord(c) == 0x7F for c in text):
        raise ValueError("must not contain blanks or control characters")
    return text


Template = Annotated[str, Field(max_length=4096), AfterValidator(_a_template)]
PayloadPath = Annotated[str, Field(max_length=512), AfterValidator(_a_path)]
Url = Annotated[str, Field(max_length=2048), AfterValidator(_a_url)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Network = IPv4Network | IPv6Network


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubmissionTemplate(_Strict):
    """What a call submits. Texts may hold ``{path.in.payload}``; see :mod:`gate.hooks.template`."""

    checkpoint: Template
    base: Template | None = None
    policy: Template = "default"
    battery: Template | None = None
    training_sample: Template | None = None
    fresh: bool = False
    metadata: dict[str, Template] = Field(default_factory=dict, max_length=32)


class Rule(_Strict):
    """Which calls become a submission, and which one.

    ``events`` are names as the sender gives them, with ``*`` and ``?``; ``when`` maps paths of the
    payload to patterns of which one must match. A path that is not there does not match.
    """

    name: Name
    events: list[str] = Field(default=["*"], min_length=1)
    when: dict[PayloadPath, list[str]] = Field(default_factory=dict)
    submission: SubmissionTemplate

    @field_validator("when", mode="before")
    @classmethod
    def _one_or_many(cls, when: Any) -> Any:
        if not isinstance(when, Mapping):
            return when
        return {k: [v] if isinstance(v, str) else v for k, v in when.items()}


class GitHubRule(Rule):
    """A rule of GitHub: also how to answer, and for a check run the commit that it belongs to."""

    answer: Answer | None = None
    head_sha: Template | None = None

    @model_validator(mode="after")
    def _a_check_run_has_a_commit(self) -> Self:
        if (self.answer is Answer.CHECK_RUN) != (self.head_sha is not None):
            raise ValueError("head_sha belongs to answer: check-run, and only there")
        return self


class Receiver(_Strict):
    """A sender that may call. Of several secrets any one is good, so that they can be changed."""

    secret_env: list[EnvironmentName] = Field(min_length=1, max_length=4)
    rules: list[Rule] = Field(min_length=1)

    @field_validator("secret_env", mode="before")
    @classmethod
    def _one_or_many(cls, names: Any) -> Any:
        return [names] if isinstance(names, str) else names


class GitHubReceiver(Receiver):
    """GitHub."""

    rules: list[GitHubRule] = Field(min_length=1)  # type: ignore[assignment]


class GitLabReceiver(Receiver):
    """GitLab: with ``signed`` a signing token is demanded, otherwise the secret token."""

    signed: bool = False


class Receivers(_Strict):
    """The senders that may call; one that is left out may not."""

    github: GitHubReceiver | None = None
    gitlab: GitLabReceiver | None = None
    huggingface: Receiver | None = None
    generic: Receiver | None = None

    def of(self, sender: Sender) -> Receiver | None:
        """What is configured for a sender."""
        found: Receiver | None = getattr(self, sender.value)
        return found


class GitHubApp(_Strict):
    """The GitHub App as which GitHub is answered."""

    app_id: str = Field(min_length=1, max_length=64, description="App id or client id.")
    private_key_env: EnvironmentName
    api_url: Url = "https://api.github.com"
    check_name: str = Field(default="em-gate", min_length=1, max_length=100)

    @field_validator("app_id", mode="before")
    @classmethod
    def _number_or_text(cls, app_id: Any) -> Any:
        return str(app_id) if isinstance(app_id, int) else app_id

    @field_validator("api_url")
    @classmethod
    def _without_trailing_slash(cls, url: str) -> str:
        return url.rstrip("/")


class Endpoint(_Strict):
    """A receiver of Standard Webhooks, and the events that it is told of."""

    name: Name
    url: Url
    secret_env: list[EnvironmentName] = Field(min_length=1, max_length=4)
    events: list[Event] = Field(
        default=[Event.VERDICT_CREATED, Event.FAILED, Event.CANCELLED], min_length=1
    )

    @field_validator("secret_env", mode="before")
    @classmethod
    def _one_or_many(cls, names: Any) -> Any:
        return [names] if isinstance(names, str) else names

    @field_validator("name")
    @classmethod
    def _not_of_github(cls, name: str) -> str:
        if name == Sender.GITHUB:
            raise ValueError("'github' names the answers to GitHub: take another name")
        return name


class Hooks(_Strict):
    """The hooks file as a whole."""

    public_url: Url | None = None
    allowed_networks: list[Network] = Field(default_factory=list)
    receive: Receivers = Receivers()
    github_app: GitHubApp | None = None
    send: list[Endpoint] = Field(default_factory=list)

    @field_validator("public_url")
    @classmethod
    def _without_trailing_slash(cls, url: str | None) -> str | None:
        return url.rstrip("/") if url else url

    @field_validator("send")
    @classmethod
    def _names_are_unique(cls, send: list[Endpoint]) -> list[Endpoint]:
        names = [endpoint.name for endpoint in send]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two endpoints are called '{name}'")
        return send

    @model_validator(mode="after")
    def _answers_need_an_app(self) -> Self:
        rules = self.receive.github.rules if self.receive.github else []
        answered = [rule.name for rule in rules if rule.answer]
        if answered and self.github_app is None:
            raise ValueError(f"rule '{answered[0]}' answers GitHub: describe github_app")
        return self

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of this name."""
        return next((e for e in self.send if e.name == name), None)


def load_hooks(path: Path | None) -> Hooks:
    """Read the hooks file; without one nobody may call and nobody is told.

    Raises:
        HooksFileError: names the file, the place in it, and what is wrong there.
    """
    if path is None:
        return Hooks()
    try:
        content = read_yaml_file(path)
        return Hooks.model_validate(content if content is not None else {})
    except OSError as error:
        raise HooksFileError(f"{path}: {error.strerror}") from error
    except UnreadableYamlError as error:
        raise HooksFileError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
        what = first["msg"].removeprefix("Value error, ")
        raise HooksFileError(f"{path}: {place}: {what}") from error
