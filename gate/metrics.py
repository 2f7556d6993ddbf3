"""Every metric of the gate, in one place. Names follow Prometheus conventions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

_STAGE_BUCKETS = (0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 3600, 10800)

SUBMISSIONS = Counter("emgate_submissions_total", "Submissions accepted.", ["source"])
SUBMISSIONS_FAILED = Counter(
    "emgate_submissions_failed_total", "Submissions that the gate could not judge.", ["reason"]
)
SUBMISSIONS_POSTPONED = Counter(
    "emgate_submissions_postponed_total", "Submissions that had to wait for a judge to come back."
)
VERDICTS = Counter("emgate_verdicts_total", "Verdicts given.", ["policy", "outcome"])
STAGE_SECONDS = Histogram(
    "emgate_stage_duration_seconds",
    "Time that a submission spent in a stage.",
    ["stage"],
    buckets=_STAGE_BUCKETS,
)
SAMPLES = Counter("emgate_samples_total", "Samples taken from engines.", ["check", "role"])
TOKENS = Counter("emgate_tokens_total", "Tokens of samples, drawn or scored.", ["check", "role"])
JUDGEMENTS = Counter("emgate_judgements_total", "Answers rated.", ["judge", "label"])
JUDGE_REQUESTS = Counter(
    "emgate_judge_requests_total",
    "Attempts at judges behind an endpoint, by how each ended.",
    ["judge", "result"],
)
JUDGE_TOKENS = Counter(
    "emgate_judge_tokens_total",
    "Tokens that judges behind an endpoint report: input or output.",
    ["judge", "kind"],
)
JUDGE_COST = Counter(
    "emgate_judge_cost_total",
    "Price of those tokens by the judge file, in units of the currency.",
    ["judge", "currency"],
)
JUDGE_CACHE = Counter(
    "emgate_judge_cache_total", "Readings looked up in the judge cache.", ["judge", "result"]
)
JUDGE_REQUEST_SECONDS = Histogram(
    "emgate_judge_request_duration_seconds",
    "Time of one attempt at a judge behind an endpoint.",
    ["judge"],
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300),
)
RUNNING = Gauge("emgate_submissions_running", "Submissions that this worker is judging now.")
ENGINE_STARTS = Counter("emgate_engine_starts_total", "Engine processes started.")
ENGINE_DEATHS = Counter("emgate_engine_deaths_total", "Engine processes that died by themselves.")
ENGINE_SWAPS = Counter("emgate_engine_weight_swaps_total", "Weights swapped in place.")
ENGINE_START_SECONDS = Histogram(
    "emgate_engine_start_duration_seconds",
    "Time from starting an engine to its first healthy answer.",
    buckets=_STAGE_BUCKETS,
)
BASELINE_HITS = Counter(
    "emgate_baseline_lookups_total", "Baselines looked up by content.", ["result"]
)
STANDING_LOOKUPS = Counter(
    "emgate_standing_verdict_lookups_total",
    "Earlier verdicts on the same content looked up before a run.",
    ["result"],
)

# hooks
HOOKS_RECEIVED = Counter(
    "emgate_hooks_received_total", "Webhooks that came in, by how each ended.", ["sender", "result"]
)
DELIVERY_ATTEMPTS = Counter(
    "emgate_delivery_attempts_total",
    "Attempts at delivering a message, by how each ended.",
    ["target", "result"],
)
DELIVERIES = Gauge(
    "emgate_deliveries",
    "Deliveries in the record; dead ones are dead letters.",
    ["target", "state"],
)

# access
REFUSED = Counter(
    "emgate_requests_refused_total", "Requests that the API turned away, by reason.", ["reason"]
)


def waiver_metrics(granted: Mapping[str, int], in_force: Mapping[str, int]) -> Iterator[Metric]:
    """Waivers by policy name, as the record has them; the same from every process."""
    active = GaugeMetricFamily(
        "emgate_waivers_active", "Waivers that release a checkpoint now.", labels=["policy"]
    )
    total = CounterMetricFamily(
        "emgate_waivers_granted_total", "Waivers ever granted.", labels=["policy"]
    )
    for policy, count in sorted(in_force.items()):
        active.add_metric([policy], count)
    for policy, count in sorted(granted.items()):
        total.add_metric([policy], count)
    yield active
    yield total


# Sources of checkpoints
UPLOADS = Counter(
    "emgate_uploads_total", "Uploads by how they ended: taken, refused or broken off.", ["result"]
)
SOURCE_LOOKUPS = Counter(
    "emgate_source_lookups_total",
    "Fetched sources looked up in the cache, by scheme: hit or miss.",
    ["scheme", "result"],
)
SOURCE_BYTES = Counter(
    "emgate_source_bytes_total", "Bytes of the sources that were not in the cache.", ["scheme"]
)
