"""The page that Prometheus scrapes: what this process counts, and what is found at the scrape."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gate.counting import DIRECTORY_VARIABLE
from gate.metrics import names_of_record as names
from gate.metrics.catalogue import CATALOGUE, Where

#: The one format. In OpenMetrics a counter and a gauge could not both be about submissions.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class ProcessCollector(Collector):
    """What the processes of one kind count by themselves; nothing that is another kind's."""

    def __init__(self, where: Where) -> None:
        self._others = {each.family for each in CATALOGUE if each.where not in {where, Where.BOTH}}

    def collect(self) -> Iterator[Metric]:
        """Of this process, or the sums over all that share a directory.

        Python's own metrics of a process are not summed, so they are there for one process only.
        """
        for family in _counted(os.environ.get(DIRECTORY_VARIABLE)):
            if family.name not in self._others:
                yield family


class InstallationCollector(Collector):
    """The version, and how much room there is on the disk of the gate's home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        """Nothing of a disk that cannot be asked."""
        build = names.BUILD_INFO.gauge()
        build.add_metric([version("em-gate")], 1)
        yield build
        try:
            usage = shutil.disk_usage(self._home)
        except OSError:
            return
        free, size = names.DISK_FREE.gauge(), names.DISK_SIZE.gauge()
        free.add_metric(["home"], usage.free)
        size.add_metric(["home"], usage.total)
        yield from (free, size)


def _counted(directory: str | None) -> Iterable[Metric]:
    if directory is None:
        return REGISTRY.collect()
    # What a process counted stays counted when it has ended; what it was just doing does not.
    for file in Path(directory).glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]
    families: Iterable[Metric] = MultiProcessCollector(None, directory).collect()  # type: ignore[no-untyped-call]
    return families


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """A registry of collectors that are asked at each scrape."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


def render(registry: Collector) -> bytes:
    """The page in Prometheus' text format."""
    return generate_latest(registry)
