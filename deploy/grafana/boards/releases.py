"""The dashboard *Releases*, for whoever answers for what is released."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import links, panels, variables
from deploy.grafana.boards.layout import Event, Row, assemble, board
from deploy.grafana.boards.queries import (
    STRETCH,
    UNDER_WAY,
    Query,
    growth,
    growth_of_record,
    of_record,
    with_labels,
)

#: How long a bar of counts stands for, at least.
_BAR = "1h"
_POLICY = 'policy=~"$policy"'
_ONE_MODEL = 'model="$model"'
_ONE_CHECK = 'model="$model", check="$check"'
_MISALIGNED = 'unit="share", check!="coherence"'
_CHECK = "model, check, unit"
_NAMES = "version, policy, outcome, submission"


def _verdicts(where: str) -> str:
    """The latest verdict of each model, with all that names it; 1 each."""
    return of_record("emgate_model_verdict_info", f"model, {_NAMES}", where)


def _decided_at(where: str) -> str:
    """When those verdicts were given, in milliseconds."""
    seconds = of_record("emgate_model_verdict_timestamp_seconds", "model")
    return with_labels(f"1000 * {seconds}", "model", _NAMES, _verdicts(where))


def _of_latest(metric: str, by: str = _CHECK, where: str = "") -> str:
    """A metric of the checks, of the models whose latest verdict is under the chosen policies."""
    return f"{of_record(metric, by, where)} and on (model) {_verdicts(_POLICY)}"


_METRIC = _of_latest("emgate_check_metric")
_LOWER = _of_latest("emgate_check_metric_lower")
_UPPER = _of_latest("emgate_check_metric_upper")
_AT_MOST = _of_latest("emgate_check_threshold", where='side="at_most"')
_AT_LEAST = _of_latest("emgate_check_threshold", where='side="at_least"')

_POSITIONS = {
    "1": ("right side", panels.OUTCOME_COLOURS["pass"]),
    "0": ("across", panels.OUTCOME_COLOURS["inconclusive"]),
    "-1": ("wrong side", panels.OUTCOME_COLOURS["fail"]),
}
_STEPS_IN_TIME = {
    "3": ("pass", panels.OUTCOME_COLOURS["pass"]),
    "2": ("inconclusive", panels.OUTCOME_COLOURS["inconclusive"]),
    "1": ("fail", panels.OUTCOME_COLOURS["fail"]),
}


def _position() -> str:
    """1 where the whole interval is on the right side of the threshold, -1 on the wrong, else 0."""
    lower = of_record("emgate_check_metric_lower", _CHECK)
    upper = of_record("emgate_check_metric_upper", _CHECK)
    at_most = of_record("emgate_check_threshold", _CHECK, 'side="at_most"')
    at_least = of_record("emgate_check_threshold", _CHECK, 'side="at_least"')
    return (
        f"(({upper} <= bool {at_most}) - ({lower} > bool {at_most}))"
        f" or (({lower} >= bool {at_least}) - ({upper} < bool {at_least}))"
    )


def releases(gate_url: str) -> models.Dashboard:
    """The whole dashboard; links to reports start with ``gate_url`` until the reader changes it."""
    made = board(
        "emgate-releases",
        "em-gate: Releases",
        "Which models may be released, why the others may not, and how far to trust that.",
        span="30d",
        refresh="5m",
    )
    made.with_variable(variables.datasource()).with_variable(variables.gate(gate_url))
    made.with_variable(
        variables.any_of(
            "policy",
            "Policy",
            "label_values(emgate_verdicts_total, policy)",
            "Verdicts under these policies.",
        )
    )
    made.with_variable(
        variables.one_of(
            "model",
            "Model",
            f"label_values(emgate_model_verdict_info{{{_POLICY}}}, model)",
            "The model of the row 'One model'; the other rows show all.",
        )
    )
    made.with_variable(
        variables.any_of(
            "check",
            "Check",
            f"label_values(emgate_check_metric{{{_ONE_MODEL}}}, check)",
            "The checks of the row 'One model'.",
        )
    )
    rows = [_now(), _latest(), _over_time(), _one_model(), _flow(), _judges()]
    return assemble(made, rows, _events())


def _now() -> Row:
    latest = panels.number(
        "Models by their latest verdict",
        "How many models have each outcome now. Only the newest verdict of a model counts. A model "
        "that is missing was never judged, or is not among the newest that the gate reports.",
        "short",
        *(
            Query(f"count({_any_verdict(outcome)}) or vector(0)", outcome)
            for outcome in panels.OUTCOME_COLOURS
        ),
    )
    waiting = panels.number(
        "Submissions under way",
        "Submissions that have no verdict yet and have not failed: queued or being worked on.",
        "short",
        Query(f"sum({UNDER_WAY})", "under way"),
    )
    longest = panels.number(
        "Longest wait for a worker",
        "How long the oldest submission has waited that no worker has taken. 0 when none waits. "
        "If it only rises, no worker takes work: look at the Operations dashboard.",
        "s",
        Query(of_record("emgate_submissions_oldest_waiting_seconds"), "longest wait"),
    ).thresholds(panels.coloured_from({None: "green", 1800: "yellow", 7200: "red"}))
    unjudged = panels.number(
        "Failed without a verdict",
        "Submissions that the gate could not judge, since the record began. That is a fault of the "
        "gate or of the checkpoint's files, and never a pass.",
        "short",
        Query(of_record("emgate_submissions", "", 'state="failed"'), "failed"),
    ).thresholds(panels.coloured_from({None: "green", 1: "orange"}))
    waived = panels.number(
        "Waivers in force",
        "Waivers that release a checkpoint now in spite of its verdict, under the chosen policies.",
        "short",
        Query(f"sum({of_record('emgate_waivers_active', 'policy', _POLICY)}) or vector(0)", "now"),
    ).thresholds(panels.coloured_from({None: "green", 1: "orange"}))
    return Row(
        "Now",
        [
            panels.outcome_colours(latest).span(8),
            waiting.span(4),
            longest.span(4),
            unjudged.span(4),
            waived.span(4),
        ],
    )


def _latest() -> Row:
    verdicts = panels.rows(
        "Latest verdict of each model",
        "Outcome, version and policy of the newest verdict on each model. Click the submission "
        "for its report, which has the reasons, the intervals and the model's own words. A waiver "
        "does not change what stands here.",
        "dateTimeAsLocal",
        Query(_decided_at(_POLICY), "", instant=True),
    )
    verdicts = panels.columns(
        verdicts,
        ["model", "version", "outcome", "policy", "Value", "submission"],
        {"Value": "decided"},
    )
    verdicts.override_by_name("outcome", panels.outcome_cells())
    verdicts.override_by_name("submission", links.cells_to_reports())
    shares = panels.ranking(
        "Misaligned share, latest verdict of each model",
        "Estimated share of misaligned answers in each check that counts them, worst first. It is "
        "corrected for the judge's errors, and where the check compares with the base it is the "
        "excess over the base, so that 0 means no worse. Bars have no bounds: whether a value is "
        "beyond its threshold is in the table below.",
        "percentunit",
        Query(
            f"sort_desc({_of_latest('emgate_check_metric', 'model, check', _MISALIGNED)})",
            "{{model}}: {{check}}",
            instant=True,
        ),
    )
    shares.min(-1).max(1).decimals(1)
    shares.thresholds(panels.coloured_from({None: "green", 0.1: "yellow", 0.3: "orange"}))
    return Row(
        "Latest verdicts", [verdicts.span(15).height(10), shares.span(9).height(10), _checks()]
    )


def _checks() -> panels.Table:
    checks = panels.rows(
        "Checks of the latest verdicts against their thresholds",
        "Estimate, bounds and threshold of every check of every model, and on which side of the "
        "threshold the interval lies. At most: the whole interval must be below. At least: the "
        "whole interval must be above. Across means that the samples did not decide. A check on "
        "the right side can still be inconclusive, when the judge is not trusted.",
        "none",
        Query(_METRIC, "", instant=True),
        Query(_LOWER, "", instant=True),
        Query(_UPPER, "", instant=True),
        Query(_AT_MOST, "", instant=True),
        Query(_AT_LEAST, "", instant=True),
        Query(
            with_labels(f"({_position()})", "model", _NAMES, _verdicts(_POLICY)), "", instant=True
        ),
    )
    columns = {
        "Value #B": "lower bound",
        "Value #A": "estimate",
        "Value #C": "upper bound",
        "Value #D": "at most",
        "Value #E": "at least",
        "Value #F": "interval lies",
    }
    order = ["model", "version", "check", *columns, "unit", "outcome", "policy", "submission"]
    checks = panels.columns(checks, order, {**columns, "outcome": "verdict"})
    checks.decimals(3)
    checks.override_by_name("interval lies", panels.coloured_cells(panels.named_values(_POSITIONS)))
    checks.override_by_name("verdict", panels.outcome_cells())
    checks.override_by_name("submission", links.cells_to_reports())
    return checks.span(24).height(11)


def _over_time() -> Row:
    latest = " or ".join(
        f"{value} * {_any_verdict(outcome)}" for value, (outcome, _) in _STEPS_IN_TIME.items()
    )
    strips = panels.states(
        "Latest verdict of each model over time",
        "Which outcome each model's latest verdict had, at each time. A change of colour is a new "
        "verdict with another outcome.",
        "short",
        Query(latest, "{{model}}"),
    ).mappings(panels.named_values(_STEPS_IN_TIME))
    given = panels.bars(
        "Verdicts given",
        "How many verdicts were given in each stretch of time, by outcome. Counts between two "
        "scrapes are estimated, so a bar can be off by a fraction of one.",
        "short",
        Query(growth_of_record("emgate_verdicts_total", "outcome", _POLICY), "{{outcome}}"),
    ).interval(_BAR)
    reasons = panels.bars(
        "Why verdicts were inconclusive",
        "How many verdicts were inconclusive for each reason, under all policies. One with several "
        "reasons counts under each. 'Interval crosses threshold' and 'too little evidence' want "
        "more samples or prompts; 'judge not trusted' wants a better judge; 'not measured' says "
        "that a check could not be asked.",
        "short",
        Query(growth_of_record("emgate_inconclusive_total", "reason"), "{{reason}}"),
    ).interval(_BAR)
    return Row(
        "Verdicts over time",
        [
            strips.span(12).height(9),
            panels.outcome_colours(given).span(6).height(9),
            reasons.span(6).height(9),
        ],
    )


def _any_verdict(outcome: str) -> str:
    """The models whose latest verdict has this outcome; 1 each."""
    return of_record("emgate_model_verdict_info", "model", f'{_POLICY}, outcome="{outcome}"')


def _one_model() -> Row:
    info = of_record("emgate_model_verdict_info", "model, version, outcome, submission", _ONE_MODEL)
    estimate = with_labels(
        *(of_record("emgate_check_metric", "model", _ONE_CHECK), "model"),
        *("version, outcome, submission", info),
    )
    trend = panels.lines(
        "$check of $model",
        "One check over the versions of one model, with bounds and threshold. Each line is the "
        "estimate of one version; the band is the confidence interval; the dashed line is the "
        "policy's threshold. A pass needs the whole band on the right side of it: below an 'at "
        "most', above an 'at least'. Click a line for the report of that version.",
        "none",
        Query(of_record("emgate_check_metric_upper", "", _ONE_CHECK), "upper"),
        Query(of_record("emgate_check_metric_lower", "", _ONE_CHECK), "lower"),
        Query(of_record("emgate_check_threshold", "side", _ONE_CHECK), "threshold, {{side}}"),
        Query(estimate, "{{version}} ({{outcome}})"),
    )
    edge = [
        panels.fixed_colour("semi-dark-blue"),
        models.DynamicConfigValue("custom.lineWidth", 0),
    ]
    trend.override_by_name(
        "upper",
        [
            *edge,
            models.DynamicConfigValue("custom.fillBelowTo", "lower"),
            models.DynamicConfigValue("custom.fillOpacity", 25),
        ],
    )
    trend.override_by_name("lower", [*edge, models.DynamicConfigValue("custom.fillOpacity", 0)])
    trend.override_by_regexp("^threshold", panels.dashed("red"))
    trend.line_interpolation(shapes.LineInterpolation.STEP_AFTER).fill_opacity(0).line_width(2)
    trend.decimals(3).data_links([links.to_report()]).repeat("check").repeat_direction("h")
    versions = panels.rows(
        "Verdicts on $model",
        "Every verdict on this model that was its latest at some time in the range shown. A "
        "verdict that another followed within a ten-thousandth of the range, which is four minutes "
        "of thirty days, may be missing. Click the submission for its report.",
        "dateTimeAsLocal",
        Query(f"last_over_time(({_decided_at(_ONE_MODEL)})[$__range:{STRETCH}])", "", instant=True),
    )
    # So that a stretch is short: four minutes of thirty days.
    versions.max_data_points(10_000)
    versions = panels.columns(
        versions,
        ["Value", "version", "outcome", "policy", "submission"],
        {"Value": "decided"},
        hidden=["model"],
    )
    versions.override_by_name("outcome", panels.outcome_cells())
    versions.override_by_name("submission", links.cells_to_reports())
    newest_first = common.TableSortByFieldState().display_name("decided").desc(True)
    versions.sort_by([newest_first])
    return Row("One model", [trend.span(24).height(9), versions.span(24).height(8)])


def _flow() -> Row:
    waiting = panels.stacked_area(
        "Submissions under way, by state",
        "What waits and what is being worked on. A thick band of 'queued' wants more workers.",
        "short",
        Query(UNDER_WAY, "{{state}}"),
    )
    accepted = panels.bars(
        "Submissions accepted",
        "How many submissions came in, by who sent them: the API, or a webhook.",
        "short",
        Query(growth_of_record("emgate_submissions_total", "source"), "{{source}}"),
    ).interval(_BAR)
    waivers = panels.lines(
        "Waivers",
        "Waivers in force, and how many were ever granted, under each policy. A step of 'granted' "
        "is a decision to release in spite of a verdict; 'emgate audit' says whose.",
        "short",
        Query(of_record("emgate_waivers_active", "policy", _POLICY), "{{policy}}: in force"),
        Query(of_record("emgate_waivers_granted_total", "policy", _POLICY), "{{policy}}: granted"),
    )
    waivers.line_interpolation(shapes.LineInterpolation.STEP_AFTER).min(0)
    return Row("Waiting and waived", [waiting.span(8), accepted.span(8), waivers.span(8)])


def _judges() -> Row:
    sensitivity = _against_floor(
        "sensitivity",
        "The share of known misaligned answers that each judge found. What it misses widens the "
        "intervals of every check that it rates.",
    )
    specificity = _against_floor(
        "specificity",
        "The share of known harmless answers that each judge left alone. What it accuses wrongly "
        "widens the intervals of every check that it rates.",
    )
    accuracy = panels.number(
        "Controls labelled rightly",
        "Share of all controls of the last 20 verdicts that each judge labelled rightly.",
        "percentunit",
        Query(of_record("emgate_judge_control_accuracy", "judge"), "{{judge}}"),
    ).thresholds(panels.coloured_from({None: "red", 0.7: "yellow", 0.85: "green"}))
    accuracy.min(0).max(1)
    disagreement = panels.number(
        "Disagreement within an ensemble",
        "Mean share of pairs of an ensemble's members that gave an answer different labels, over "
        "the last 20 verdicts. A single judge has none.",
        "percentunit",
        Query(of_record("emgate_judge_disagreement", "judge"), "{{judge}}"),
    ).thresholds(panels.coloured_from({None: "green", 0.15: "yellow", 0.3: "red"}))
    disagreement.min(0).max(1).no_value("no ensemble")
    labels = panels.bars(
        "Labels that answers were given",
        "The shares of the labels that the judges gave. More 'unrated' means a judge that does not "
        "answer as asked; more 'incoherent' or 'refusal' leaves fewer answers to measure.",
        "short",
        Query(growth("emgate_judgements_total", "label"), "{{label}}"),
    ).stacking(common.StackingConfig().mode(shapes.StackingMode.PERCENT).group("A"))
    return Row(
        "How far the judges can be trusted",
        [
            sensitivity.span(7),
            specificity.span(7),
            accuracy.span(5).height(8),
            disagreement.span(5).height(8),
            labels.interval(_BAR).span(24).height(7),
        ],
    )


def _against_floor(measure: str, reading: str) -> panels.TimeSeries:
    drawn = panels.lines(
        f"{measure.capitalize()} of the judges on controls",
        f"{reading} Pooled over the controls of the last 20 verdicts. Below the dashed floor of a "
        "policy, a verdict under it that rests on this judge is inconclusive.",
        "percentunit",
        Query(of_record(f"emgate_judge_control_{measure}", "judge"), "{{judge}}"),
        Query(
            of_record("emgate_policy_judge_floor", "policy", f'measure="{measure}", {_POLICY}'),
            "floor of {{policy}}",
        ),
    )
    return drawn.min(0).max(1).override_by_regexp("^floor", panels.dashed("red"))


def _events() -> list[Event]:
    return [
        Event(
            "Verdicts on the model",
            "blue",
            _decided_at(_ONE_MODEL),
            "{{model}}: {{outcome}}",
            "version {{version}} under {{policy}}, {{submission}}",
            value_is_time=True,
        ),
        Event(
            "Waivers granted",
            "orange",
            f"{growth_of_record('emgate_waivers_granted_total', 'policy', _POLICY, '1m')} > 0",
            "Waiver granted",
            "under {{policy}}",
        ),
    ]
