"""The dashboard *Operations*, for whoever keeps the gate running."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import panels, variables
from deploy.grafana.boards.layout import Row, assemble, board
from deploy.grafana.boards.queries import (
    UNDER_WAY,
    Query,
    growth,
    growth_of_record,
    of_record,
    per_second,
    quantile,
    share,
)

#: Runs are rare beside scrapes, so what is measured once a run is looked at over an hour.
_RUNS = "1h"
#: How long a bar of counts stands for, at least.
_BAR = "5m"
_GREEN_RED = {"1": ("up", "green"), "0": ("down", "red")}
_ENGINE = 'instance=~"$worker"'


def operations() -> models.Dashboard:
    """The whole dashboard."""
    made = board(
        "emgate-operations",
        "em-gate: Operations",
        "Whether the gate is well: what waits, what works, what fails, and how full it is.",
        span="6h",
        refresh="30s",
    )
    made.with_variable(variables.datasource())
    made.with_variable(
        variables.any_of(
            "worker",
            "Worker",
            "label_values(emgate_engine_up, instance)",
            "The workers of the row 'Engines'.",
        )
    )
    rows = [
        _health(),
        _stages(),
        _engines(),
        _vllm(),
        _judges(),
        _api(),
        _deliveries(),
        _machines(),
    ]
    return assemble(made, rows)


def _health() -> Row:
    bad_if_none = panels.coloured_from({None: "red", 1: "green"})
    bad_if_any = panels.coloured_from({None: "green", 1: "red"})
    apis = panels.number(
        "API processes",
        "API processes that Prometheus reaches. 0 means that nobody can submit or read a verdict.",
        "short",
        Query('sum(up{job="emgate-api"})', "up"),
    )
    workers = panels.number(
        "Workers",
        "Workers that Prometheus reaches, those that only send messages among them. 0 means that "
        "submissions wait.",
        "short",
        Query('sum(up{job="emgate-worker"})', "up"),
    )
    record = panels.number(
        "Record and broker",
        "Whether the API could read the database and reach the broker at the last scrape. Without "
        "the broker, workers find submissions in the database, more slowly; nothing is lost.",
        "short",
        Query("min(emgate_record_up)", "record"),
        Query("min(emgate_broker_up)", "broker"),
    ).mappings(panels.named_values(_GREEN_RED))
    engines = panels.number(
        "Engines loaded",
        "Workers that have an engine running now. An idle worker may have none.",
        "short",
        Query("sum(emgate_engine_up)", "engines"),
    )
    judged = panels.number(
        "Submissions being judged",
        "Submissions that workers hold now, one for each worker with an engine at most.",
        "short",
        Query("sum(emgate_submissions_running)", "running"),
    )
    longest = panels.number(
        "Longest wait",
        "Age of the oldest submission that no worker has taken; 0 when none waits.",
        "s",
        Query(of_record("emgate_submissions_oldest_waiting_seconds"), "longest wait"),
    ).thresholds(panels.coloured_from({None: "green", 1800: "yellow", 7200: "red"}))
    dead = panels.number(
        "Dead letters",
        "Messages that were given up after the last attempt. List them with 'emgate webhooks "
        "deliveries --state dead', send them again with 'emgate webhooks resend --dead'.",
        "short",
        Query(
            f"sum({of_record('emgate_deliveries', 'target', _state('dead'))}) or vector(0)", "dead"
        ),
    )
    disk = panels.number(
        "Least free disk",
        "The smallest free share of any file system that the gate keeps files on. A full disk "
        "stops runs; it never makes a pass.",
        "percentunit",
        Query("min(emgate_disk_free_bytes / emgate_disk_size_bytes)", "free"),
    ).thresholds(panels.coloured_from({None: "red", 0.1: "yellow", 0.2: "green"}))
    return Row(
        "Health",
        [
            apis.thresholds(bad_if_none).span(3),
            workers.thresholds(bad_if_none).span(3),
            record.graph_mode(shapes.BigValueGraphMode.NONE).span(3),
            engines.span(3),
            judged.span(3),
            longest.span(3),
            dead.thresholds(bad_if_any).span(3),
            disk.min(0).max(1).span(3),
        ],
    )


def _state(name: str) -> str:
    return f'state="{name}"'


def _stages() -> Row:
    queues = panels.lines(
        "Tasks in the broker",
        "Tasks that wait in each queue. There is no line while the broker does not answer. Tasks "
        "may be fewer than waiting submissions: the database is the truth, the queue only wakes "
        "workers.",
        "short",
        Query("max by (queue) (emgate_queue_tasks)", "{{queue}}"),
    ).min(0)
    submissions = panels.stacked_area(
        "Submissions under way, by state",
        "Submissions of the record that have not ended. What stays in one state for long is stuck "
        "there.",
        "short",
        Query(UNDER_WAY, "{{state}}"),
    )
    accepted = panels.bars(
        "Submissions accepted",
        "How many came in, by who sent them: the API, or a webhook.",
        "short",
        Query(growth_of_record("emgate_submissions_total", "source"), "{{source}}"),
    ).interval(_BAR)
    seconds = panels.lines(
        "Time in each stage",
        "How long submissions stay in a stage: the median, and what 95% of them stay below, over "
        "the hour before each point.",
        "s",
        Query(quantile(0.5, "emgate_stage_duration_seconds", _RUNS, "stage"), "{{stage}}: median"),
        Query(quantile(0.95, "emgate_stage_duration_seconds", _RUNS, "stage"), "{{stage}}: 95%"),
    ).min(0)
    failed = panels.bars(
        "Submissions that could not be judged",
        "Runs that ended in 'failed', by reason. They have no verdict and never pass.",
        "short",
        Query(growth("emgate_submissions_failed_total", "reason"), "{{reason}}"),
    ).interval(_BAR)
    held = panels.lines(
        "Interrupted runs",
        "Runs that had to wait or changed hands, counted over the hour before each point. "
        "Postponed: a judge did not answer, the run goes on later. Taken over: a worker went on "
        "with what a dead one had begun. Lost: a worker noticed that it no longer held its "
        "submission.",
        "short",
        Query(growth("emgate_submissions_postponed_total", window=_RUNS), "postponed"),
        Query(growth("emgate_lease_takeovers_total", window=_RUNS), "taken over"),
        Query(growth("emgate_lease_losses_total", window=_RUNS), "lost"),
    ).min(0)
    return Row(
        "Queues and stages",
        [panel.span(8) for panel in (queues, submissions, accepted, seconds, failed, held)],
    )


def _engines() -> Row:
    loaded = panels.states(
        "Engine of each worker",
        "When each worker had an engine running. Short gaps are restarts for another architecture; "
        "look at the deaths beside it.",
        "short",
        Query(f"max by (instance) (emgate_engine_up{{{_ENGINE}}})", "{{instance}}"),
    ).mappings(panels.named_values({"1": ("running", "green"), "0": ("none", "text")}))
    starts = panels.lines(
        "Starts, deaths and weight swaps",
        "How often engines were started, died by themselves, and took other weights without a "
        "restart, over the hour before each point. Deaths should be 0; many starts and few swaps "
        "mean that submissions change architecture often.",
        "short",
        Query(growth("emgate_engine_starts_total", "", _ENGINE, _RUNS), "starts"),
        Query(growth("emgate_engine_deaths_total", "", _ENGINE, _RUNS), "deaths"),
        Query(growth("emgate_engine_weight_swaps_total", "", _ENGINE, _RUNS), "swaps"),
    )
    starts.min(0).override_by_name("deaths", [panels.fixed_colour("red")])
    starting = panels.lines(
        "Time to start an engine",
        "From starting the process to its first healthy answer: median, and what 95% stay below, "
        "over the day before each point.",
        "s",
        Query(quantile(0.5, "emgate_engine_start_duration_seconds", "1d", "", _ENGINE), "median"),
        Query(quantile(0.95, "emgate_engine_start_duration_seconds", "1d", "", _ENGINE), "95%"),
    ).min(0)
    samples = panels.stacked_area(
        "Samples per second",
        "Answers and scores taken from engines, by check. 0 while submissions are under way means "
        "that engines load, or hang.",
        "cps",
        Query(per_second("emgate_samples_total", "check", _ENGINE), "{{check}}"),
    )
    tokens = panels.stacked_area(
        "Tokens per second",
        "Tokens drawn or scored, of the candidate and of its base. The base is asked once and then "
        "found in the record.",
        "cps",
        Query(per_second("emgate_tokens_total", "role", _ENGINE), "{{role}}"),
    )
    saved = panels.lines(
        "Work saved",
        "How often a baseline was found instead of sampled again, and how often a submission got "
        "the standing verdict on the same content, as a share of the look-ups in the hour before "
        "each point.",
        "percentunit",
        Query(_hits("emgate_baseline_lookups_total"), "baselines"),
        Query(_hits("emgate_standing_verdict_lookups_total"), "standing verdicts"),
    )
    saved.min(0).max(1)
    return Row("Engines", [p.span(8) for p in (loaded, starts, starting, samples, tokens, saved)])


def _hits(lookups: str, by: str = "") -> str:
    return share(lookups, 'result="hit"', _RUNS, by)


def _vllm() -> Row:
    requests = panels.lines(
        "vLLM: requests in the engine",
        "Requests that the engine works on and that wait inside it. A long queue inside is normal "
        "while sampling; waiting without running is not.",
        "short",
        Query(f"sum(vllm:num_requests_running{{{_ENGINE}}})", "running"),
        Query(f"sum(vllm:num_requests_waiting{{{_ENGINE}}})", "waiting"),
    ).min(0)
    cache = panels.lines(
        "vLLM: KV cache in use",
        "How full the memory for the attention of running requests is. Near 100% the engine pauses "
        "requests (preemptions), and sampling slows down: lower GATE_ENGINE_CONCURRENCY or give it "
        "more memory.",
        "percentunit",
        Query(f"max by (instance) (vllm:kv_cache_usage_perc{{{_ENGINE}}})", "{{instance}}"),
    )
    cache.min(0).max(1)
    tokens = panels.stacked_area(
        "vLLM: tokens per second",
        "Tokens that the engine read and wrote, by its own count. Scoring reads much and writes "
        "one token a request.",
        "cps",
        Query(per_second("vllm:prompt_tokens_total", "", _ENGINE), "read"),
        Query(per_second("vllm:generation_tokens_total", "", _ENGINE), "written"),
    )
    first = panels.lines(
        "vLLM: time to the first token",
        "From a request's arrival to its first token: median, and what 95% stay below, over the "
        "hour before each point. Waiting inside the engine counts.",
        "s",
        Query(quantile(0.5, "vllm:time_to_first_token_seconds", _RUNS, "", _ENGINE), "median"),
        Query(quantile(0.95, "vllm:time_to_first_token_seconds", _RUNS, "", _ENGINE), "95%"),
    ).min(0)
    return Row("vLLM", [panel.span(6) for panel in (requests, cache, tokens, first)])


def _judges() -> Row:
    requests = panels.bars(
        "Requests to judges",
        "Attempts at judges behind an endpoint, by how each ended. The embedded judge makes none.",
        "short",
        Query(growth("emgate_judge_requests_total", "judge, result"), "{{judge}}: {{result}}"),
    ).interval(_BAR)
    seconds = panels.lines(
        "Time of a judge's answer",
        "One attempt at a judge behind an endpoint: median, and what 95% stay below, over the hour "
        "before each point.",
        "s",
        Query(quantile(0.5, _JUDGE_SECONDS, _RUNS, "judge"), "{{judge}}: median"),
        Query(quantile(0.95, _JUDGE_SECONDS, _RUNS, "judge"), "{{judge}}: 95%"),
    ).min(0)
    tokens = panels.stacked_area(
        "Tokens of judges per second",
        "Tokens that judges behind an endpoint say they read and wrote.",
        "cps",
        Query(per_second("emgate_judge_tokens_total", "judge, kind"), "{{judge}}: {{kind}}"),
    )
    cost = panels.number(
        "Cost of judges in the time shown",
        "What those tokens cost by the price in the judge file. Nothing for a judge without one.",
        "short",
        Query(
            growth("emgate_judge_cost_total", "currency", "", "$__range"),
            "{{currency}}",
            instant=True,
        ),
    )
    cost.decimals(4).no_value("no price")
    cache = panels.lines(
        "Readings found in the judge cache",
        "The share of readings that were paid for before, in the hour before each point. Controls "
        "are always asked again and are not looked up.",
        "percentunit",
        Query(_hits("emgate_judge_cache_total", "judge"), "{{judge}}"),
    )
    cache.min(0).max(1)
    return Row(
        "Judges",
        [
            requests.span(7),
            seconds.span(6),
            tokens.span(5),
            cache.span(4),
            cost.span(2).height(8),
        ],
    )


_JUDGE_SECONDS = "emgate_judge_request_duration_seconds"


def _api() -> Row:
    answered = panels.stacked_area(
        "Requests by status",
        "Requests that the API answered, by HTTP status. 5xx are faults of the gate.",
        "reqps",
        Query(per_second("emgate_http_requests_total", "status"), "{{status}}"),
    ).override_by_regexp("^5", [panels.fixed_colour("red")])
    slow = panels.lines(
        "Slowest routes",
        "What 95% of the answers of a route stay below, for the five slowest routes, over the hour "
        "before each point. Event streams are open for long by design; their start is counted.",
        "s",
        Query(
            f"topk(5, {quantile(0.95, 'emgate_http_request_duration_seconds', _RUNS, 'route')})",
            "{{route}}",
        ),
    ).min(0)
    refused = panels.bars(
        "Requests turned away",
        "Requests without a key, with a key that may not, or over the limit of their rate, by "
        "reason.",
        "short",
        Query(growth("emgate_requests_refused_total", "reason"), "{{reason}}"),
    ).interval(_BAR)
    received = panels.bars(
        "Uploads and webhooks received",
        "Checkpoints uploaded and webhooks that came in, by how each ended.",
        "short",
        Query(growth("emgate_uploads_total", "result"), "upload: {{result}}"),
        Query(growth("emgate_hooks_received_total", "sender, result"), "{{sender}}: {{result}}"),
    ).interval(_BAR)
    return Row("API", [panel.span(6) for panel in (answered, slow, refused, received)])


def _deliveries() -> Row:
    stored = panels.stacked_area(
        "Deliveries in the record",
        "Messages to receivers by state. 'pending' that only grows is a receiver that is down; "
        "'dead' was given up.",
        "short",
        Query(of_record("emgate_deliveries", "target, state"), "{{target}}: {{state}}"),
    ).override_by_regexp("dead$", [panels.fixed_colour("red")])
    attempts = panels.bars(
        "Attempts at delivering",
        "Attempts by receiver and by how each ended.",
        "short",
        Query(growth("emgate_delivery_attempts_total", "target, result"), "{{target}}: {{result}}"),
    ).interval(_BAR)
    return Row("Deliveries", [stored.span(12), attempts.span(12)])


def _machines() -> Row:
    disk = panels.lines(
        "Disk that is free",
        "The free share of each file system that the gate keeps files on. The red area is the last "
        "tenth.",
        "percentunit",
        Query("emgate_disk_free_bytes / emgate_disk_size_bytes", "{{instance}}: {{directory}}"),
    )
    disk.min(0).max(1).thresholds(panels.coloured_from({None: "red", 0.1: "transparent"}))
    area = common.GraphThresholdsStyleConfig().mode(shapes.GraphTresholdsStyleMode.AREA)
    disk.thresholds_style(area)
    memory = panels.lines(
        "Memory of API and workers",
        "Resident memory of each process. Engines are processes of their own and not counted here.",
        "bytes",
        Query('process_resident_memory_bytes{job=~"emgate-.*"}', "{{job}}: {{instance}}"),
    ).min(0)
    cpu = panels.lines(
        "CPU of API and workers",
        "Cores that each process keeps busy, engines apart. The embedded judge rates inside its "
        "worker.",
        "none",
        Query(
            'rate(process_cpu_seconds_total{job=~"emgate-.*"}[$__rate_interval])',
            "{{job}}: {{instance}}",
        ),
    ).min(0)
    versions = panels.number(
        "Versions running",
        "How many processes run each version. More than one for long is a rollout that is stuck.",
        "short",
        Query("count by (version) (emgate_build_info)", "{{version}}"),
    ).text_mode(shapes.BigValueTextMode.VALUE_AND_NAME)
    return Row(
        "Machines",
        [disk.span(7), memory.span(7), cpu.span(7), versions.span(3).height(8)],
    )
