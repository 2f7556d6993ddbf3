"""A checkpoint is hostile until inspected: each refusal names the file and says what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from unit.checkpoints import (
    MODULE,
    SHAPE,
    change_json,
    save,
    write_adapter,
    write_json,
    write_model,
)

from gate.errors import CheckpointError
from workers.checkpoint.inspection import (
    Inspected,
    Kind,
    inspect_adapter,
    inspect_full_model,
    kind_of,
)

PREFIX = f"base_model.model.{MODULE}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    return inspect_full_model(write_model(tmp_path_factory.mktemp("inspection") / "base"))


def write_index(directory: Path, *names: str) -> None:
    weight_map = {f"tensor{number}": name for number, name in enumerate(names)}
    write_json(directory / "model.safetensors.index.json", {"weight_map": weight_map})


def truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    os.truncate(file, file.stat().st_size - 10)


def nest(directory: Path, depth: int) -> None:
    (directory / "extra.json").write_text('{"a":' * depth + "1" + "}" * depth)


def pickle_below(directory: Path) -> None:
    (directory / "sub").mkdir()
    (directory / "sub" / "x.PKL").write_bytes(b"x")


def template(text: str) -> Callable[[Path], None]:
    return lambda m: change_json(m / "tokenizer_config.json", chat_template=text)


def tokenizer_without_words(directory: Path) -> None:
    Tokenizer(models.WordLevel({"zz": 0}, unk_token="<none>")).save(
        str(directory / "tokenizer.json")
    )


def test_a_sound_model_is_accepted_and_identified(model: Path) -> None:
    got = inspect_full_model(model)
    assert (got.kind, kind_of(model)) == (Kind.FULL, Kind.FULL)
    assert got.shapes[f"{MODULE}.weight"] == SHAPE
    assert got.digest.startswith("sha256:")


def test_files_that_a_trainer_leaves_behind_do_no_harm_and_change_no_digest(model: Path) -> None:
    before = inspect_full_model(model).digest
    for name in ("training_args.bin", "optimizer.pt", "README.md"):
        (model / name).write_bytes(b"left over")
    assert inspect_full_model(model).digest == before


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors", "missing"),
    "cut weights": (truncate, "model.safetensors", "truncated"),
    "empty weights": (
        lambda m: (m / "model.safetensors").write_bytes(b""),
        "model.safetensors",
        "truncated",
    ),
    "weights that are something else": (
        lambda m: (m / "model.safetensors").write_bytes(b"\xff" * 64),
        "model.safetensors",
        "not a safetensors file",
    ),
    "no tensors": (lambda m: save(m / "model.safetensors", {}), "", "hold no tensors"),
    "pickle beside": (lambda m: (m / "x.bin").write_bytes(b"x"), "x.bin", "a pickle"),
    "pickle below": (
        pickle_below,
        "sub/x.PKL",
        "a pickle",
    ),
    "program": (lambda m: (m / "modeling.py").write_text("x = 1"), "modeling.py", "program code"),
    "auto_map": (
        lambda m: change_json(m / "config.json", auto_map={"AutoModel": "x.Y"}),
        "config.json",
        "auto_map",
    ),
    "auto_map inside a list": (
        lambda m: change_json(m / "config.json", parts=[{"deep": {"auto_map": {}}}]),
        "config.json",
        "auto_map",
    ),
    "auto_map of the tokenizer": (
        lambda m: change_json(m / "tokenizer_config.json", auto_map={"AutoTokenizer": "x.Y"}),
        "tokenizer_config.json",
        "auto_map",
    ),
    "auto_map elsewhere": (
        lambda m: write_json(m / "processor_config.json", {"auto_map": {}}),
        "processor_config.json",
        "auto_map",
    ),
    "link to a file outside": (
        lambda m: (m / "notes.txt").symlink_to("/etc/hostname"),
        "notes.txt",
        "leads out",
    ),
    "link to a directory outside": (
        lambda m: (m / "sub").symlink_to("/etc"),
        "sub",
        "leads out",
    ),
    "link to itself": (lambda m: (m / "loop").symlink_to(m / "loop"), "loop", "neither a file"),
    "pipe, which blocks its reader": (
        lambda m: os.mkfifo(m / "x.jinja"),
        "x.jinja",
        "neither a file",
    ),
    "no config": (lambda m: (m / "config.json").unlink(), "config.json", "is missing"),
    "broken config": (
        lambda m: (m / "config.json").write_text("{"),
        "config.json",
        "not valid JSON",
    ),
    "config that is not text": (
        lambda m: (m / "config.json").write_bytes(b"\xff\xfe"),
        "config.json",
        "not valid JSON",
    ),
    "config that is a list": (
        lambda m: (m / "config.json").write_text("[]"),
        "config.json",
        "not a JSON object",
    ),
    "JSON too deep to read": (lambda m: nest(m, 5000), "extra.json", "not valid JSON"),
    "no architecture": (
        lambda m: change_json(m / "config.json", architectures=[]),
        "config.json",
        "no architectures",
    ),
    "vocabulary size in words": (
        lambda m: change_json(m / "config.json", vocab_size="many"),
        "config.json",
        "vocab_size is not of type int",
    ),
    "vocabulary larger than the model": (
        lambda m: change_json(m / "config.json", vocab_size=100),
        "tokenizer.json",
        "258 tokens",
    ),
    "config that transformers refuses": (
        lambda m: change_json(m / "config.json", num_attention_heads=3),
        "",
        "does not load",
    ),
    "broken tokenizer": (
        lambda m: (m / "tokenizer.json").write_text('{"model": 1}'),
        "",
        "tokenizer does not load",
    ),
    "tokenizer without ordinary words": (tokenizer_without_words, "", "tokenizer fails"),
    "no chat template": (template(""), "", "no chat template"),
    "template that raises": (template("{{ raise_exception('no') }}"), "", "template fails"),
    "template that is broken": (template("{% for"), "", "template fails"),
    "template that breaks out": (
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        "",
        "unsafe",
    ),
    "template that hides the answer": (template("{{ bos_token }}"), "", "does not reproduce"),
    "index with a missing file": (
        lambda m: write_index(m, "model.safetensors", "gone.safetensors"),
        "gone.safetensors",
        "is missing",
    ),
    "index with a name that is too long": (
        lambda m: write_index(m, "x" * 300),
        "x" * 300,
        "is missing",
    ),
    "index with a path outside": (
        lambda m: write_index(m, "../other/model.safetensors"),
        "model.safetensors.index.json",
        "outside the checkpoint",
    ),
    "index with an absolute path": (
        lambda m: write_index(m, "/etc/hostname"),
        "model.safetensors.index.json",
        "outside the checkpoint",
    ),
    "index that is none": (
        lambda m: (m / "model.safetensors.index.json").write_text("[1]"),
        "model.safetensors.index.json",
        "not a safetensors index",
    ),
    "index too deep to read": (
        lambda m: (m / "model.safetensors.index.json").write_text("[" * 5000),
        "model.safetensors.index.json",
        "not a safetensors index",
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("spoil", "file", "says"), REFUSED.values(), ids=list(REFUSED))
def test_a_model_is_refused_for(
    model: Path, spoil: Callable[[Path], object], file: str, says: str
) -> None:
    spoil(model)
    with pytest.raises(CheckpointError, match=says) as refusal:
        inspect_full_model(model)
    assert refusal.value.file == str(model / file)


def test_an_auto_map_is_found_at_any_depth_that_can_be_read(model: Path) -> None:
    inner: object = {"auto_map": {}}
    for _ in range(300):
        inner = {"a": [inner]}
    write_json(model / "extra.json", inner)
    with pytest.raises(CheckpointError, match="auto_map"):
        inspect_full_model(model)


def test_a_link_within_the_checkpoint_is_fine(model: Path) -> None:
    (model / "model.safetensors").rename(model / "weights.safetensors")
    (model / "model.safetensors").symlink_to("weights.safetensors")
    assert inspect_full_model(model).shapes


def test_a_sharded_model_is_read_whole(model: Path) -> None:
    save(model / "second.safetensors", {"lm_head.weight": (258, 8)})
    write_index(model, "model.safetensors", "second.safetensors")
    assert {"lm_head.weight", f"{MODULE}.weight"} <= inspect_full_model(model).shapes.keys()


def test_an_adapter_that_fits_is_accepted(tmp_path: Path, base: Inspected) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    assert kind_of(adapter) is Kind.ADAPTER
    assert inspect_adapter(adapter, base).kind is Kind.ADAPTER


@pytest.mark.parametrize(
    ("module", "shape", "says"),
    [
        ("model.layers.9.self_attn.q_proj", SHAPE, "layers.9.self_attn.q_proj, which the base"),
        (MODULE, (SHAPE[0], SHAPE[1] + 1), "another architecture"),
        (MODULE, (SHAPE[0] + 1, SHAPE[1]), "another architecture"),
    ],
    ids=["no such module", "other input width", "other output width"],
)
def test_an_adapter_of_another_architecture_is_refused(
    tmp_path: Path, base: Inspected, module: str, shape: tuple[int, int], says: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter", module, shape)
    with pytest.raises(CheckpointError, match=says) as refusal:
        inspect_adapter(adapter, base)
    assert refusal.value.file == str(adapter / "adapter_model.safetensors")


A, B = f"{PREFIX}.lora_A.weight", f"{PREFIX}.lora_B.weight"


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({A: (2, 8)}, "no lora_B"),
        ({B: (16, 2)}, "no lora_A"),
        ({A: (2, 8), B: (16, 3)}, "rank 2 in lora_A and 3 in lora_B"),
        ({A: ()}, "does not fit"),
        ({"something": (1,)}, "no LoRA weights"),
    ],
)
def test_half_an_adapter_which_would_be_judged_as_its_base_is_refused(
    tmp_path: Path, base: Inspected, shapes: dict[str, tuple[int, ...]], says: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    save(adapter / "adapter_model.safetensors", shapes)
    with pytest.raises(CheckpointError, match=says):
        inspect_adapter(adapter, base)


@pytest.mark.parametrize("kind", ["IA3", "ADALORA", None, ["LORA"]])
def test_an_adapter_of_another_kind_is_refused(
    tmp_path: Path, base: Inspected, kind: object
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    change_json(adapter / "adapter_config.json", peft_type=kind)
    with pytest.raises(CheckpointError, match="only LORA") as refusal:
        inspect_adapter(adapter, base)
    assert refusal.value.file == str(adapter / "adapter_config.json")


def test_an_adapter_with_a_pickle_beside_is_refused(tmp_path: Path, base: Inspected) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="a pickle"):
        inspect_adapter(adapter, base)


def test_a_directory_that_holds_neither_kind_is_said_to(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither"):
        kind_of(tmp_path)
    with pytest.raises(CheckpointError, match="not a directory"):
        kind_of(tmp_path / "gone")
