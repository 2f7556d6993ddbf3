"""Several processes that count together, for one page of metrics."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

#: Where prometheus-client has processes add up; it looks when it is imported.
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def counting_together(processes: int) -> Iterator[None]:
    """While it lasts, processes that are started share a fresh directory of counts.

    Without a directory where there is one process: then none is left over from another program
    either, and the page has the metrics of the Python process as well.
    """
    os.environ.pop(DIRECTORY_VARIABLE, None)
    if processes == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="em-gate-metrics-") as directory:
        os.environ[DIRECTORY_VARIABLE] = directory
        try:
            yield
        finally:
            del os.environ[DIRECTORY_VARIABLE]
