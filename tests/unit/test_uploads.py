"""Uploads: announced, received, compared, extracted, kept once; broken ones leave nothing."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import tarfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import settings as search
from hypothesis import strategies as st
from unit.checkpoints import write_model

from gate import content_store
from gate.api.app import create_app
from gate.content_digest import NoDigestError, announced_digest
from gate.settings import Settings
from gate.sources import UploadSource
from gate.uploads import UploadStore
from workers.checkpoint.fetching import fetched
from workers.checkpoint.inspection import inspect_full_model

MIB = 2**20


def tar_of(directory: Path, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        tar.add(directory, directory.name)
    return buffer.getvalue()


def tar_with(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for file in directory.iterdir():
            package.write(file, file.name)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content_digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("uploads") / "model")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", upload_gib=1 / 1024, largest_checkpoint_gib=1 / 256)


@pytest.fixture
def api(settings: Settings) -> TestClient:
    return TestClient(create_app(settings), raise_server_exceptions=False)


def send(
    api: TestClient, content: Any, kind: str = "application/x-tar", **headers: str
) -> httpx2.Response:
    digest = content_digest(content) if isinstance(content, bytes) else ""
    sent = {"Content-Type": kind, "Content-Digest": digest, **headers}
    return api.post(
        "/v1/uploads", content=content, headers={k: v for k, v in sent.items() if v is not None}
    )


def left_behind(settings: Settings) -> list[str]:
    """What is in the upload store besides locks and empty folders."""
    root = settings.upload_directory
    return [
        str(found.relative_to(root))
        for found in root.rglob("*")
        if found.is_file() and "locks" not in found.parts and found.name != "room.lock"
    ]


@pytest.mark.parametrize(
    ("kind", "pack"),
    [
        ("application/x-tar", tar_of),
        ("application/gzip", lambda directory: tar_of(directory, "w:gz")),
        ("application/x-gzip", lambda directory: tar_of(directory, "w:gz")),
        ("application/zip", zip_of),
        ("Application/ZIP; charset=binary", zip_of),
    ],
)
def test_an_upload_is_the_checkpoint_that_was_packed(
    api: TestClient, settings: Settings, model: Path, kind: str, pack: Any
) -> None:
    content = pack(model)
    got = send(api, content, kind)
    assert got.status_code == 201, got.text
    checkpoint = f"upload://sha256:{sha256(content)}"
    size = sum(file.stat().st_size for file in model.iterdir())
    assert got.json() == {"checkpoint": checkpoint, "size": size, "files": 4}
    assert api.get(got.headers["location"]).json() == got.json()
    with fetched(checkpoint, settings, lambda *_: None) as source:
        assert inspect_full_model(source.directory).digest == inspect_full_model(model).digest


def test_an_upload_can_be_submitted_and_an_unknown_one_not(api: TestClient, model: Path) -> None:
    checkpoint = send(api, tar_of(model)).json()["checkpoint"]
    assert api.post("/v1/submissions", json={"checkpoint": checkpoint}).status_code == 202
    unknown = f"upload://sha256:{'0' * 64}"
    got = api.post("/v1/submissions", json={"checkpoint": unknown})
    assert got.status_code == 422
    assert "POST /v1/uploads first" in got.json()["detail"]
    assert api.get(f"/v1/uploads/sha256:{'0' * 64}").status_code == 404
    assert api.get("/v1/uploads/..%2f..%2fetc").status_code in {404, 422}


def test_a_digest_in_the_query_does_as_well(api: TestClient, model: Path) -> None:
    content = tar_of(model)
    headers = {"Content-Type": "application/x-tar"}
    got = api.post(f"/v1/uploads?sha256={sha256(content)}", content=content, headers=headers)
    assert got.status_code == 201


def test_the_same_content_is_stored_once(api: TestClient, settings: Settings, model: Path) -> None:
    first, second = send(api, tar_of(model)), send(api, tar_of(model))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert len(list((settings.upload_directory / "entries").iterdir())) == 1


def test_parallel_uploads_of_the_same_content_all_succeed(
    api: TestClient, settings: Settings, model: Path
) -> None:
    content = tar_of(model)
    got: list[httpx2.Response] = []
    senders = [threading.Thread(target=lambda: got.append(send(api, content))) for _ in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    assert [response.status_code for response in got] == [201] * 6
    assert len({response.text for response in got}) == 1
    assert len(list((settings.upload_directory / "entries").iterdir())) == 1
    assert list((settings.upload_directory / "parts").iterdir()) == []


BAD = {
    "no digest": ({"Content-Digest": None}, 422, "required"),
    "other digest": ({"Content-Digest": content_digest(b"other")}, 422, "was announced"),
    "digest that is none": ({"Content-Digest": "sha-256=abc"}, 422, "not readable"),
    "no content type": ({"Content-Type": ""}, 415, "application/zip"),
    "other content type": ({"Content-Type": "text/plain"}, 415, "'text/plain'"),
    "coded content": ({"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
    "other format": ({"Content-Type": "application/zip"}, 422, "no zip"),
    "announced too large": ({"Content-Length": str(2**40)}, 413, "GATE_UPLOAD_GIB"),
}


@pytest.mark.parametrize(("headers", "status", "says"), BAD.values(), ids=list(BAD))
def test_a_bad_upload_is_a_problem_and_leaves_nothing(
    api: TestClient,
    settings: Settings,
    model: Path,
    headers: dict[str, Any],
    status: int,
    says: str,
) -> None:
    got = send(api, tar_of(model), **headers)
    assert (got.status_code, got.headers["content-type"]) == (status, "application/problem+json")
    assert says in got.json()["detail"]
    assert left_behind(settings) == []


def test_a_body_without_a_length_is_stopped_at_the_limit(
    api: TestClient, settings: Settings
) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        for _ in range(64):
            sent += MIB
            yield b"x" * MIB

    got = send(api, endless(), **{"Content-Digest": content_digest(b"")})
    assert got.status_code == 413
    assert "larger than 0.00 GiB" in got.json()["detail"]
    assert left_behind(settings) == []


HOSTILE = {
    "leads out": tar_with("../x", b"x"),
    "absolute": tar_with("/etc/cron.d/x", b"x"),
    "bomb": tar_with("zeros", bytes(8 * MIB)),
    "cut": tar_with("a", bytes(range(256)) * 2000)[:900],
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    api: TestClient, settings: Settings, content: bytes
) -> None:
    got = send(api, content, "application/gzip")
    assert got.status_code == 422, got.text
    assert got.json()["title"] == "The archive was refused"
    assert left_behind(settings) == []


def test_a_disk_without_room_is_a_507_before_it_is_full(
    api: TestClient, settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly_full = SimpleNamespace(free=content_store.RESERVE_BYTES + 10)
    monkeypatch.setattr("gate.content_store.shutil.disk_usage", lambda _place: nearly_full)
    got = send(api, tar_of(model))
    assert (got.status_code, "no room" in got.json()["detail"]) == (507, True)
    assert left_behind(settings) == []


def test_a_disk_that_runs_full_on_the_way_is_a_507(
    api: TestClient, settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gate.archives._write", full)
    got = send(api, tar_of(model))
    assert (got.status_code, "ran full" in got.json()["detail"]) == (507, True)
    assert left_behind(settings) == []


def test_a_bomb_that_would_fill_the_disk_is_a_507(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = SimpleNamespace(free=content_store.RESERVE_BYTES + 2 * MIB)
    monkeypatch.setattr("gate.content_store.shutil.disk_usage", lambda _place: room)
    got = send(api, HOSTILE["bomb"], "application/gzip")
    assert (got.status_code, "no room for more" in got.json()["detail"]) == (507, True)
    assert left_behind(settings) == []


def test_uploads_that_nobody_used_for_long_make_room(tmp_path: Path, model: Path) -> None:
    size = sum(file.stat().st_size for file in model.iterdir())
    few = Settings(home=tmp_path, upload_store_gib=4 * size / 2**30, upload_days=0)
    api = TestClient(create_app(few))
    first = send(api, tar_of(model)).json()["checkpoint"]
    for mode in ("w:gz", "w:"):
        send(
            api, tar_of(model, mode), "application/gzip" if mode == "w:gz" else "application/x-tar"
        )
    for number in range(4):
        (model / "README.md").write_text(str(number))
        assert send(api, tar_of(model)).status_code == 201
    (model / "README.md").unlink()
    got = api.post("/v1/submissions", json={"checkpoint": first})
    assert got.status_code == 422


def test_uploads_can_be_switched_off(tmp_path: Path, model: Path) -> None:
    api = TestClient(create_app(Settings(home=tmp_path, upload_gib=0)))
    assert send(api, tar_of(model)).status_code == 403


def test_an_upload_that_is_gone_is_said_to_a_run(settings: Settings) -> None:
    gone = UploadSource("sha256:" + "0" * 64)
    with pytest.raises(Exception, match="upload it again"), UploadStore(settings).held(gone):
        pass


def test_the_document_of_the_api_names_the_content_types(api: TestClient) -> None:
    operation = api.get("/openapi.json").json()["paths"]["/v1/uploads"]["post"]
    assert {"application/x-tar", "application/gzip", "application/zip"} <= set(
        operation["requestBody"]["content"]
    )
    assert {"Content-Digest", "sha256"} == {p["name"] for p in operation["parameters"]}


@search(deadline=None)
@given(st.binary())
def test_header_and_query_announce_the_same(content: bytes) -> None:
    expected = f"sha256:{sha256(content)}"
    header = content_digest(content)
    assert announced_digest(header, None) == expected
    assert announced_digest(f"sha-512=:AAAA:, {header}", None) == expected
    assert announced_digest(None, sha256(content).upper()) == expected
    assert announced_digest(header, sha256(content)) == expected


@search(deadline=None)
@given(
    st.text() | st.text("sha-256=:,AB+/= "), st.none() | st.text("0123456789abcdefg", max_size=70)
)
def test_what_announces_nothing_usable_is_refused(header: str, query: str | None) -> None:
    try:
        digest = announced_digest(header, query)
    except NoDigestError:
        return
    assert len(digest) == len("sha256:") + 64


def test_two_announcements_that_differ_are_refused() -> None:
    with pytest.raises(NoDigestError, match="differ"):
        announced_digest(content_digest(b"a"), sha256(b"b"))
