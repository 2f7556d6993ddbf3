"""All settings, read from ``GATE_…`` environment variables in one place."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gate.sources import SourceSyntaxError, parse_rule

#: Longest term, in days: a century, which the calendar holds.
LONGEST_DAYS = 36_500


class Device(StrEnum):
    """What the engine runs on."""

    CPU = "cpu"
    CUDA = "cuda"


class Judging(StrEnum):
    """Where answers are rated."""

    RUN = "run"
    QUEUE = "queue"


class LogFormat(StrEnum):
    """How log lines look. ``auto``: for a person at a terminal, as JSON anywhere else."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least urgent records that are logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def _shipped_gold() -> Path:
    # Here, because it loads the statistics, and most commands need the settings only.
    from checks.gold import GOLD_FILE

    return GOLD_FILE


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
    api_processes: int = Field(
        default=1, ge=1, description="API processes that share the port and the metrics"
    )
    worker_metrics_port: int = Field(
        default=9101,
        ge=0,
        le=65535,
        description="where a worker serves its metrics; 0 serves none",
    )
    worker_metrics_ports: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="ports from worker_metrics_port on, of which a worker takes the first free "
        "one: as many workers of one machine can have metrics",
    )
    worker_metrics_host: str = Field(
        default="127.0.0.1",
        description="address that a worker serves its metrics on; 0.0.0.0 in a container",
    )
    metrics_models: int = Field(
        default=50,
        ge=0,
        le=10_000,
        description="models whose latest verdict the metrics show, those with the newest ones",
    )

    log_format: LogFormat = Field(
        default=LogFormat.AUTO,
        description="log lines of API and workers: json, console, or auto, which is console at a "
        "terminal and json anywhere else",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="DEBUG, INFO, WARNING or ERROR")

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
    engine_traces: bool = Field(
        default=False, description="where traces are on, have the engine record its own as well"
    )
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
        default_factory=_shipped_gold,
        description="labelled answers on which judges are calibrated and controls are drawn from",
    )
    judging: Judging = Field(
        default=Judging.RUN,
        description="where answers are rated: run (by the worker that samples them), or queue (by "
        "workers of the queue judging, which alone need the judge's key)",
    )
    judging_wait_seconds: float = Field(
        default=120,
        gt=0,
        description="how long a run waits for a judging worker to take its answers before the "
        "submission is postponed",
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

    # hooks
    hooks_file: Path | None = Field(
        default=None, description="YAML: who may call, what a call submits, and who is told"
    )
    hook_body_bytes: int = Field(
        default=2_000_000, ge=1024, description="largest body of a call under /v1/hooks, in bytes"
    )
    notify_seconds: float = Field(
        default=15, gt=0, description="deadline of one request to a receiver, with its answer"
    )
    notify_schedule: list[float] = Field(
        default=[5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400],
        description="waits between the attempts of one delivery; after the last it is dead",
    )
    notify_at_once: int = Field(
        default=2, ge=1, description="deliveries to one receiver that are under way together"
    )
    notify_sweep_seconds: float = Field(
        default=2, gt=0, description="how often the database is asked for deliveries that are due"
    )
    # durable
    lease_seconds: float = Field(
        default=30,
        gt=0,
        description="a worker that has not renewed its hold of a submission for so long is taken "
        "for dead; also how long a run waits for a database that is away",
    )
    heartbeat_seconds: float = Field(
        default=3,
        gt=0,
        description="how often a worker renews its hold and looks whether its submission was "
        "cancelled; at most a third of lease_seconds counts",
    )
    sweep_seconds: float = Field(
        default=15,
        gt=0,
        description="how often a worker looks for submissions that wait in the database while "
        "the broker has nothing to do",
    )
    sample_retention_days: float | None = Field(
        default=None,
        ge=0,
        description="samples of submissions that ended longer ago are deleted, unless their "
        "policy has retention_days of its own; without it they are kept",
    )
    delivery_retention_days: float = Field(
        default=90,
        ge=0,
        le=LONGEST_DAYS,
        description="messages to others that got through longer ago are deleted",
    )
    dead_letter_retention_days: float = Field(
        default=365,
        ge=0,
        le=LONGEST_DAYS,
        description="messages that were given up are deleted so long after they were made",
    )
    hook_id_retention_days: float = Field(
        default=30,
        ge=1,
        le=LONGEST_DAYS,
        description="how long the ids of calls of the generic sender are known after they came; "
        "later, and much earlier, such a call is refused by its time",
    )
    # access
    keys_required: bool = Field(
        default=False,
        description="ask for an API key even on loopback while none exists; for use behind a proxy "
        "or on a machine of several people",
    )
    rate_submissions_per_minute: int = Field(
        default=120, ge=0, description="calls per key that change something; 0 sets no limit"
    )
    rate_reads_per_minute: int = Field(
        default=1200, ge=0, description="calls per key that only read; 0 sets no limit"
    )
    waiver_days_max: int = Field(
        default=30, ge=1, le=3650, description="how far ahead a waiver may expire, in days"
    )

    # Sources of checkpoints
    allowed_sources: list[str] = Field(
        default_factory=list,
        description="hub organisations or repositories and buckets or prefixes from which "
        "checkpoints may be fetched, such as hf://my-org or s3://models/releases",
    )
    largest_checkpoint_gib: float = Field(
        default=512, gt=0, description="largest checkpoint that is fetched or uploaded, extracted"
    )
    cache_gib: float = Field(
        default=512, gt=0, description="bound of the cache of fetched checkpoints in home"
    )
    upload_gib: float = Field(
        default=64, ge=0, description="largest upload as it is sent; 0 switches uploads off"
    )
    upload_store_gib: float = Field(
        default=512, gt=0, description="bound of all uploads together, extracted, in home"
    )
    upload_days: float = Field(
        default=7,
        ge=0,
        description="days after its last use from which an upload may be removed to make room",
    )
    fetch_attempts: int = Field(
        default=6, ge=1, description="attempts at each piece of a source that does not answer"
    )

    @field_validator("allowed_sources")
    @classmethod
    def _are_sources(cls, rules: list[str]) -> list[str]:
        for rule in rules:
            try:
                parse_rule(rule)
            except SourceSyntaxError as error:
                raise ValueError(str(error)) from error
        return rules

    @property
    def cache_directory(self) -> Path:
        """Where fetched checkpoints are kept for the next run."""
        return self.home / "cache"

    @property
    def upload_directory(self) -> Path:
        """Where uploaded checkpoints are kept."""
        return self.home / "uploads"

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
