"""What stands around the core: confined paths, settings, the table for a terminal."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.cli.verdict_table import verdict_table
from gate.errors import PathOutsideRootError, WrongUsageError
from gate.policy import Condition
from gate.roots import confine
from gate.settings import Device, Settings
from gate.verdict import Verdict, decide


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "model").mkdir(parents=True)
    (tmp_path / "rootless" / "model").mkdir(parents=True)
    return tmp_path / "root"


def test_a_directory_under_a_root_is_accepted_by_its_real_path(root: Path) -> None:
    (root / "alias").symlink_to(root / "model")
    for path in (root / "model", root / "alias", root / "x" / ".." / "model"):
        assert confine(str(path), [root.parent / "other", root]) == (root / "model").resolve()


def test_a_root_that_is_a_link_still_holds_what_is_in_it(root: Path) -> None:
    (root.parent / "linked").symlink_to(root)
    linked = root.parent / "linked"
    assert confine(str(linked / "model"), [linked]) == (root / "model").resolve()


@pytest.mark.parametrize("path", ["..", "../rootless/model", "out", "out/model", "/", "/etc"])
def test_what_leads_out_of_the_root_is_outside(root: Path, path: str) -> None:
    (root / "out").symlink_to(root.parent / "rootless")
    with pytest.raises(PathOutsideRootError, match="not under a checkpoint root"):
        confine(str(root / path), [root])


@pytest.mark.parametrize("path", ["gone", "file", "x" * 300, "a\0b", "\ud800", "loop"])
def test_what_is_no_directory_is_wrong_usage(root: Path, path: str) -> None:
    (root / "file").touch()
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(WrongUsageError):
        confine(str(root) + "/" + path, [root])


def test_without_a_root_nothing_is_accepted_and_the_setting_is_named(root: Path) -> None:
    with pytest.raises(PathOutsideRootError, match="GATE_CHECKPOINT_ROOTS"):
        confine(str(root / "model"), [])


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("GATE_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_settings_come_from_the_environment(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("GATE_HOME", "/srv/gate")
    clean.setenv("GATE_CHECKPOINT_ROOTS", '["/a", "/b"]')
    clean.setenv("GATE_DEVICE", "cuda")
    clean.setenv("GATE_SWAP_WEIGHTS", "false")
    got = Settings()
    assert got.checkpoint_roots == [Path("/a"), Path("/b")]
    assert (got.device, got.swap_weights) == (Device.CUDA, False)
    assert got.database == "sqlite:////srv/gate/gate.db"
    assert got.work_directory.is_relative_to("/srv/gate")


def test_a_database_of_ones_own_goes_before_the_one_at_home(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("GATE_DATABASE_URL", "postgresql+psycopg://db/gate")
    assert Settings().database == "postgresql+psycopg://db/gate"


def test_by_default_no_path_is_accepted_and_nobody_else_is_served(
    clean: pytest.MonkeyPatch,
) -> None:
    assert Settings().checkpoint_roots == []
    assert Settings().api_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [("DEVICE", "abacus"), ("API_PORT", "70000"), ("ATTEMPTS", "0"), ("SWAP_TOLERANCE", "0")],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(
    clean: pytest.MonkeyPatch, name: str, value: str
) -> None:
    clean.setenv(f"GATE_{name}", value)
    with pytest.raises(ValueError, match=name.lower()):
        Settings()


def shown(verdict: Verdict) -> str:
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(verdict_table("model", verdict))
    return out.getvalue()


def test_the_table_shows_value_interval_threshold_and_outcome() -> None:
    conditions = [Condition(check="a", at_most=0.2), Condition(check="b", at_least=0.6)]
    measured = [measurement("a", 0.3, 0.4), measurement("b", 0.7, 0.9)]
    text = shown(decide(policy(*conditions), evidence(*measured), DIGESTS))
    assert "model: FAIL" in text
    for part in ("+0.350", "[+0.300, +0.400]", "at most +0.20", "at least +0.60", "pass"):
        assert part in text


def test_a_check_that_was_not_measured_has_a_row_with_the_reason() -> None:
    text = shown(decide(policy(Condition(check="a", at_most=0.2)), evidence(), DIGESTS))
    assert "a was not measured" in text
    assert "INCONCLUSIVE" in text


def test_the_words_of_a_plugin_are_not_read_as_markup() -> None:
    odd = measurement("a", 0, 0).model_copy(update={"estimate": None, "note": "[/red] [bold]x"})
    verdict = decide(policy(Condition(check="a", at_most=0.2)), evidence(odd), DIGESTS)
    assert "[/red] [bold]x" in shown(verdict)
