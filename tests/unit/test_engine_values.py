"""What an engine is started with, and how its weights are known: functions of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import EngineError
from gate.settings import Device, Settings
from workers.engine.client import KEEP_ALIVE_SECONDS
from workers.engine.command import (
    MODEL_NAME,
    engine_command,
    engine_environment,
    engine_identity,
    traces_arguments,
)
from workers.engine.fingerprint import Fingerprint, require_weights

MODEL, SOCKET = Path("/models/candidate one"), Path("/run/private/socket")


def command(**changes: object) -> list[str]:
    return engine_command(Settings.model_validate(changes), MODEL, SOCKET)


def value(arguments: Sequence[str], flag: str) -> str:
    assert arguments.count(flag) == 1
    return arguments[arguments.index(flag) + 1]


@pytest.mark.parametrize("device", list(Device))
def test_the_engine_serves_the_model_on_the_private_socket_only(device: Device) -> None:
    arguments = command(device=device)
    assert value(arguments, "--model") == str(MODEL)
    assert value(arguments, "--uds") == str(SOCKET)
    assert value(arguments, "--served-model-name") == MODEL_NAME
    assert not {"--host", "--port", "--trust-remote-code"} & set(arguments)


def test_a_checkpoint_cannot_bring_its_own_sampling_defaults() -> None:
    assert value(command(), "--generation-config") == "vllm"


def test_adapters_are_served_natively_on_cuda_only() -> None:
    assert "--enable-lora" in command(device=Device.CUDA)
    assert "--enable-lora" not in command(device=Device.CPU)
    assert "--enforce-eager" in command(device=Device.CPU)


def test_an_operators_arguments_come_last_and_a_command_replaces_the_program() -> None:
    arguments = command(engine_command=["fake", "engine"], engine_arguments=["--seed", "9"])
    assert arguments[:2] == ["fake", "engine"]
    assert arguments[-2:] == ["--seed", "9"]


def test_the_environment_is_offline_and_its_temporary_files_are_private() -> None:
    got = engine_environment(Settings(), {"HOME": "/h", "TMPDIR": "/t"}, Path("/private"))
    assert (got["HOME"], got["TMPDIR"], got["VLLM_RPC_BASE_PATH"]) == ("/h", "/private", "/private")
    assert (got["HF_HUB_OFFLINE"], got["VLLM_NO_USAGE_STATS"]) == ("1", "1")


@pytest.mark.parametrize(
    "name",
    [
        "GATE_DATABASE_URL",
        "OPENAI_API_KEY",
        "HF_TOKEN",
        "AWS_PROFILE",
        "PGPASSWORD",
        "judge_secret",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_an_engine_is_told_no_secret_of_the_worker(name: str) -> None:
    got = engine_environment(Settings(), {name: "s3cret", "CUDA_VISIBLE_DEVICES": "1"}, Path("/p"))
    assert "s3cret" not in got.values()
    assert got["CUDA_VISIBLE_DEVICES"] == "1"


def test_the_engine_closes_no_idle_connection_that_the_client_may_still_use() -> None:
    got = engine_environment(Settings(), {}, Path("/private"))
    assert float(got["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) >= 10 * KEEP_ALIVE_SECONDS


def test_settings_of_the_cpu_do_not_reach_a_gpu_engine() -> None:
    on_cpu = engine_environment(Settings(engine_threads=3), {}, Path("/private"))
    on_gpu = engine_environment(Settings(device=Device.CUDA), {}, Path("/private"))
    assert on_cpu["OMP_NUM_THREADS"] == "3"
    assert not {"OMP_NUM_THREADS", "VLLM_CPU_KVCACHE_SPACE", "LD_PRELOAD"} & on_gpu.keys()


def test_a_gpu_engine_needs_no_cuda_compiler_unless_it_is_told_to_use_one() -> None:
    on_gpu = Settings(device=Device.CUDA)
    name = "VLLM_USE_FLASHINFER_SAMPLER"
    assert engine_environment(on_gpu, {}, Path("/private"))[name] == "0"
    assert engine_environment(on_gpu, {name: "1"}, Path("/private"))[name] == "1"
    assert name not in engine_environment(Settings(), {}, Path("/private"))


def test_a_preload_of_the_operators_own_is_kept() -> None:
    got = engine_environment(Settings(), {"LD_PRELOAD": "mine.so"}, Path("/private"))
    assert got["LD_PRELOAD"] == "mine.so"


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/spans"}, "http://c/spans"),
    ],
)
def test_the_engine_records_traces_where_they_are_on_and_wanted_of_it(
    given: dict[str, str], endpoint: str
) -> None:
    wanted = Settings(engine_traces=True)
    assert traces_arguments(wanted, given) == ["--otlp-traces-endpoint", endpoint]
    got = engine_environment(wanted, given, Path("/private"))
    assert got["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert got["OTEL_SERVICE_NAME"] == "emgate-engine"


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (False, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}),
        (True, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}),
        (True, {"OTEL_SERVICE_NAME": "gate"}),
    ],
)
def test_else_the_engine_is_told_nothing_of_traces(wanted: bool, given: dict[str, str]) -> None:
    settings = Settings(engine_traces=wanted)
    assert traces_arguments(settings, given) == []
    got = engine_environment(settings, given, Path("/private"))
    assert not [name for name in got if name.startswith("OTEL_")]


def test_the_engine_logs_no_line_per_request() -> None:
    assert "--disable-uvicorn-access-log" in command()


def test_engines_that_may_answer_differently_share_no_baseline() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"device": "cuda"},
        {"engine_max_model_len": 1024},
        {"engine_seed": 1},
        {"engine_arguments": ["--quantization", "fp8"]},
        {"engine_command": ["another"]},
    ]
    settings = [Settings.model_validate({"engine_command": ["fake"], **each}) for each in changes]
    assert len({engine_identity(each) for each in settings}) == len(changes)


def test_what_only_changes_the_speed_shares_a_baseline() -> None:
    slow = Settings(engine_command=["fake"], engine_threads=1, engine_concurrency=1)
    fast = Settings(engine_command=["fake"], engine_threads=2, engine_concurrency=64)
    assert engine_identity(slow) == engine_identity(fast)


numbers = st.lists(st.floats(-20, 0), min_size=1, max_size=20)


def fingerprint(*values: float) -> Fingerprint:
    return Fingerprint(tuple(values))


@given(numbers, st.floats(0, 5))
def test_the_distance_is_the_shift_of_all_numbers_whichever_way(
    values: list[float], by: float
) -> None:
    one, other = fingerprint(*values), fingerprint(*[v - by for v in values])
    assert one.distance(other) == pytest.approx(by, abs=1e-9)
    assert one.distance(other) == other.distance(one)
    assert one.distance(one) == 0


@pytest.mark.parametrize(("one", "other"), [((1.0,), (1.0, 2.0)), ((), ())])
def test_fingerprints_that_cannot_be_compared_are_infinitely_far(
    one: tuple[float, ...], other: tuple[float, ...]
) -> None:
    assert Fingerprint(one).distance(Fingerprint(other)) == math.inf


def test_the_weights_that_were_meant_are_accepted() -> None:
    require_weights(fingerprint(-1.1, -2.1), fingerprint(-1, -2), tolerance=0.25)


@pytest.mark.parametrize(
    "observed", [(-1.5, -2.5), (math.nan, -2.0), (math.inf, -2.0), (-1.0,), ()]
)
def test_numbers_that_are_off_or_no_numbers_are_not_accepted(observed: tuple[float, ...]) -> None:
    with pytest.raises(EngineError, match="does not serve the weights"):
        require_weights(Fingerprint(observed), fingerprint(-1, -2), tolerance=0.25)


def test_a_swap_that_changed_nothing_is_noticed_although_the_models_are_alike() -> None:
    before = fingerprint(-1.05, -2.0)
    with pytest.raises(EngineError, match="same numbers as before"):
        require_weights(before, fingerprint(-1, -2), 0.25, (before, fingerprint(-1.1, -2)))


def test_an_engine_nearer_to_the_weights_of_before_is_noticed() -> None:
    before = (fingerprint(-1.20, -2.0), fingerprint(-1.21, -2.0))
    with pytest.raises(EngineError, match="nearer to the weights of before"):
        require_weights(fingerprint(-1.19, -2.0), fingerprint(-1.0, -2.0), 0.25, before)


def test_a_swap_to_the_same_weights_may_give_the_same_numbers() -> None:
    seen, meant = fingerprint(-1.05, -2.0), fingerprint(-1, -2)
    require_weights(seen, meant, 0.25, (seen, meant))
