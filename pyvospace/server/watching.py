"""Numbers of the whole service for Prometheus; any metadata server tells them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily, Metric

from pyvospace.db import metrics

if TYPE_CHECKING:
    from pyvospace.db.metrics import Place
    from pyvospace.db.pool import Database

_PLACES: Final = {
    "free": ("pyvospace_storage_free_bytes", "Bytes that still fit; -1: nobody knows."),
    "total": ("pyvospace_storage_bytes", "Bytes in all; -1: nobody knows."),
    "silent": ("pyvospace_storage_silent_seconds", "Time since the last heartbeat."),
    "servers": ("pyvospace_storage_servers", "Servers that were heard of lately."),
    "obsolete": ("pyvospace_storage_obsolete", "Places of bytes that the sweep is to look at."),
    "damages": ("pyvospace_storage_damages", "Places of bytes that are known to be damaged."),
}


async def look(database: Database) -> Iterable[Metric]:
    """Ask the database."""
    waiting = GaugeMetricFamily("pyvospace_jobs_waiting", "Jobs that wait for a worker.", labels=("kind",))
    oldest = GaugeMetricFamily(
        "pyvospace_jobs_oldest_seconds", "For how long the oldest of them has waited.", labels=("kind",)
    )
    for queued in await metrics.queue(database):
        waiting.add_metric((queued.kind,), queued.number)
        oldest.add_metric((queued.kind,), queued.oldest)
    return [waiting, oldest, *_of_places(await metrics.places(database))]


def _of_places(places: list[Place]) -> Iterable[Metric]:
    for field, (name, words) in _PLACES.items():
        family = GaugeMetricFamily(name, words, labels=("storage", "name", "state"))
        for place in places:
            family.add_metric((str(place.id), place.name, place.state), getattr(place, field))
        yield family
