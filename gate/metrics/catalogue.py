"""What is known of every metric: name, type, help, labels, unit, and which process has it.

All metrics are made here, so that the list of them in docs/metrics.md comes from the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

_UNITS = ("seconds", "bytes")

# One more series per series, with the time of its first use, which nothing here asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Where(StrEnum):
    """Which page a metric is on.

    Those of the record are read from the database at each scrape, so that every API process says
    the same, also after a restart. All others count from the start of their process.
    """

    RECORD = "record"
    API = "API"
    WORKER = "worker"
    BOTH = "API and worker"


class Kind(StrEnum):
    """Types of metrics, as Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Described:
    """One metric, as the documentation shows it. ``unit`` is empty for plain numbers."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    where: Where

    @property
    def unit(self) -> str:
        """The base unit that the name ends in, if it does."""
        ending = self.name.removesuffix("_total").rpartition("_")[2]
        return ending if ending in _UNITS else ""

    @property
    def family(self) -> str:
        """The name by which the Python client knows it: that of a counter without ``_total``."""
        return self.name.removesuffix("_total") if self.kind is Kind.COUNTER else self.name

    def gauge(self) -> GaugeMetricFamily:
        """An empty family to fill at a scrape."""
        return GaugeMetricFamily(self.name, self.help, labels=self.labels)

    def counter(self) -> CounterMetricFamily:
        """An empty family to fill at a scrape."""
        return CounterMetricFamily(self.name, self.help, labels=self.labels)


#: Every metric that was made, in order.
CATALOGUE: list[Described] = []


def described(
    where: Where, kind: Kind, name: str, help: str, labels: Sequence[str] = ()
) -> Described:
    """Note a metric whose values a collector finds at each scrape."""
    made = Described(name, kind, help, tuple(labels), where)
    CATALOGUE.append(made)
    return made


def counter(where: Where, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
    """Make a counter of this process."""
    described(where, Kind.COUNTER, name, help, labels)
    return Counter(name, help, labels)


def gauge(
    where: Where,
    name: str,
    help: str,
    labels: Sequence[str] = (),
    of_several: Literal["livesum", "livemax"] = "livesum",
) -> Gauge:
    """Make a gauge of this process; ``of_several`` says what living processes show together."""
    described(where, Kind.GAUGE, name, help, labels)
    return Gauge(name, help, labels, multiprocess_mode=of_several)


def histogram(
    where: Where, name: str, help: str, labels: Sequence[str], buckets: Sequence[float]
) -> Histogram:
    """Make a histogram of this process; the buckets are upper bounds."""
    described(where, Kind.HISTOGRAM, name, help, labels)
    return Histogram(name, help, labels, buckets=buckets)
