"""Downloading: resumed where it broke off, compared with digests, given up in a clear sentence."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.content_store import NoRoomError
from workers.checkpoint import download as module
from workers.checkpoint.download import Meter, download
from workers.checkpoint.remote import (
    RemoteFile,
    SourceChangedError,
    SourceError,
    SourceUnreachableError,
    digest_of,
    is_wanted,
    remote_key,
)

CONTENT = bytes(range(256)) * 40
SHA256 = ("sha256", hashlib.sha256(CONTENT).hexdigest())


class Fake:
    """A remote with one content; each entry of ``breaks`` is after how many bytes a read breaks."""

    uri = "s3://bucket/x"

    def __init__(self, *breaks: int, content: bytes = CONTENT) -> None:
        self.breaks = list(breaks)
        self.content = content
        self.asked: list[tuple[str, int]] = []

    def files(self) -> list[RemoteFile]:
        return [RemoteFile("model.safetensors", len(CONTENT), "v1", SHA256)]

    def pieces(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        self.asked.append((file.name, start))
        left = self.breaks.pop(0) if self.breaks else None
        for at in range(start, len(self.content), 1000):
            if left is not None and left <= 0:
                raise SourceUnreachableError("gone")
            yield self.content[at : at + 1000]
            left = left - 1000 if left is not None else None
        if left is not None:
            raise SourceUnreachableError("gone")


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.0)


def fetch(remote: Fake, place: Path, attempts: int = 2) -> bytes:
    notes: list[str] = []
    meter = Meter(len(CONTENT), lambda _done, _total, what: notes.append(what))
    download(remote, remote.files(), place / "files", attempts, meter)
    assert not (place / "partial").exists()
    assert notes[-1] == "fetching 0.0 of 0.0 GiB"
    return (place / "files" / "model.safetensors").read_bytes()


def test_a_connection_that_breaks_is_resumed_where_it_broke(tmp_path: Path) -> None:
    remote = Fake(3000, 2000)
    assert fetch(remote, tmp_path) == CONTENT
    assert [start for _, start in remote.asked] == [0, 3000, 5000]


def test_any_number_of_breaks_is_borne_as_long_as_bytes_come(tmp_path: Path) -> None:
    assert fetch(Fake(*[1000] * 10), tmp_path, attempts=1) == CONTENT


def test_a_source_that_sends_nothing_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    remote = Fake(3000, 0, 0, 0)
    with pytest.raises(SourceUnreachableError):
        fetch(remote, tmp_path, attempts=3)
    again = Fake()
    assert fetch(again, tmp_path) == CONTENT
    assert again.asked == [("model.safetensors", 3000)]


def test_a_file_that_is_whole_is_not_asked_for_again(tmp_path: Path) -> None:
    fetch(Fake(), tmp_path)
    again = Fake()
    fetch(again, tmp_path)
    assert again.asked == []


def test_an_empty_file_needs_no_request(tmp_path: Path) -> None:
    remote = Fake()
    empty = [RemoteFile("vocab.txt", 0, "v")]
    download(remote, empty, tmp_path / "files", 1, Meter(0, lambda *_: None))
    assert (tmp_path / "files" / "vocab.txt").read_bytes() == b""
    assert remote.asked == []


def test_a_kept_part_that_is_wrong_is_fetched_from_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "model.safetensors").write_bytes(b"\0" * 3000)
    remote = Fake()
    assert fetch(remote, tmp_path) == CONTENT
    assert [start for _, start in remote.asked] == [3000, 0]


@pytest.mark.parametrize(
    "content", [CONTENT[:-1] + b"!", CONTENT + b"more"], ids=["other bytes", "longer"]
)
def test_a_content_that_was_not_announced_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceChangedError, match=r"model\.safetensors"):
        fetch(Fake(content=content), tmp_path)
    assert not (tmp_path / "files" / "model.safetensors").exists()


def test_a_content_that_ends_early_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachableError, match="ended early"):
        fetch(Fake(content=CONTENT[:-10]), tmp_path)


def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    class Forbidden(Fake):
        def pieces(self, file: RemoteFile, start: int) -> Iterator[bytes]:
            self.asked.append((file.name, start))
            raise SourceError("may not be read")
            yield b""

    remote = Forbidden()
    with pytest.raises(SourceError, match="may not be read"):
        fetch(remote, tmp_path, attempts=5)
    assert len(remote.asked) == 1


def test_a_disk_that_runs_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("workers.checkpoint.download.os.fsync", full)
    with pytest.raises(NoRoomError, match="ran full while fetching s3://bucket/x"):
        fetch(Fake(), tmp_path)


def test_what_a_note_raises_ends_the_fetch_at_once(tmp_path: Path) -> None:
    class CancelledError(Exception):
        pass

    def cancel(_done: int, _total: int, _what: str) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        download(Fake(), Fake().files(), tmp_path / "files", 2, Meter(len(CONTENT), cancel))


def test_progress_is_told_in_gibibytes() -> None:
    notes: list[tuple[int, int, str]] = []
    meter = Meter(3 * 2**30, lambda *note: notes.append(note))
    meter.add(int(1.2 * 2**30))
    assert notes == [(1228, 3072, "fetching 1.2 of 3.0 GiB")]


def test_digests_are_those_of_the_stores(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"hello\n")
    assert digest_of(file, "md5") == "b1946ac92492d2347c6235b4d2611184"
    assert digest_of(file, "git") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert digest_of(file, "sha256") == hashlib.sha256(b"hello\n").hexdigest()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("chat_template.jinja", True),
        ("tokenizer.model", True),
        ("merges.txt", True),
        ("pytorch_model.bin", False),
        ("model.pt", False),
        ("modeling_x.py", False),
        ("README.md", False),
        ("sub/config.json", False),
        ("model.safetensors.py", False),
        ("config.json\n", False),
    ],
)
def test_only_what_would_be_loaded_is_fetched(name: str, wanted: bool) -> None:
    assert is_wanted(name) is wanted


def test_a_key_names_the_content_as_the_store_describes_it() -> None:
    a, b = RemoteFile("a", 1, "v1"), RemoteFile("b", 2, "v1")
    key = remote_key("s3://bucket/x", [a, b])
    assert key == remote_key("s3://bucket/x", [b, a])
    others = [
        remote_key("s3://bucket/y", [a, b]),
        remote_key("s3://bucket/x", [a]),
        remote_key("s3://bucket/x", [a, RemoteFile("b", 2, "v2")]),
        remote_key("s3://bucket/x", [a, RemoteFile("b", 3, "v1")]),
        remote_key("s3://bucket/x", [a, RemoteFile("b", 2, "v1", ("md5", "00"))]),
    ]
    assert len({key, *others}) == 6
