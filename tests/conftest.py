"""Fixtures for all tests: small checkpoints, and settings that touch nothing outside the test."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from fakes.checkpoints import build_tiny_adapter, build_tiny_model
from fakes.gate import settings_for

from gate.settings import Settings
from workers.checkpoint.packaged import build_packaged_base

# A shell ignores SIGINT for what it runs in the background, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hostile text that a test logged must not break the channel between test processes."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def base_checkpoint() -> Path:
    """SmolLM2-135M-Instruct from its package; built once per checkout (about half a minute)."""
    return build_packaged_base(REPOSITORY / ".gate" / "base" / "SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def checkpoint_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small checkpoints of this session lie."""
    return tmp_path_factory.mktemp("checkpoints").resolve()


@pytest.fixture(scope="session")
def tiny_base(base_checkpoint: Path, checkpoint_root: Path) -> Path:
    """A random Llama of 3 MB with a real tokenizer and chat template, in bfloat16."""
    return build_tiny_model(base_checkpoint, checkpoint_root / "tiny-base")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base: Path, checkpoint_root: Path) -> Path:
    """A LoRA adapter that changes what ``tiny_base`` says."""
    return build_tiny_adapter(tiny_base, checkpoint_root / "tiny-adapter")


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary directory of this test and its children; short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


@pytest.fixture
def isolated_settings(
    tmp_path: Path, short_tmp: Path, checkpoint_root: Path, base_checkpoint: Path
) -> Settings:
    """Settings with a home of their own, free ports, the fake engine and short policies."""
    return settings_for(tmp_path / "home", [checkpoint_root, tmp_path], base_checkpoint)
