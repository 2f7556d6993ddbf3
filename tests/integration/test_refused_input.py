"""What the gate refuses: with a clear error, without an engine, and without leaving a trace."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.checkpoints import build_tiny_model
from fakes.gate import until

from integration.harness import Service


def truncated(copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()


def missing_shard(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {}, "weight_map": weight_map}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))


class Bomb:
    """Leaves a file behind when somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def pickled(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    bomb = pickle.dumps(Bomb(copy.parent / "exploded"))
    (copy / "pytorch_model.bin").write_bytes(bomb)


def pickle_beside_weights(copy: Path) -> None:
    (copy / "extra.pt").write_bytes(pickle.dumps(Bomb(copy.parent / "exploded")))


def remote_code(copy: Path) -> None:
    edit_json(copy / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"})


def remote_tokenizer(copy: Path) -> None:
    edit_json(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})


def program(copy: Path) -> None:
    (copy / "modeling_evil.py").write_text("raise SystemExit")


def no_chat_template(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    edit_json(copy / "tokenizer_config.json", chat_template=None)


def failing_chat_template(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ raise_exception('not today') }}")


def prying_chat_template(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text(
        "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    )


def broken_config(copy: Path) -> None:
    (copy / "config.json").write_text("{")


def empty(copy: Path) -> None:
    for file in copy.iterdir():
        file.unlink()


def link_outside(copy: Path) -> None:
    (copy / "notes.json").symlink_to("/etc/passwd")


def vocabulary_too_large(copy: Path) -> None:
    edit_json(copy / "config.json", vocab_size=100)


def edit_json(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text())
    content.update(changes)
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


REFUSED = [
    (truncated, "model.safetensors", "truncated"),
    (no_weights, "model.safetensors", "is missing"),
    (missing_shard, "model-00002-of-00002.safetensors", "is missing"),
    (pickled, "pytorch_model.bin", "is a pickle"),
    (pickle_beside_weights, "extra.pt", "is a pickle"),
    (remote_code, "config.json", "auto_map"),
    (remote_tokenizer, "tokenizer_config.json", "auto_map"),
    (program, "modeling_evil.py", "program code"),
    (no_chat_template, "", "there is no chat template"),
    (failing_chat_template, "", "the chat template fails"),
    (prying_chat_template, "", "the chat template fails"),
    (broken_config, "config.json", "not valid JSON"),
    (empty, "", "holds neither config.json"),
    (link_outside, "notes.json", "is a link that leads out"),
    (vocabulary_too_large, "tokenizer.json", "more than vocab_size"),
]


def require_clean_failure(service: Service, submission_id: str, *words: str) -> None:
    view = service.wait(submission_id)
    assert view["state"] == "failed"
    assert view["outcome"] is None
    for word in words:
        assert word in view["error"]
    assert "decided" not in [stage["state"] for stage in view["stages"]]
    answer = service.get(submission_id, "/verdict")
    assert answer.status_code == 409
    assert view["error"] in answer.json()["detail"]
    assert service.get(submission_id, "/report").status_code == 409
    assert service.record.verdicts(submission_id) == 0
    until(lambda: not service.leftovers(), 10)
    assert service.engines.events("start") == []


@pytest.mark.parametrize(
    ("spoil", "file", "reason"), REFUSED, ids=[spoil.__name__ for spoil, *_ in REFUSED]
)
def test_a_spoiled_checkpoint_is_refused_with_file_and_reason(
    service: Service,
    checkpoint_root: Path,
    tiny_base: Path,
    spoil: Callable[[Path], None],
    file: str,
    reason: str,
) -> None:
    copy = checkpoint_root / "spoiled" / spoil.__name__ / "checkpoint"
    shutil.copytree(tiny_base, copy)
    spoil(copy)

    submission_id = service.submit(copy, tiny_base)

    require_clean_failure(service, submission_id, str(copy / file), reason)
    assert not (copy.parent / "exploded").exists()


def test_an_adapter_of_another_architecture_is_refused(
    service: Service, checkpoint_root: Path, base_checkpoint: Path, tiny_adapter: Path
) -> None:
    wider = build_tiny_model(base_checkpoint, checkpoint_root / "wider", hidden=64)

    submission_id = service.submit(tiny_adapter, wider)

    require_clean_failure(service, submission_id, str(tiny_adapter), "another architecture")


def test_an_adapter_of_a_deeper_model_is_refused(
    service: Service, checkpoint_root: Path, base_checkpoint: Path, tiny_adapter: Path
) -> None:
    shallower = build_tiny_model(base_checkpoint, checkpoint_root / "shallower", layers=1)

    submission_id = service.submit(tiny_adapter, shallower)

    require_clean_failure(service, submission_id, "which the base", "does not have")


def test_a_spoiled_adapter_is_refused(
    service: Service, checkpoint_root: Path, tiny_base: Path, tiny_adapter: Path
) -> None:
    copy = checkpoint_root / "spoiled-adapter"
    shutil.copytree(tiny_adapter, copy)
    file = copy / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])

    require_clean_failure(service, service.submit(copy, tiny_base), str(file), "truncated")


def test_a_full_model_without_a_base_is_refused(service: Service, tiny_base: Path) -> None:
    submission_id = service.submit(tiny_base, None)

    require_clean_failure(service, submission_id, str(tiny_base), "no base to compare it with")


@pytest.mark.parametrize(
    "path",
    ["/etc", "/", "{root}/../..", "{root}/leads-out", "relative/path", "/nowhere/at/all"],
)
def test_a_path_outside_the_roots_is_forbidden_and_recorded_nowhere(
    service: Service, checkpoint_root: Path, tiny_base: Path, path: str
) -> None:
    link = checkpoint_root / "leads-out"
    if not link.is_symlink():
        link.symlink_to("/etc")
    known = service.api.get("/v1/submissions").json()["items"]

    answer = service.post(path.format(root=checkpoint_root), tiny_base)

    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "is not under a checkpoint root" in answer.json()["detail"]
    assert service.api.get("/v1/submissions").json()["items"] == known


def test_a_base_outside_the_roots_is_forbidden_too(service: Service, tiny_adapter: Path) -> None:
    assert service.post(tiny_adapter, Path("/etc")).status_code == 403


def test_an_unknown_policy_is_refused_with_the_names_of_the_known(
    service: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    answer = service.post(tiny_adapter, tiny_base, "no-such-policy")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "unknown policy 'no-such-policy'" in answer.json()["detail"]
    assert "default" in answer.json()["detail"]


@pytest.mark.parametrize("policy", ["../default", "/etc/passwd", "", "A", "a/b"])
def test_a_policy_that_is_no_name_is_refused(
    service: Service, tiny_base: Path, tiny_adapter: Path, policy: str
) -> None:
    assert service.post(tiny_adapter, tiny_base, policy).status_code == 422


def test_a_checkpoint_that_is_no_directory_is_refused(
    service: Service, checkpoint_root: Path, tiny_base: Path
) -> None:
    for path in (checkpoint_root / "nothing-here", tiny_base / "config.json"):
        answer = service.post(path, tiny_base)
        assert answer.status_code == 422
        assert "is not a directory" in answer.json()["detail"]


def test_an_unknown_field_is_refused(service: Service, tiny_base: Path, tiny_adapter: Path) -> None:
    answer = service.post(tiny_adapter, tiny_base, trust_remote_code=True)

    assert answer.status_code == 422
    assert "trust_remote_code" in answer.json()["detail"]


def test_an_unknown_submission_is_not_found(service: Service) -> None:
    for part in ("", "/verdict", "/report"):
        assert service.get("sub_nothing", part).status_code == 404
