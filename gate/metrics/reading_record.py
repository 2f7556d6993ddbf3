"""Reading the record at a scrape: in parts, within a deadline, whatever state it is in."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gate.errors import PolicyError
from gate.hooks.config import Hooks
from gate.metrics import names_of_record as names
from gate.metrics import of_record
from gate.policy import Policy, load_policy, policy_names
from gate.settings import Settings
from gate.store.announcing import DEAD, DELIVERED, GITHUB, PENDING, WAITING
from gate.store.deliveries import DeliveryRecord
from gate.store.figures import Figures
from gate.store.verdict_summary import VerdictSummary
from gate.store.waivers import WaiverStore

log = logging.getLogger(__name__)

#: How long a scrape waits for the database, in seconds; less than Prometheus waits for the page.
RECORD_SECONDS = 5.0

Reader = Callable[[], Iterable[Metric]]


def readers(database: Engine, settings: Settings, hooks: Hooks) -> dict[str, Reader]:
    """What is read of the record, part by part, each of which can fail by itself."""
    figures = Figures(database)
    summary = VerdictSummary(database, settings.metrics_models)
    waivers, deliveries = WaiverStore(database), DeliveryRecord(database)
    targets = {GITHUB, *(endpoint.name for endpoint in hooks.send)}

    def submissions() -> Iterable[Metric]:
        now = datetime.now(UTC)
        return of_record.submissions(
            figures.by_source(), figures.by_state(), figures.oldest_waiting(now), now
        )

    def verdicts() -> Iterator[Metric]:
        summary.refresh()
        yield from of_record.verdicts(figures.by_outcome(), summary.doubts)
        yield from of_record.models(summary.latest.values())
        yield from of_record.judges(summary.runs)

    return {
        "submissions": submissions,
        "verdicts": verdicts,
        "waivers": lambda: of_record.waivers(*waivers.counts(datetime.now(UTC))),
        "deliveries": lambda: of_record.deliveries(
            deliveries.counts(), targets, (WAITING, PENDING, DELIVERED, DEAD)
        ),
        "policies": lambda: of_record.floors(_policies(settings)),
    }


class RecordCollector(Collector):
    """Reads the record at each scrape, so that all API processes say the same.

    A scrape never fails for it: what cannot be read, or not in time, is left out, and
    ``emgate_record_up`` is 0. A reading that takes too long goes on, and the next scrape waits for
    it instead of beginning another.
    """

    def __init__(self, parts: Mapping[str, Reader], seconds: float = RECORD_SECONDS) -> None:
        self._parts = parts
        self._seconds = seconds
        self._lock = threading.Lock()
        self._reading: Future[list[Metric]] | None = None

    def collect(self) -> Iterator[Metric]:
        """Everything of the record that could be read in time."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = Future()
                # A daemon, so that a database that does not answer cannot keep the process alive.
                threading.Thread(target=self._read, args=(self._reading,), daemon=True).start()
            reading = self._reading
        try:
            yield from reading.result(self._seconds)
        except TimeoutError:
            log.warning("the record was not read for the metrics within %g s", self._seconds)
            yield _up(False)

    def _read(self, result: Future[list[Metric]]) -> None:
        read: list[Metric] = []
        is_whole = True
        for name, part in self._parts.items():
            try:
                read += part()
            except SQLAlchemyError as error:
                log.warning("the %s could not be read for the metrics: %s", name, error)
                is_whole = False
            except Exception:
                log.exception("the metrics of the %s could not be made", name)
                is_whole = False
        result.set_result([*read, _up(is_whole)])


def _up(is_whole: bool) -> Metric:
    up = names.RECORD_UP.gauge()
    up.add_metric([], float(is_whole))
    return up


def _policies(settings: Settings) -> Iterator[Policy]:
    """The policies that can be loaded."""
    for name in policy_names(settings.policy_directories):
        try:
            yield load_policy(name, settings.policy_directories)
        except PolicyError as error:
            log.debug("policy %s has no floor in the metrics: %s", name, error)
