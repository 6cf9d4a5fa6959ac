"""What every process counts, for Prometheus: each number in one place, with its unit in its name.

Labels have few values: routes as they are written in the table of routes, never a path, a user or a job.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)
"""Seconds: from one row of the database to a large file."""

REQUESTS: Final = Counter("pyvospace_requests", "Requests that were answered.", ("method", "route", "status"))
REQUEST_SECONDS: Final = Histogram(
    "pyvospace_request_seconds", "Time from head to last byte of the answer.", ("method", "route"), buckets=_QUICK
)
REQUESTS_OPEN: Final = Gauge("pyvospace_requests_open", "Requests that are being answered.")
BYTES: Final = Counter("pyvospace_bytes", "Bytes of data nodes that have moved.", ("direction",))
RECEIVED: Final = BYTES.labels("received")
SENT: Final = BYTES.labels("sent")
UPLOADS: Final = Counter("pyvospace_uploads", "Uploads that came to their end.", ("outcome",))
STORED: Final = UPLOADS.labels("stored")
FAILED: Final = UPLOADS.labels("failed")
JOBS_ENDED: Final = Counter(
    "pyvospace_jobs", "Jobs that workers of this process came to the end of.", ("kind", "outcome")
)
JOBS_OPEN: Final = Gauge("pyvospace_jobs_open", "Jobs that workers of this process are busy with.")
SWEPT: Final = Counter("pyvospace_swept", "Places of bytes that the sweep has removed.", ("what",))
SCRUBBED: Final = Counter("pyvospace_scrubbed_bytes", "Bytes that the scrubber has read and compared.")
DAMAGED: Final = Counter("pyvospace_damages_found", "Places of bytes that were found damaged.", ("kind",))


class Meter:
    """Counts requests; one for a process.

    What `labels` gives is remembered: to look it up costs more than to count.
    """

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[tuple[str, str], Histogram] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = self._counters[method, route, status] = REQUESTS.labels(method, route, status)
        counter.inc()
        timer = self._timers.get((method, route))
        if timer is None:
            timer = self._timers[method, route] = REQUEST_SECONDS.labels(method, route)
        timer.observe(seconds)
