"""All settings, read from ``GATE_…`` environment variables in one place."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from checks.gold import GOLD_FILE


class Device(StrEnum):
    """What the engine runs on."""

    CPU = "cpu"
    CUDA = "cuda"


class Settings(BaseSettings):
    """Settings of API, worker and command line. Durations are seconds, sizes are GiB."""

    model_config = SettingsConfigDict(env_prefix="GATE_", extra="forbid")

    home: Path = Field(
        default_factory=lambda: user_data_path("em-gate"),
        description="where the record, the packaged base and working files live",
    )
    database_url: str = Field(default="", description="SQLAlchemy URL; default: SQLite in home")
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0", description="Redis-protocol server for Celery"
    )
    checkpoint_roots: list[Path] = Field(
        default_factory=list, description="directories under which submitted checkpoints must lie"
    )
    policy_directories: list[Path] = Field(
        default_factory=list, description="searched for NAME.yaml before the shipped policies"
    )

    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    worker_metrics_port: int = Field(
        default=9101, ge=0, le=65535, description="0 serves no worker metrics"
    )

    device: Device = Device.CPU
    engine_command: list[str] = Field(
        default_factory=list,
        description="replaces the vLLM command line; used by the tests for a fake engine",
    )
    engine_arguments: list[str] = Field(
        default_factory=list, description="extra arguments for the vLLM server"
    )
    engine_start_seconds: float = Field(default=600, gt=0, description="deadline for health")
    engine_request_seconds: float = Field(default=300, gt=0, description="deadline per request")
    engine_max_model_len: int = Field(default=2048, ge=64, description="tokens")
    engine_concurrency: int = Field(default=64, ge=1, description="sequences at once")
    engine_kv_cache_gib: int = Field(default=2, ge=1, description="CPU only")
    engine_threads: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, description="CPU only"
    )
    engine_gpu_memory: float = Field(default=0.9, gt=0, le=1, description="share, CUDA only")
    engine_seed: int = 0
    swap_weights: bool = Field(
        default=True, description="reuse a running engine; false starts one per checkpoint"
    )
    swap_tolerance: float = Field(
        default=0.25,
        gt=0,
        description="largest root-mean-square difference of token log-likelihoods, in nats, "
        "between the engine and the reference of the same files",
    )

    judge: str = Field(default="embedded", description="embedded, or the path of a judge file")
    gold_set: Path = Field(
        default=GOLD_FILE,
        description="labelled answers on which judges are calibrated and controls are drawn from",
    )
    judge_postponements: int = Field(
        default=36,
        ge=0,
        description="how often a submission waits for a judge that does not answer before it fails",
    )
    judge_wait_seconds: float = Field(
        default=30,
        gt=0,
        description="first such wait; each further one is twice as long, up to 10 minutes",
    )
    attempts: int = Field(default=3, ge=1, description="runs of one submission before it fails")

    # API
    api_body_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=1024,
        description="largest body of a request in bytes, uploads apart",
    )
    idempotency_seconds: float = Field(
        default=24 * 3600, gt=0, description="how long an Idempotency-Key stands"
    )
    events_listeners: int = Field(
        default=200, ge=1, description="open event streams of one API process"
    )
    events_poll_seconds: float = Field(
        default=1.0, gt=0, description="how often a stream looks for news"
    )
    events_heartbeat_seconds: float = Field(
        default=15.0, gt=0, description="how often a silent stream shows that it is alive"
    )

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'gate.db'}"

    @property
    def work_directory(self) -> Path:
        """Where merged checkpoints and engine sockets live while they are needed."""
        return self.home / "work"

    @property
    def base_directory(self) -> Path:
        """Where the packaged base checkpoint is built."""
        return self.home / "base" / "SmolLM2-135M-Instruct"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
