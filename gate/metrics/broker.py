"""Whether the broker answers, and how many tasks wait in it, asked at each scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from kombu.exceptions import OperationalError
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gate.metrics import names_of_record as names
from gate.tasks import TaskQueue

log = logging.getLogger(__name__)

#: How long the broker may take to let a scrape in, and for each answer, in seconds.
BROKER_SECONDS = 1.0


class BrokerCollector(Collector):
    """Asks the broker; one that is away is down, and has no queues."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        """Whether it answers, and its queues if it does."""
        up = names.BROKER_UP.gauge()
        try:
            depths = self._queue.depths(seconds=BROKER_SECONDS)
        except OperationalError as error:
            log.warning("the broker was not asked for its queues: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        waiting = names.QUEUE_TASKS.gauge()
        for queue, count in depths.items():
            waiting.add_metric([queue], count)
        yield waiting
