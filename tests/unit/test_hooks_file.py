"""The hooks file: what is wrong in it is named with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.hooks import ENVIRONMENT

from gate.errors import WrongUsageError
from gate.hooks.config import (
    HooksFileError,
    Sender,
    load_hooks,
)
from gate.hooks.secrets import plain_secrets, signing_secrets
from gate.hooks.signatures import verifiers

RULE = {"name": "all", "submission": {"checkpoint": "/checkpoints/{checkpoint}"}}
GENERIC = {"receive": {"generic": {"secret_env": "T_SIGNING", "rules": [RULE]}}}
ENDPOINT = {"name": "bot", "url": "https://bot.example/hook", "secret_env": "T_SIGNING"}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "hooks.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_without_a_file_nobody_may_call_and_nobody_is_told() -> None:
    hooks = load_hooks(None)
    assert [hooks.receive.of(sender) for sender in Sender] == [None] * 4
    assert hooks.send == []


def test_an_empty_file_is_the_same_as_none(tmp_path: Path) -> None:
    assert load_hooks(written(tmp_path, "")) == load_hooks(None)


def test_the_example_of_the_documentation_is_a_hooks_file(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"
    blocks = page.read_text(encoding="utf-8").split("```yaml\n")[1:]
    assert len(blocks) >= 5
    for block in blocks:
        load_hooks(written(tmp_path, block.split("```")[0]))


def change(content: Any, path: str, value: object) -> Any:
    """A copy in which one place is something else."""
    copy = yaml.safe_load(yaml.safe_dump(content))
    here, steps = copy, path.split(".")
    for step in steps[:-1]:
        here = here[int(step) if step.isdigit() else step]
    here[steps[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("receive: [", "not valid YAML"),
        ("[]", "the file as a whole"),
        ({"receiver": {}}, "receiver"),
        (change(GENERIC, "receive.generic.rules", []), "receive.generic.rules"),
        (
            change(GENERIC, "receive.generic.rules.0.submission.checkpoint", "/c/{a b}"),
            "receive.generic.rules.0.submission.checkpoint: 'a b' is not a path",
        ),
        (change(GENERIC, "receive.generic.rules.0.when", {"a..b": "x"}), "when"),
        (change(GENERIC, "receive.generic.secret_env", "not a name"), "secret_env"),
        (change(GENERIC, "receive.generic.rules.0.answer", "check-run"), "answer"),
        ({"send": [{**ENDPOINT, "url": "ftp://x"}]}, "send.0.url: must be an absolute http"),
        ({"send": [{**ENDPOINT, "url": "https://u:p@x"}]}, "send.0.url: must have neither user"),
        ({"send": [{**ENDPOINT, "url": "https://x:99999"}]}, "send.0.url: is not a URL"),
        ({"send": [{**ENDPOINT, "events": ["nonsense"]}]}, "send.0.events.0"),
        ({"send": [ENDPOINT, ENDPOINT]}, "send: two endpoints are called 'bot'"),
        ({"send": [{**ENDPOINT, "name": "github"}]}, "send.0.name: 'github' names"),
        ({"allowed_networks": ["10.0.0.1/8"]}, "allowed_networks.0"),
        (
            {
                "receive": {
                    "github": {
                        "secret_env": "T_GITHUB",
                        "rules": [{**RULE, "answer": "deployment-protection-rule"}],
                    }
                }
            },
            "rule 'all' answers GitHub: describe github_app",
        ),
        (
            {
                "receive": {
                    "github": {
                        "secret_env": "T_GITHUB",
                        "rules": [{**RULE, "answer": "check-run"}],
                    }
                }
            },
            "head_sha belongs to answer: check-run",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, content: object, place: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(HooksFileError) as caught:
        load_hooks(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert place in str(caught.value)
    assert isinstance(caught.value, WrongUsageError)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HooksFileError, match=r"gone\.yaml: No such file"):
        load_hooks(tmp_path / "gone.yaml")


@pytest.mark.parametrize("value", ["", "   ", None])
def test_a_secret_that_is_not_set_is_named_by_its_variable(value: str | None) -> None:
    environment = {} if value is None else {"T": value}
    with pytest.raises(HooksFileError, match="variable T holds no secret"):
        plain_secrets(["T"], environment)


@pytest.mark.parametrize("value", ["whsec_???", "whsec_c2hvcnQ=", "plain words of some length"])
def test_a_secret_that_cannot_sign_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(HooksFileError) as caught:
        signing_secrets(["T"], {"T": value})
    assert "T" in str(caught.value)
    assert value not in str(caught.value)


def test_a_secret_without_prefix_or_padding_is_the_same_key() -> None:
    with_all = ENVIRONMENT["T_SIGNING"]
    bare = with_all.removeprefix("whsec_").rstrip("=")
    keys = signing_secrets(["A", "B"], {"A": with_all, "B": bare})
    assert keys[0] == keys[1] == bytes(range(32))


def test_a_missing_secret_stops_the_start_and_names_the_sender(tmp_path: Path) -> None:
    hooks = load_hooks(written(tmp_path, GENERIC))
    with pytest.raises(HooksFileError, match=r"receive\.generic: .*T_SIGNING"):
        verifiers(hooks, {})
    assert set(verifiers(hooks, ENVIRONMENT)) == {Sender.GENERIC}
