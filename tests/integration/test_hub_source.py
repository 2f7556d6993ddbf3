"""hf://: a hub's protocol over real HTTP, resumed, compared with its digests, refused in words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.fake_hub import FakeHub, running_hub
from unit.checkpoints import write_model

from gate.errors import GateError
from gate.settings import Settings
from gate.sources import SourceNotAllowedError
from workers.checkpoint import download
from workers.checkpoint.fetching import fetched
from workers.checkpoint.inspection import inspect_full_model
from workers.checkpoint.remote import SourceChangedError, SourceError

REPOSITORY = "org/model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub() as started:
        monkeypatch.setenv("HF_ENDPOINT", started.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
        monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
        yield started


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture(scope="module")
def files(model: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in model.iterdir()}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, allowed_sources=["hf://org"], fetch_attempts=3)


Fetch = Callable[..., tuple[str, dict[str, bytes]]]


@pytest.fixture
def fetch(settings: Settings) -> Fetch:
    """Fetches a URI; the name that it got and its files."""

    def now(uri: str, used: Settings = settings) -> tuple[str, dict[str, bytes]]:
        with fetched(uri, used, lambda *_: None) as source:
            return source.name, {f.name: f.read_bytes() for f in source.directory.iterdir()}

    return now


def test_a_repository_is_fetched_at_its_commit(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes], settings: Settings, model: Path
) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # nothing else may ask a hub
    commit = hub.commit(REPOSITORY, files)
    assert fetch(f"hf://{REPOSITORY}@main") == (f"hf://{REPOSITORY}@{commit}", files)
    with fetched(f"hf://{REPOSITORY}", settings, lambda *_: None) as source:
        assert inspect_full_model(source.directory).digest == inspect_full_model(model).digest


def test_nothing_but_what_would_be_loaded_is_asked_for(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes]
) -> None:
    dangerous = dict.fromkeys(["pytorch_model.bin", "model.pt", "modeling.py", "sub/x.json"], b"x")
    hub.commit(REPOSITORY, files | dangerous)
    assert fetch(f"hf://{REPOSITORY}")[1] == files
    asked = {path.rpartition("/")[2] for path, _ in hub.asked if "/resolve/" in path}
    assert asked == set(files)


def test_the_second_time_nothing_is_downloaded(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes]
) -> None:
    hub.commit(REPOSITORY, files)
    first = fetch(f"hf://{REPOSITORY}")
    hub.asked.clear()
    assert fetch(f"hf://{REPOSITORY}") == first
    assert not [path for path, _ in hub.asked if "/resolve/" in path]


def test_a_branch_that_moved_is_fetched_again_and_a_commit_stays(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes]
) -> None:
    old = hub.commit(REPOSITORY, files)
    fetch(f"hf://{REPOSITORY}@main")
    new = hub.commit(REPOSITORY, files | {"vocab.txt": b"new"})
    assert fetch(f"hf://{REPOSITORY}@main") == (
        f"hf://{REPOSITORY}@{new}",
        files | {"vocab.txt": b"new"},
    )
    assert fetch(f"hf://{REPOSITORY}@{old}") == (f"hf://{REPOSITORY}@{old}", files)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_download_that_breaks_is_resumed(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes], ranges: bool
) -> None:
    hub.commit(REPOSITORY, files)
    hub.breaks, hub.ranges = [700, 400], ranges
    assert fetch(f"hf://{REPOSITORY}")[1] == files
    first, second, *_ = hub.downloads("model.safetensors")
    assert (first, second) == (None, "bytes=700-")


def test_a_hub_that_is_down_for_a_moment_is_waited_for(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes]
) -> None:
    hub.commit(REPOSITORY, files)
    hub.down = 2
    assert fetch(f"hf://{REPOSITORY}")[1] == files


def test_a_hub_that_stays_down_is_given_up_and_what_came_is_kept(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes]
) -> None:
    hub.commit(REPOSITORY, files)
    hub.breaks = [700, 0, 0, 0]
    with pytest.raises(SourceError, match=r"given up.*submit it again"):
        fetch(f"hf://{REPOSITORY}")
    hub.asked.clear()
    assert fetch(f"hf://{REPOSITORY}")[1] == files
    assert hub.downloads("model.safetensors") == ["bytes=700-"]
    assert hub.downloads("config.json") == []


def test_a_content_that_is_not_what_the_hub_announced_is_refused(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(REPOSITORY, files)
    from fakes import fake_hub

    true = fake_hub.described

    def lying(name: str, content: bytes) -> dict[str, object]:
        return true(name, content.replace(b"a", b"b") if name == "config.json" else content)

    monkeypatch.setattr(fake_hub, "described", lying)
    with pytest.raises(SourceChangedError, match=r"config\.json is not what its store announced"):
        fetch(f"hf://{REPOSITORY}")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("hf://org/nothing", "hf://org/nothing@main was not found; if it is private, set HF_TOKEN"),
        (f"hf://{REPOSITORY}@v9", "has no such revision"),
    ],
)
def test_what_is_not_there_is_said(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes], uri: str, says: str
) -> None:
    hub.commit(REPOSITORY, files)
    with pytest.raises(SourceError, match=says):
        fetch(uri)


def test_a_token_is_sent_and_its_lack_is_said_without_its_value(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(REPOSITORY, files)
    hub.token = "hf_of_the_test"
    assert fetch(f"hf://{REPOSITORY}")[1] == files
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_secret")
    for gated, says in ((False, "if it is private, set HF_TOKEN"), (True, "gated.*set HF_TOKEN")):
        hub.gated = gated
        with pytest.raises(SourceError, match=says) as refusal:
            fetch(f"hf://{REPOSITORY}")
        assert "hf_wrong_secret" not in str(refusal.value)


def test_no_hub_at_all_is_said(hub: FakeHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"ConnectError.*given up"):
        fetch(f"hf://{REPOSITORY}")


def test_the_allow_list_holds_in_the_worker_too(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes], settings: Settings
) -> None:
    hub.commit("other/model", files)
    with pytest.raises(SourceNotAllowedError):
        fetch("hf://other/model")
    assert hub.asked == []
    with fetched("hf://other/model", settings, lambda *_: None, confined=False) as source:
        assert (source.directory / "config.json").is_file()


def test_what_is_too_large_is_not_begun(
    hub: FakeHub, fetch: Fetch, files: dict[str, bytes], settings: Settings
) -> None:
    hub.commit(REPOSITORY, files)
    small = settings.model_copy(update={"largest_checkpoint_gib": 1e-7})
    with pytest.raises(SourceError, match="GATE_LARGEST_CHECKPOINT_GIB"):
        fetch(f"hf://{REPOSITORY}", small)
    full = settings.model_copy(update={"cache_gib": 1e-7})
    with pytest.raises(GateError, match="may hold"):
        fetch(f"hf://{REPOSITORY}", full)
    assert not [path for path, _ in hub.asked if "/resolve/" in path]


def test_a_refusal_of_a_file_names_the_source(
    hub: FakeHub, settings: Settings, files: dict[str, bytes]
) -> None:
    commit = hub.commit(REPOSITORY, files | {"config.json": b"{"})
    with (
        pytest.raises(GateError, match=f"^hf://{REPOSITORY}@{commit}/config.json: is not valid"),
        fetched(f"hf://{REPOSITORY}", settings, lambda *_: None) as source,
    ):
        inspect_full_model(source.directory)
