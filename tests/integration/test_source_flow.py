"""From a URI to a verdict: fetched while preparing, pinned to its revision, confined again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.fake_hub import FakeHub, running_hub
from fakes.gate import environment_of, until

from gate.settings import Settings
from gate.submission import Progress, State, SubmissionRequest
from integration.harness import Bench, Service, emgate, metric

ORG = ["hf://org"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_base: Path, tiny_adapter: Path) -> Iterator[FakeHub]:
    """A hub with the small base and the small adapter."""
    with running_hub() as started:
        monkeypatch.setenv("HF_ENDPOINT", started.url)
        for name, directory in (("base", tiny_base), ("adapter", tiny_adapter)):
            files = {f.name: f.read_bytes() for f in directory.iterdir() if f.is_file()}
            started.commit(f"org/{name}", files)
        yield started


def test_adapter_and_base_of_a_hub_are_judged_and_pinned_to_their_commits(
    make_bench: Callable[..., Bench], hub: FakeHub
) -> None:
    bench = make_bench(allowed_sources=ORG)
    notes: list[tuple[State, str]] = []

    def watch(state: State, progress: Progress | None) -> None:
        if progress:
            notes.append((state, progress.what))

    bench.run._watch = watch
    ended = bench.judge("hf://org/adapter@main", "hf://org/base")  # type: ignore[arg-type]

    assert ended.state is State.DECIDED, ended.error
    assert ended.checkpoint == f"hf://org/adapter@{hub.resolve('org/adapter', 'main')}"
    assert ended.base == f"hf://org/base@{hub.resolve('org/base', 'main')}"
    assert any(s is State.PREPARING and what.startswith("fetching ") for s, what in notes)

    hub.asked.clear()
    again = bench.judge(ended.checkpoint, ended.base)  # type: ignore[arg-type]
    assert again.state is State.DECIDED, again.error
    assert not [path for path, _ in hub.asked if "/resolve/" in path]


def test_the_same_files_have_the_same_digest_wherever_they_come_from(
    make_bench: Callable[..., Bench], hub: FakeHub, tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(allowed_sources=ORG)
    fetched = bench.judge("hf://org/adapter", "hf://org/base")  # type: ignore[arg-type]
    local = bench.judge(tiny_adapter, tiny_base)
    verdicts = [bench.record.submissions.verdict(ended.id) for ended in (fetched, local)]
    assert verdicts[0] is not None
    assert verdicts[1] is not None
    assert verdicts[0].digests == verdicts[1].digests


def test_a_source_that_is_allowed_no_longer_fails_the_run_without_a_request(
    make_bench: Callable[..., Bench], hub: FakeHub
) -> None:
    bench = make_bench(allowed_sources=[])
    ended = bench.judge("hf://org/adapter", "hf://org/base")  # type: ignore[arg-type]
    assert ended.state is State.FAILED
    assert "GATE_ALLOWED_SOURCES" in (ended.error or "")
    assert hub.asked == []
    assert bench.engines.events("start") == []


def test_a_directory_that_is_under_a_root_no_longer_fails_the_run(
    bench: Bench, tmp_path: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path / "swapped"
    link.symlink_to(shutil.copytree(tiny_base, tmp_path_factory.mktemp("outside") / "model"))
    ended = bench.judge(link, tiny_base)
    assert ended.state is State.FAILED
    assert "is not under a checkpoint root" in (ended.error or "")


def test_an_adapter_cannot_name_a_base_outside_the_roots(
    bench: Bench,
    tmp_path: Path,
    tiny_base: Path,
    tiny_adapter: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    outside = shutil.copytree(tiny_base, tmp_path_factory.mktemp("outside") / "model")
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(outside)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    ended = bench.judge(adapter)
    assert ended.state is State.FAILED
    assert "is not under a checkpoint root" in (ended.error or "")


def test_a_fetched_checkpoint_that_is_refused_is_named_by_its_uri(
    make_bench: Callable[..., Bench], hub: FakeHub, tiny_base: Path
) -> None:
    commit = hub.commit("org/broken", {"config.json": b"{}"})
    ended = make_bench(allowed_sources=ORG).judge(
        "hf://org/broken",  # type: ignore[arg-type]
        tiny_base,
    )
    assert ended.state is State.FAILED
    assert (ended.error or "").startswith(f"hf://org/broken@{commit}/")


def test_a_run_by_hand_names_what_it_likes(make_bench: Callable[..., Bench], hub: FakeHub) -> None:
    bench = make_bench(allowed_sources=[], checkpoint_roots=[])
    wanted = SubmissionRequest(checkpoint="hf://org/adapter", base="hf://org/base", policy="passes")
    submission = bench.record.submissions.create(wanted, "cli")
    ended = bench.take(submission.id)
    assert ended.state is State.DECIDED, ended.error


def test_the_command_line_takes_uris(isolated_settings: Settings, hub: FakeHub) -> None:
    assert "HF_ENDPOINT" in environment_of(isolated_settings)
    done = emgate(
        isolated_settings,
        *("check", "hf://org/adapter@main", "--base", "hf://org/base", "--policy", "passes"),
    )
    assert done.returncode == 0, done.stderr
    assert "hf://org/adapter@main" in done.stdout


@pytest.mark.parametrize("uri", ["file:///etc", "memory://x/y", "s3://bucket/../x", "hf://org"])
def test_the_command_line_refuses_what_is_no_source(isolated_settings: Settings, uri: str) -> None:
    done = emgate(isolated_settings, "check", uri)
    assert done.returncode == 2
    assert done.stderr.startswith("emgate: ")
    assert "Traceback" not in done.stderr


def packed(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(directory, directory.name)
    return buffer.getvalue()


def test_an_upload_goes_through_the_whole_service(
    service: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    uploaded = []
    for directory in (tiny_adapter, tiny_base):
        content = packed(directory)
        answer = service.api.post(
            "/v1/uploads",
            params={"sha256": hashlib.sha256(content).hexdigest()},
            content=(content[at : at + 65536] for at in range(0, len(content), 65536)),
            headers={"Content-Type": "application/gzip"},
        )
        assert answer.status_code == 201, answer.text
        uploaded.append(answer.json()["checkpoint"])

    answer = service.post(*uploaded)
    assert answer.status_code == 202, answer.text
    ended = service.wait(answer.json()["id"])
    assert ended["state"] == "decided", ended["error"]
    assert (ended["checkpoint"], ended["base"]) == tuple(uploaded)


def test_an_upload_that_breaks_off_leaves_nothing_and_disturbs_nobody(
    service: Service, tiny_adapter: Path
) -> None:
    content = packed(tiny_adapter)
    digest = hashlib.sha256(content + b"rest").hexdigest()
    host, port = service.settings.api_host, service.settings.api_port
    with socket.create_connection((host, port)) as connection:
        head = (
            f"POST /v1/uploads?sha256={digest} HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: application/gzip\r\nContent-Length: {len(content) + 4}\r\n\r\n"
        )
        connection.sendall(head.encode() + content)

    ended = {"result": "broken off"}
    until(lambda: metric(f"{service.local.url}/metrics", "emgate_uploads_total", ended) == 1, 30)
    log = service.local.logs / "api.log"
    assert service.api.get(f"/v1/uploads/sha256:{digest}").status_code == 404
    assert "unhandled error" not in log.read_text()
    store = service.settings.upload_directory
    assert list((store / "parts").iterdir()) == []
    assert [entry.name for entry in store.iterdir() if entry.is_file()] in ([], ["room.lock"])


def test_an_api_that_is_killed_while_it_receives_leaves_nothing(
    fresh_service: Callable[..., Service], tiny_adapter: Path
) -> None:
    service = fresh_service(worker=False)
    content = packed(tiny_adapter)
    store = service.settings.upload_directory
    with socket.create_connection((service.settings.api_host, service.settings.api_port)) as sender:
        sender.sendall(
            b"POST /v1/uploads?sha256=" + b"0" * 64 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/gzip\r\nContent-Length: 100000000\r\n\r\n" + content
        )
        until(store.is_dir, 30)
        service.kill("api")
    assert [found for found in store.rglob("*") if found.is_file()] == []


@pytest.mark.parametrize(
    ("checkpoint", "status", "says"),
    [
        ("hf://org/name", 403, "GATE_ALLOWED_SOURCES"),
        ("s3://bucket/x", 403, "GATE_ALLOWED_SOURCES"),
        ("file:///etc", 422, "is not a source of checkpoints"),
        ("s3://bucket/../x", 422, "'..'"),
        ("upload://sha256:" + "0" * 64, 422, "is not here"),
    ],
)
def test_a_source_that_is_not_allowed_is_a_problem(
    service: Service, tiny_base: Path, checkpoint: str, status: int, says: str
) -> None:
    answer = service.post(checkpoint, tiny_base)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert says in answer.json()["detail"]
