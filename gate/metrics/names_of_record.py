"""Every metric whose values are found at each scrape: in the record, the broker, a process."""

from __future__ import annotations

from gate.metrics.catalogue import Described, Kind, Where, described

_CHECK = ("model", "check", "unit")


def _gauge(name: str, help: str, *labels: str, where: Where = Where.RECORD) -> Described:
    return described(where, Kind.GAUGE, name, help, labels)


def _counter(name: str, help: str, *labels: str) -> Described:
    return described(Where.RECORD, Kind.COUNTER, name, help, labels)


RECORD_UP = _gauge("emgate_record_up", "1 if everything of the record was read at this scrape.")

SUBMISSIONS = _counter("emgate_submissions_total", "Submissions accepted.", "source")
SUBMISSIONS_NOW = _gauge("emgate_submissions", "Submissions by the state they are in.", "state")
OLDEST_WAITING = _gauge(
    "emgate_submissions_oldest_waiting_seconds",
    "Age of the oldest submission that no worker has taken and that could be taken; 0 without one.",
)
VERDICTS = _counter(
    "emgate_verdicts_total", "Verdicts given, by the submitted policy.", "policy", "outcome"
)
INCONCLUSIVE = _counter(
    "emgate_inconclusive_total",
    "Inconclusive verdicts by why; one with several reasons counts under each.",
    "reason",
)
WAIVERS_ACTIVE = _gauge("emgate_waivers_active", "Waivers that release a checkpoint now.", "policy")
WAIVERS_GRANTED = _counter("emgate_waivers_granted_total", "Waivers ever granted.", "policy")
DELIVERIES = _gauge(
    "emgate_deliveries", "Deliveries in the record; dead ones are dead letters.", "target", "state"
)

CHECK_METRIC = _gauge(
    "emgate_check_metric",
    "Metric of a check in the latest verdict on a model, in the unit of the label.",
    *_CHECK,
)
CHECK_LOWER = _gauge("emgate_check_metric_lower", "Lower bound of that metric.", *_CHECK)
CHECK_UPPER = _gauge("emgate_check_metric_upper", "Upper bound of that metric.", *_CHECK)
CHECK_THRESHOLD = _gauge(
    "emgate_check_threshold",
    "The policy's threshold for that metric; side is at_most or at_least.",
    *_CHECK,
    "side",
)
MODEL_VERDICT = _gauge(
    "emgate_model_verdict_info",
    "1 for the latest verdict on a model.",
    *("model", "version", "policy", "outcome", "submission"),
)
MODEL_VERDICT_AT = _gauge(
    "emgate_model_verdict_timestamp_seconds", "When that verdict was given, Unix time.", "model"
)

_LAST_RUNS = "over the last 20 verdicts that this judge was asked for"
JUDGE_SENSITIVITY = _gauge(
    "emgate_judge_control_sensitivity",
    f"Share of the misaligned controls that the judge found, {_LAST_RUNS}.",
    "judge",
)
JUDGE_SPECIFICITY = _gauge(
    "emgate_judge_control_specificity",
    f"Share of the aligned controls that the judge cleared, {_LAST_RUNS}.",
    "judge",
)
JUDGE_ACCURACY = _gauge(
    "emgate_judge_control_accuracy",
    f"Share of all controls that the judge labelled rightly, {_LAST_RUNS}.",
    "judge",
)
JUDGE_DISAGREEMENT = _gauge(
    "emgate_judge_disagreement",
    f"Mean disagreement of the judges of an ensemble, 0 to 1, {_LAST_RUNS}.",
    "judge",
)
JUDGE_FLOOR = _gauge(
    "emgate_policy_judge_floor",
    "The least sensitivity or specificity of a judge that a policy accepts.",
    *("policy", "measure"),
)

BROKER_UP = _gauge("emgate_broker_up", "1 if the broker answered at this scrape.", where=Where.API)
QUEUE_TASKS = _gauge(
    "emgate_queue_tasks",
    "Tasks that wait in the broker; absent while it does not answer.",
    "queue",
    where=Where.API,
)

ENGINE_UP = _gauge(
    "emgate_engine_up",
    "1 while the engine of this worker runs; 0 also before its first start.",
    where=Where.WORKER,
)

BUILD_INFO = _gauge("emgate_build_info", "1, with the version.", "version", where=Where.BOTH)
DISK_FREE = _gauge(
    "emgate_disk_free_bytes",
    "Space that the gate may still use on the file system of a directory.",
    "directory",
    where=Where.BOTH,
)
DISK_SIZE = _gauge(
    "emgate_disk_size_bytes",
    "Size of the file system of a directory.",
    "directory",
    where=Where.BOTH,
)
