"""Archives are hostile: what is extracted, what is refused, and that nothing lands elsewhere."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as search
from hypothesis import strategies as st

from gate import archives
from gate.archive_names import ArchiveError, Names, safe_parts
from gate.archives import ArchiveTooLargeError, Extracted, Format, extract, format_of_name

LIMIT = 1_000_000
Members = dict[str, bytes]


def tar_of(members: Members, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            add(tar, name, content)
    return buffer.getvalue()


def add(
    tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
    tar.addfile(member, io.BytesIO(content))


def zip_of(members: Members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members.items():
            package.writestr(name, content)
    return buffer.getvalue()


PACK: dict[Format, Callable[[Members], bytes]] = {
    Format.TAR: tar_of,
    Format.TAR_GZ: lambda members: tar_of(members, "w:gz"),
    Format.ZIP: zip_of,
}
every_format = pytest.mark.parametrize("kind", list(Format))


def unpack(content: bytes, kind: Format, place: Path, limit: int = LIMIT) -> Extracted:
    (place / "inside").mkdir(parents=True, exist_ok=True)
    return extract(io.BytesIO(content), kind, place / "inside", limit)


def files_in(place: Path) -> Members:
    return {str(f.relative_to(place)): f.read_bytes() for f in place.rglob("*") if f.is_file()}


@every_format
def test_what_was_packed_comes_out(kind: Format, tmp_path: Path) -> None:
    members = {"config.json": b"{}", "model.safetensors": b"x" * 5000, "sub/notes.txt": b"n"}
    got = unpack(PACK[kind](members), kind, tmp_path)
    assert files_in(tmp_path / "inside") == members
    assert got == Extracted(files=3, size=5003)


@every_format
def test_one_folder_at_the_top_is_stripped_and_only_one(kind: Format, tmp_path: Path) -> None:
    unpack(PACK[kind]({"top/top/a": b"1", "top/top/b": b"2"}), kind, tmp_path)
    assert files_in(tmp_path / "inside") == {"top/a": b"1", "top/b": b"2"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["inside"]


LONG_NAMES = ["x" * 300, "a/" * 9 + "x"]


@every_format
@pytest.mark.parametrize(
    "name",
    ["/etc/x", "../x", "a/../../x", "a//x", "a/./x", "..", "a\\..\\x", "C:/x", "a\nb", *LONG_NAMES],
)
def test_a_name_that_leads_out_or_is_odd_is_refused(
    kind: Format, name: str, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError):
        unpack(PACK[kind]({"fine": b"1", name: b"2"}), kind, tmp_path)
    assert files_in(tmp_path).keys() <= {"inside/fine"}


ODD = st.sampled_from([*"/.\\:a\0\n\u202e\ud800", ".."]) | st.characters()


@search(deadline=None)
@given(st.lists(ODD).map("".join))
def test_a_name_is_refused_or_stays_inside(name: str) -> None:
    try:
        parts = safe_parts(name)
    except ArchiveError:
        return
    inside = Path("/place")
    assert (inside.joinpath(*parts)).resolve().is_relative_to(inside)
    assert all(part not in {"", ".", ".."} and "/" not in part for part in parts)


def test_a_leading_dot_is_what_tar_writes() -> None:
    assert safe_parts("./config.json") == ("config.json",)
    assert safe_parts("./") == safe_parts(".") == ()


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"9",
    ],
)
def test_what_is_no_regular_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add(tar, "config.json", kind=kind)
    with pytest.raises(ArchiveError):
        unpack(buffer.getvalue(), Format.TAR, tmp_path)
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_zip_with_a_link_or_device_is_refused(mode: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        member = zipfile.ZipInfo("config.json")
        member.external_attr = (mode | 0o777) << 16
        package.writestr(member, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a link or device"):
        unpack(buffer.getvalue(), Format.ZIP, tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("a", "A"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("ﬁ", "fi")],
)
def test_names_that_some_file_system_takes_for_the_same_are_refused(
    first: str, second: str, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add(tar, first, b"1")
        add(tar, second, b"2")
    with pytest.raises(ArchiveError, match=r"twice|at once"):
        unpack(buffer.getvalue(), Format.TAR, tmp_path)


@pytest.mark.parametrize("kind", [Format.TAR_GZ, Format.ZIP])
def test_a_bomb_is_stopped_at_the_limit(kind: Format, tmp_path: Path) -> None:
    bomb = PACK[kind]({"zeros": bytes(50 * LIMIT)})
    assert len(bomb) < LIMIT
    with pytest.raises(ArchiveTooLargeError, match="more than"):
        unpack(bomb, kind, tmp_path)
    assert sum(map(len, files_in(tmp_path).values())) <= LIMIT


@every_format
def test_the_limit_holds_for_all_files_together(kind: Format, tmp_path: Path) -> None:
    members = {f"f{n}": bytes(LIMIT // 4) for n in range(4)}
    assert unpack(PACK[kind](members), kind, tmp_path / "fits").files == 4
    with pytest.raises(ArchiveTooLargeError):
        unpack(PACK[kind](members | {"one": b"1", "more": b"1"}), kind, tmp_path / "over")


@every_format
def test_too_many_members_are_refused(kind: Format, tmp_path: Path) -> None:
    members = {f"f{n}": b"" for n in range(archives.MOST_MEMBERS + 1)}
    with pytest.raises(ArchiveError, match="more than 4096"):
        unpack(PACK[kind](members), kind, tmp_path)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    content = zip_of({"a": b"x" * 1000})
    lying = content.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != content
    with pytest.raises(ArchiveError):
        unpack(lying, Format.ZIP, tmp_path)


def test_a_tar_with_a_huge_extended_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    with pytest.raises(ArchiveError, match="extended header"):
        unpack(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024), Format.TAR, tmp_path)


def test_a_zip_with_a_huge_table_of_contents_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_TABLE_BYTES", 100_000)
    content = zip_of({f"a-long-name-{n:04}": b"" for n in range(2000)})
    with pytest.raises(ArchiveError, match="table of contents"):
        unpack(content, Format.ZIP, tmp_path)


def test_an_encrypted_or_oddly_compressed_zip_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as package:
        package.writestr("a", "x")
    with pytest.raises(ArchiveError, match="neither stored nor deflated"):
        unpack(buffer.getvalue(), Format.ZIP, tmp_path)


@every_format
@pytest.mark.parametrize("content", [b"", b"x" * 3000, gzip.compress(b"no tar" * 300, mtime=0)])
def test_what_is_no_archive_is_refused(kind: Format, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        unpack(content, kind, tmp_path)


@every_format
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_archive_is_refused(kind: Format, share: float, tmp_path: Path) -> None:
    whole = PACK[kind]({"a": bytes(range(256)) * 400})
    with pytest.raises(ArchiveError):
        unpack(whole[: int(len(whole) * share)], kind, tmp_path)


@every_format
@search(deadline=None)
@given(noise=st.binary(max_size=40), place=st.floats(0, 1))
def test_a_damaged_archive_never_breaks_the_gate_itself(
    kind: Format, noise: bytes, place: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = PACK[kind]({"top/a": b"abc" * 50, "top/b": b"xyz"})
    at = int(len(whole) * place)
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    place_of_test = tmp_path_factory.mktemp("damaged")
    try:
        unpack(damaged, kind, place_of_test)
    except ArchiveError:
        return
    assert files_in(place_of_test / "inside")


def test_names_are_counted_with_their_folders() -> None:
    names = Names(most_files=2)
    names.folder(("a",))
    names.file(("a", "b"))
    with pytest.raises(ArchiveError, match="more than 2"):
        names.folder(("c",))


def test_formats_by_name() -> None:
    assert format_of_name("m.TAR") is Format.TAR
    assert format_of_name("m.tar.gz") is format_of_name("m.tgz") is Format.TAR_GZ
    assert format_of_name("m.zip") is Format.ZIP
    with pytest.raises(ArchiveError):
        format_of_name("m.rar")
