"""s3://: an S3 server (moto) behind a bad network: resumed, bounded, shared, refused in words."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from fakes.cutting_proxy import CuttingProxy, running_proxy
from moto.server import ThreadedMotoServer

from gate.archive_names import ArchiveError
from gate.errors import GateError, PathOutsideRootError, WrongUsageError
from gate.settings import Settings
from gate.sources import SourceNotAllowedError, parse_source
from integration.store_sources import fetch, tar_of
from workers.checkpoint import download, fetching, object_store
from workers.checkpoint.fetching import fetched
from workers.checkpoint.inspection import inspect_full_model
from workers.checkpoint.object_store import StoredCheckpoint
from workers.checkpoint.remote import SourceChangedError, SourceError

REPOSITORY = Path(__file__).resolve().parents[2]
BUCKET = "models"
PIECE = 256 * 1024
#: Weights of eight pieces; no safetensors file, for they are only carried here.
WEIGHTS = bytes(range(256)) * (8 * PIECE // 256)
FETCHER = """
import sys
from pathlib import Path
from gate.settings import Settings
from workers.checkpoint import object_store
from workers.checkpoint.fetching import fetched
object_store.PIECE_BYTES = int(sys.argv[3])
settings = Settings(home=Path(sys.argv[1]), allowed_sources=["s3://models"])
with fetched(sys.argv[2], settings, lambda *_: None) as source:
    print(len((source.directory / "model.safetensors").read_bytes()), flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield moto.get_host_and_port()
    moto.stop()


@pytest.fixture
def proxy(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    with running_proxy(server) as started:
        monkeypatch.setenv("AWS_ENDPOINT_URL", started.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
        monkeypatch.setattr(object_store, "PIECE_BYTES", PIECE)
        yield started


@pytest.fixture
def put(proxy: CuttingProxy, server: tuple[str, int]) -> Callable[[str, bytes], None]:
    """Puts an object past the proxy; the bucket is empty in the beginning."""
    client = boto3.client("s3", endpoint_url=f"http://{server[0]}:{server[1]}")
    client.create_bucket(Bucket=BUCKET)
    for there in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=there["Key"])

    def now(key: str, content: bytes) -> None:
        client.put_object(Bucket=BUCKET, Key=key, Body=content)

    return now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, allowed_sources=[f"s3://{BUCKET}"], fetch_attempts=2)


def ranges(proxy: CuttingProxy) -> list[int]:
    """Where each request for content began."""
    return [int(n) for n in re.findall(r"(?i)range: bytes=(\d+)-", "".join(proxy.requests))]


def test_a_prefix_is_fetched_and_nothing_but_what_would_be_loaded(
    put: Callable[[str, bytes], None], settings: Settings, model: Path
) -> None:
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    for name, content in files.items():
        put(f"run/7/{name}", content)
    for name in ("", "pytorch_model.bin", "modeling.py", "sub/config.json"):
        put(f"run/7/{name}", b"x")
    put("run/77/config.json", b"{}")
    assert fetch(f"s3://{BUCKET}/run/7", settings) == files
    with fetched(f"s3://{BUCKET}/run/7", settings, lambda *_: None) as source:
        assert inspect_full_model(source.directory).digest == inspect_full_model(model).digest


def zip_of(model: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for file in model.iterdir():
            package.write(file, f"model/{file.name}")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz", "m.zip"])
def test_an_archive_is_fetched_and_extracted(
    put: Callable[[str, bytes], None], settings: Settings, model: Path, name: str
) -> None:
    packed = {"m.tar": tar_of(model, "w"), "m.tar.gz": tar_of(model, "w:gz")}
    put(name, packed.get(name) or zip_of(model))
    expected = {file.name: file.read_bytes() for file in model.iterdir()}
    assert fetch(f"s3://{BUCKET}/{name}", settings) == expected


def test_a_hostile_archive_is_refused_and_not_kept(
    put: Callable[[str, bytes], None], settings: Settings
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    put("m.tar", buffer.getvalue())
    with pytest.raises(ArchiveError, match="outside"):
        fetch(f"s3://{BUCKET}/m.tar", settings)
    assert not [f for f in settings.cache_directory.rglob("*") if f.name in {"m.tar", "outside"}]


def test_a_connection_that_breaks_in_the_middle_is_resumed(
    put: Callable[[str, bytes], None], proxy: CuttingProxy, settings: Settings
) -> None:
    put("run/model.safetensors", WEIGHTS)
    proxy.cuts = [PIECE // 2, PIECE // 2, PIECE // 2]
    assert fetch(f"s3://{BUCKET}/run", settings) == {"model.safetensors": WEIGHTS}
    assert proxy.cuts == []
    assert sorted(set(ranges(proxy))) == [n * PIECE for n in range(8)]
    assert len(ranges(proxy)) == 8 + 3


def start_fetcher(home: Path, uri: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCHER, str(home), uri, str(PIECE)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_worker_that_is_killed_while_fetching_has_fetched_what_it_has(
    put: Callable[[str, bytes], None], proxy: CuttingProxy, settings: Settings
) -> None:
    put("run/model.safetensors", WEIGHTS)
    proxy.hold_after, proxy.hold_at_request = PIECE // 2, 4
    killed = start_fetcher(settings.home, f"s3://{BUCKET}/run")
    assert proxy.held.wait(60)
    killed.kill()
    killed.wait()
    proxy.hold_after = None
    proxy.delay.set()
    proxy.requests.clear()
    assert fetch(f"s3://{BUCKET}/run", settings) == {"model.safetensors": WEIGHTS}
    assert min(ranges(proxy)) == 3 * PIECE


def test_two_processes_that_want_the_same_fetch_it_once(
    put: Callable[[str, bytes], None], proxy: CuttingProxy, settings: Settings
) -> None:
    put("run/model.safetensors", WEIGHTS)
    fetchers = [start_fetcher(settings.home, f"s3://{BUCKET}/run") for _ in range(2)]
    assert [fetcher.communicate(timeout=120)[0].strip() for fetcher in fetchers] == [
        str(len(WEIGHTS))
    ] * 2
    assert sorted(ranges(proxy)) == [n * PIECE for n in range(8)]


def test_a_source_that_changes_while_it_is_fetched_is_refused(
    put: Callable[[str, bytes], None], proxy: CuttingProxy, settings: Settings
) -> None:
    put("run/model.safetensors", WEIGHTS)
    proxy.hold_after, proxy.hold_at_request = PIECE // 2, 3
    refused: list[BaseException] = []

    def now() -> None:
        try:
            fetch(f"s3://{BUCKET}/run", settings)
        except GateError as error:
            refused.append(error)

    fetching_it = threading.Thread(target=now)
    fetching_it.start()
    assert proxy.held.wait(60)
    put("run/model.safetensors", WEIGHTS[::-1])
    proxy.hold_after = None
    proxy.delay.set()
    fetching_it.join(60)
    assert [type(error) for error in refused] == [SourceChangedError]
    assert "changed while it was fetched" in str(refused[0])
    assert fetch(f"s3://{BUCKET}/run", settings) == {"model.safetensors": WEIGHTS[::-1]}


def test_a_file_that_comes_while_fetching_is_a_change_too(
    put: Callable[[str, bytes], None], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("run/model.safetensors", WEIGHTS)
    true = download.download

    def and_then(*given: Any) -> None:
        true(*given)
        put("run/config.json", b"{}")

    monkeypatch.setattr(fetching, "download", and_then)
    with pytest.raises(SourceChangedError, match="submit it again when it is at rest"):
        fetch(f"s3://{BUCKET}/run", settings)


def test_the_least_recently_used_is_evicted(
    put: Callable[[str, bytes], None], proxy: CuttingProxy, settings: Settings
) -> None:
    small = settings.model_copy(update={"cache_gib": 2.5 * len(WEIGHTS) / 2**30})
    for name in ("a", "b", "c"):
        put(f"{name}/model.safetensors", WEIGHTS)
        fetch(f"s3://{BUCKET}/{name}", small)
    assert len(list((small.cache_directory / "entries").iterdir())) == 2
    proxy.requests.clear()
    fetch(f"s3://{BUCKET}/c", small)
    assert ranges(proxy) == []
    fetch(f"s3://{BUCKET}/a", small)
    assert len(ranges(proxy)) == 8


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x was not found"),
        (f"s3://{BUCKET}/no/such/prefix", "was not found"),
        (f"s3://{BUCKET}/no/such.tar", "was not found"),
        (f"s3://{BUCKET}/docs", "holds no file of a checkpoint"),
    ],
)
def test_what_is_not_there_is_said(
    put: Callable[[str, bytes], None], settings: Settings, uri: str, says: str
) -> None:
    put("docs/README.md", b"x")
    wide = settings.model_copy(
        update={"allowed_sources": [f"s3://{BUCKET}", "s3://no-such-bucket"]}
    )
    with pytest.raises(SourceError, match=says):
        fetch(uri, wide)


def test_missing_credentials_are_named_by_their_variables(
    put: Callable[[str, bytes], None], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(settings.home))
    with pytest.raises(SourceError, match=r"no credentials.*AWS_ACCESS_KEY_ID"):
        fetch(f"s3://{BUCKET}/run", settings)


@pytest.fixture
def forbidding() -> Iterator[str]:
    """A store that answers 403 to everything."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("name", ["run", "m.tar"])
def test_credentials_that_do_not_suffice_are_said_without_their_values(
    put: Callable[[str, bytes], None],
    settings: Settings,
    forbidding: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", forbidding)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    with pytest.raises(SourceError, match=r"may not be read.*AWS_PROFILE") as refusal:
        fetch(f"s3://{BUCKET}/{name}", settings)
    assert "very-secret" not in str(refusal.value)


def test_a_store_that_does_not_answer_is_given_up(
    put: Callable[[str, bytes], None], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"given up.*submit it again"):
        fetch(f"s3://{BUCKET}/run", settings)


def test_a_driver_that_is_not_installed_is_named() -> None:
    source = parse_source("oss://bucket/x")
    with pytest.raises(SourceError, match="needs the package ossfs"):
        StoredCheckpoint(source).files()  # type: ignore[arg-type]


def test_no_uri_is_a_way_around_roots_and_allow_list(
    put: Callable[[str, bytes], None], settings: Settings, tmp_path: Path, model: Path
) -> None:
    put("run/model.safetensors", WEIGHTS)
    for uri in (f"file://{model}", f"file:{model}", "memory://x/y", f"local://{model}"):
        for confined in (True, False):
            with (
                pytest.raises(WrongUsageError),
                fetched(uri, settings, lambda *_: None, confined=confined),
            ):
                pass
    with pytest.raises(PathOutsideRootError), fetched(str(model), settings, lambda *_: None):
        pass
    none = settings.model_copy(update={"allowed_sources": []})
    with pytest.raises(SourceNotAllowedError):
        fetch(f"s3://{BUCKET}/run", none)
    with pytest.raises(WrongUsageError):
        fetch(f"s3://{BUCKET}/../other/run", settings)
