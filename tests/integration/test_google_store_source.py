"""gs://: an emulator of Google Cloud Storage; the driver is the real one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gcsfs.core
import pytest
from fakes.cutting_proxy import CuttingProxy, running_proxy
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

from gate.settings import Settings
from integration.store_sources import fetch, tar_of
from workers.checkpoint import download, object_store
from workers.checkpoint.fetching import fetched
from workers.checkpoint.inspection import inspect_full_model
from workers.checkpoint.remote import SourceError

BUCKET = "models"
PIECE = 256 * 1024
#: Weights of four pieces; no safetensors file, for they are only carried here.
WEIGHTS = bytes(range(256)) * (4 * PIECE // 256)

Put = Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    storage = Storage(use_memory_fs=True)
    create_bucket(BUCKET, storage)
    # Its own server has one thread, which a connection that is kept alive would hold.
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(RequestHandler, storage)) as emulator:
        emulator.daemon_threads = True
        serving = threading.Thread(target=emulator.serve_forever, daemon=True)
        serving.start()
        yield "127.0.0.1", emulator.server_address[1]
        emulator.shutdown()
        serving.join()


@pytest.fixture
def proxy(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    with running_proxy(server) as started:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", started.url)
        monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
        monkeypatch.setattr(object_store, "PIECE_BYTES", PIECE)
        yield started


@pytest.fixture
def put(proxy: CuttingProxy, server: tuple[str, int]) -> Put:
    """Puts an object past the proxy; the bucket is empty in the beginning."""
    host, port = server
    store: Any = gcsfs.core.GCSFileSystem(
        token="anon", endpoint_url=f"http://{host}:{port}", skip_instance_cache=True
    )
    for there in store.find(BUCKET):
        store.rm(there)
    return lambda key, content: store.pipe(f"{BUCKET}/{key}", content)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, allowed_sources=[f"gs://{BUCKET}"], fetch_attempts=2)


def test_a_prefix_is_fetched_and_nothing_but_what_would_be_loaded(
    put: Put, settings: Settings, model: Path
) -> None:
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    for name, content in files.items():
        put(f"run/7/{name}", content)
    for name in ("pytorch_model.bin", "modeling.py", "sub/config.json"):
        put(f"run/7/{name}", b"x")
    put("run/77/config.json", b"{}")
    assert fetch(f"gs://{BUCKET}/run/7", settings) == files
    with fetched(f"gs://{BUCKET}/run/7", settings, lambda *_: None) as source:
        assert inspect_full_model(source.directory).digest == inspect_full_model(model).digest


def test_an_archive_is_fetched_and_extracted(put: Put, settings: Settings, model: Path) -> None:
    put("m.tar.gz", tar_of(model, "w:gz"))
    expected = {file.name: file.read_bytes() for file in model.iterdir()}
    assert fetch(f"gs://{BUCKET}/m.tar.gz", settings) == expected


def test_a_connection_that_breaks_in_the_middle_is_resumed(
    put: Put, proxy: CuttingProxy, settings: Settings
) -> None:
    put("run/model.safetensors", WEIGHTS)
    proxy.cuts = [PIECE // 2, PIECE // 2]
    assert fetch(f"gs://{BUCKET}/run", settings) == {"model.safetensors": WEIGHTS}
    assert proxy.cuts == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gs://no-such-bucket/x", "gs://no-such-bucket/x was not found"),
        (f"gs://{BUCKET}/no/such/prefix", "was not found"),
        (f"gs://{BUCKET}/no/such.tar", "was not found"),
        (f"gs://{BUCKET}/docs", "holds no file of a checkpoint"),
    ],
)
def test_what_is_not_there_is_said(put: Put, settings: Settings, uri: str, says: str) -> None:
    put("docs/README.md", b"x")
    wide = settings.model_copy(
        update={"allowed_sources": [f"gs://{BUCKET}", "gs://no-such-bucket"]}
    )
    with pytest.raises(SourceError, match=says):
        fetch(uri, wide)
