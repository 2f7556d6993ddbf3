"""PromQL in the few forms that the dashboards ask in.

What the gate reads from its record is served by every API process alike, so it is taken once, by
``of_record``, however many processes there are. What a process counts itself is added up, by
``growth`` and ``per_second``.

``by`` is a list of labels, ``where`` a list of matchers, both as PromQL writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

#: A stretch of the panel's own resolution. Stretches do not overlap, so bars may be added up.
STRETCH = "$__interval"


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    ``legend`` names its series and may use ``{{label}}``. An ``instant`` query asks for the values
    at the end of the time range only; it is what tables need.
    """

    expr: str
    legend: str
    instant: bool = False


def _selected(metric: str, where: str) -> str:
    return f"{metric}{{{where}}}" if where else metric


def _aggregated(operator: str, by: str, value: str) -> str:
    return f"{operator} by ({by}) ({value})" if by else f"{operator}({value})"


def of_record(metric: str, by: str = "", where: str = "") -> str:
    """The value of a metric of the record, once, for each combination of the labels ``by``."""
    return _aggregated("max", by, _selected(metric, where))


def growth_of_record(counter: str, by: str, where: str = "", window: str = STRETCH) -> str:
    """By how much a counter of the record grew within ``window``.

    Each process's series is compared with itself; only then is one of them taken.
    """
    grown = f"increase({_selected(counter, where)}[{window}])"
    return _aggregated("sum", by, f"max without (instance, pod) ({grown})")


def growth(counter: str, by: str = "", where: str = "", window: str = STRETCH) -> str:
    """By how much the counters of all processes grew together within ``window``."""
    return _aggregated("sum", by, f"increase({_selected(counter, where)}[{window}])")


def per_second(
    counter: str, by: str = "", where: str = "", window: str = "$__rate_interval"
) -> str:
    """The rate at which the counters of all processes grow together, per second."""
    return _aggregated("sum", by, f"rate({_selected(counter, where)}[{window}])")


def share(counter: str, part: str, window: str, by: str = "") -> str:
    """The share that the series that match ``part`` have of a counter's growth, 0 to 1."""
    return f"{growth(counter, by, part, window)} / {growth(counter, by, '', window)}"


def quantile(level: float, histogram: str, window: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram over all processes, in the histogram's own unit."""
    labels = f"{by}, le" if by else "le"
    return (
        f"histogram_quantile({level:g}, {per_second(f'{histogram}_bucket', labels, where, window)})"
    )


def with_labels(value: str, on: str, labels: str, source: str) -> str:
    """``value`` with more ``labels``, taken from the info metric ``source`` that shares ``on``.

    API processes that are scraped at different moments may differ in what they call the latest, for
    as long as a scrape; then one of them is taken, for two would be an error.
    """
    return f"{value} * on ({on}) group_left ({labels}) topk by ({on}) (1, {source})"


#: Submissions that have neither a verdict nor failed, by state.
UNDER_WAY = of_record(
    "emgate_submissions", "state", 'state=~"queued|preparing|serving|sampling|judging"'
)
