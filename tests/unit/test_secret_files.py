"""Secrets in files become variables of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.errors import WrongUsageError
from gate.secret_files import VARIABLE, load_secret_files


def test_each_file_named_like_a_variable_becomes_it(tmp_path: Path) -> None:
    (tmp_path / "GATE_BROKER_URL").write_text("redis://gate:s3cret@valkey/0\n")
    (tmp_path / "JUDGE_API_KEY").write_text(" sk-1 ")
    environment = {VARIABLE: str(tmp_path)}
    load_secret_files(environment)
    assert environment["GATE_BROKER_URL"] == "redis://gate:s3cret@valkey/0"
    assert environment["JUDGE_API_KEY"] == "sk-1"


def test_what_is_set_stays_and_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "HF_TOKEN").write_text("from the file")
    (tmp_path / "JUDGE_API_KEY").write_text("\n")
    environment = {VARIABLE: str(tmp_path), "HF_TOKEN": "from outside"}
    load_secret_files(environment)
    assert environment == {VARIABLE: str(tmp_path), "HF_TOKEN": "from outside"}


def test_other_files_and_directories_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text("user default on")
    (tmp_path / "..data").mkdir()
    (tmp_path / "A_DIRECTORY").mkdir()
    environment = {VARIABLE: str(tmp_path)}
    load_secret_files(environment)
    assert environment == {VARIABLE: str(tmp_path)}


@pytest.mark.parametrize("environment", [{}, {VARIABLE: ""}])
def test_without_a_directory_nothing_is_read(environment: dict[str, str]) -> None:
    before = dict(environment)
    load_secret_files(environment)
    assert environment == before


def test_a_missing_directory_and_an_unreadable_secret_are_said(tmp_path: Path) -> None:
    with pytest.raises(WrongUsageError, match=f"{VARIABLE}: .*gone cannot be read: No such file"):
        load_secret_files({VARIABLE: str(tmp_path / "gone")})
    (tmp_path / "JUDGE_API_KEY").write_bytes(b"\xff\xfe")
    with pytest.raises(WrongUsageError, match="JUDGE_API_KEY is not text in UTF-8") as caught:
        load_secret_files({VARIABLE: str(tmp_path)})
    assert "\\xff" not in str(caught.value)
