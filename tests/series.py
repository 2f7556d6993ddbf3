"""Which series a PromQL expression names, and which there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser as promql

from gate.metrics import names_of_record  # noqa: F401  (the catalogue has them once it is loaded)
from gate.metrics.catalogue import CATALOGUE, Kind

#: Labels that Prometheus adds, and that of the buckets of histograms.
ADDED = {"job", "instance", "pod", "le"}


def selectors(expression: str) -> Iterator[Any]:
    """The selectors of series in an expression."""
    found: list[Any] = []

    def note(part: Any) -> None:
        if isinstance(part, promql.VectorSelector):
            found.append(part)

    promql.walk(promql.parse(expression), note)
    yield from found


def _series_names() -> dict[str, set[str]]:
    known: dict[str, set[str]] = {}
    for metric in CATALOGUE:
        endings = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        known |= {metric.name + ending: set(metric.labels) for ending in endings}
    return known


#: The names of the gate's series, with the labels of each.
SERIES = _series_names()


def labels_of(name: str) -> set[str]:
    """The labels that a series may have."""
    return SERIES.get(name, set()) | ADDED


def labels_asked_by(selector: Any) -> set[str]:
    """The labels that a selector compares."""
    return {matcher.name for matcher in selector.matchers.matchers}
