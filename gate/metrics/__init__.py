"""Every metric that a process counts by itself, in one place.

Those that are read from the record are in :mod:`gate.metrics.names_of_record`.
"""

from __future__ import annotations

from gate.metrics.catalogue import Where, counter, gauge, histogram

_STAGE_BUCKETS = (0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 3600, 10800)

# Every process
PROCESS_STARTED = gauge(
    Where.BOTH,
    "emgate_process_started_timestamp_seconds",
    "When this process began to serve; of several API processes the one that began last.",
    of_several="livemax",
)

# The API
HTTP_REQUESTS = counter(
    Where.API,
    "emgate_http_requests_total",
    "Requests answered, by route template; `none` where no route matches.",
    ["method", "route", "status"],
)
HTTP_REQUEST_SECONDS = histogram(
    Where.API,
    "emgate_http_request_duration_seconds",
    "Time from the first byte of a request to the start of its answer.",
    ["method", "route"],
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
REFUSED = counter(
    Where.API,
    "emgate_requests_refused_total",
    "Requests that the API turned away, by reason.",
    ["reason"],
)
HOOKS_RECEIVED = counter(
    Where.API,
    "emgate_hooks_received_total",
    "Webhooks that came in, by how each ended.",
    ["sender", "result"],
)
UPLOADS = counter(
    Where.API,
    "emgate_uploads_total",
    "Uploads by how they ended: taken, refused or broken off.",
    ["result"],
)

# Runs
RUNNING = gauge(
    Where.WORKER, "emgate_submissions_running", "Submissions that this worker is judging now."
)
SUBMISSIONS_FAILED = counter(
    Where.WORKER,
    "emgate_submissions_failed_total",
    "Submissions that the gate could not judge.",
    ["reason"],
)
SUBMISSIONS_POSTPONED = counter(
    Where.WORKER,
    "emgate_submissions_postponed_total",
    "Submissions that had to wait for a judge to come back.",
)
STAGE_SECONDS = histogram(
    Where.WORKER,
    "emgate_stage_duration_seconds",
    "Time that a submission spent in a stage.",
    ["stage"],
    _STAGE_BUCKETS,
)
SAMPLES = counter(
    Where.WORKER, "emgate_samples_total", "Samples taken from engines.", ["check", "role"]
)
TOKENS = counter(
    Where.WORKER,
    "emgate_tokens_total",
    "Tokens of samples, drawn or scored.",
    ["check", "role"],
)
BASELINE_HITS = counter(
    Where.WORKER,
    "emgate_baseline_lookups_total",
    "Baselines looked up by content: hit or miss.",
    ["result"],
)
STANDING_LOOKUPS = counter(
    Where.WORKER,
    "emgate_standing_verdict_lookups_total",
    "Earlier verdicts on the same content looked up before a run: hit or miss.",
    ["result"],
)
LEASE_LOSSES = counter(
    Where.WORKER,
    "emgate_lease_losses_total",
    "Runs of this worker that stopped because it no longer held the submission.",
)
LEASE_TAKEOVERS = counter(
    Where.WORKER,
    "emgate_lease_takeovers_total",
    "Submissions that this worker took from one whose lease had run out.",
)

# Judges
JUDGEMENTS = counter(Where.WORKER, "emgate_judgements_total", "Answers rated.", ["judge", "label"])
JUDGE_REQUESTS = counter(
    Where.WORKER,
    "emgate_judge_requests_total",
    "Attempts at judges behind an endpoint, by how each ended.",
    ["judge", "result"],
)
JUDGE_TOKENS = counter(
    Where.WORKER,
    "emgate_judge_tokens_total",
    "Tokens that judges behind an endpoint report: input or output.",
    ["judge", "kind"],
)
JUDGE_COST = counter(
    Where.WORKER,
    "emgate_judge_cost_total",
    "Price of those tokens by the judge file, in units of the currency.",
    ["judge", "currency"],
)
JUDGE_CACHE = counter(
    Where.WORKER,
    "emgate_judge_cache_total",
    "Readings looked up in the judge cache.",
    ["judge", "result"],
)
JUDGE_REQUEST_SECONDS = histogram(
    Where.WORKER,
    "emgate_judge_request_duration_seconds",
    "Time of one attempt at a judge behind an endpoint.",
    ["judge"],
    (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300),
)

JUDGING_REPLIES = counter(
    Where.WORKER,
    "emgate_judging_replies_total",
    "Replies of this judging worker: rated, failed or another-judge; lost ones did not arrive.",
    ["result"],
)
JUDGING_WAIT_SECONDS = histogram(
    Where.WORKER,
    "emgate_judging_wait_duration_seconds",
    "Time that a run of this worker waited for a reply from the judging queue.",
    [],
    _STAGE_BUCKETS,
)

# Engines
ENGINE_STARTS = counter(Where.WORKER, "emgate_engine_starts_total", "Engine processes started.")
ENGINE_DEATHS = counter(
    Where.WORKER, "emgate_engine_deaths_total", "Engine processes that died by themselves."
)
ENGINE_SWAPS = counter(
    Where.WORKER, "emgate_engine_weight_swaps_total", "Weights swapped in place."
)
ENGINE_START_SECONDS = histogram(
    Where.WORKER,
    "emgate_engine_start_duration_seconds",
    "Time from starting an engine to its first healthy answer.",
    [],
    _STAGE_BUCKETS,
)

# Sources of checkpoints
SOURCE_LOOKUPS = counter(
    Where.WORKER,
    "emgate_source_lookups_total",
    "Fetched sources looked up in the cache, by scheme: hit or miss.",
    ["scheme", "result"],
)
SOURCE_BYTES = counter(
    Where.WORKER,
    "emgate_source_bytes_total",
    "Bytes of the sources that were not in the cache.",
    ["scheme"],
)

# Notification
DELIVERY_ATTEMPTS = counter(
    Where.WORKER,
    "emgate_delivery_attempts_total",
    "Attempts at delivering a message, by how each ended.",
    ["target", "result"],
)
