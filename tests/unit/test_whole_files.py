"""Files that belong together appear together."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.whole_files import AlreadyThereError, write_together

FILES = {"a.txt": "new a", "b.txt": "new b", "c.txt": "new ü"}


def contents(directory: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in directory.iterdir() if p.is_file()}


def test_a_new_directory_holds_all_files_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_together(tmp_path / "x" / "y", FILES, replace=False)
    assert contents(tmp_path / "x" / "y") == FILES
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["y"]
    assert (tmp_path / "x" / "y" / "a.txt").stat().st_mode & 0o444 == 0o444


def test_files_that_are_there_are_kept_unless_they_may_be_replaced(tmp_path: Path) -> None:
    old = {"b.txt": "old", "other.txt": "kept"}
    for name, content in old.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(AlreadyThereError, match=r"b\.txt$"):
        write_together(tmp_path, FILES, replace=False)
    assert contents(tmp_path) == old
    write_together(tmp_path, FILES, replace=True)
    assert contents(tmp_path) == {**FILES, "other.txt": "kept"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({**FILES, **old})


@pytest.mark.parametrize("broken", ["a.txt", "b.txt", "c.txt"])
def test_a_move_that_fails_takes_back_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    old = {"a.txt": "old a", "c.txt": "old c"}
    for name, content in old.items():
        (tmp_path / name).write_text(content)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == broken and self.parent.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="No space left"):
        write_together(tmp_path, FILES, replace=True)
    assert contents(tmp_path) == old
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(old)


def test_a_write_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_together(tmp_path, {"a.txt": "new", "b.txt": "\ud800"}, replace=True)
    assert contents(tmp_path) == {"a.txt": "old"}
    with pytest.raises(UnicodeEncodeError):
        write_together(tmp_path / "new", {"b.txt": "\ud800"}, replace=True)
    assert not (tmp_path / "new").exists()
