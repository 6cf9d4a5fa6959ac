"""The listener that Prometheus asks, apart from the one of the clients."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from pyvospace.config.settings import PREFIX
from pyvospace.db.errors import Unavailable
from pyvospace.model.faults import Fault
from pyvospace.service.standing import within

if TYPE_CHECKING:
    from pyvospace.config.monitoring import MetricsSettings
    from pyvospace.db.pool import Database

log = logging.getLogger(__name__)

_PATIENCE: Final = 5.0
"""Seconds after which what the database would tell is left out."""
Look = Callable[[], Awaitable[Iterable[Metric]]]
"""Asks the database for numbers of the whole service."""


class _Pool(Collector):
    """Tells of the connections to the database, at the moment when it is asked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[Metric]:
        """Give what the pool says of itself."""
        family = GaugeMetricFamily(
            "pyvospace_database_connections", "Connections of this process to PostgreSQL.", labels=("state",)
        )
        for state, number in self._database.connections().items():
            family.add_metric((state,), number)
        yield family


class _Found(Collector):
    """Holds what was found in the database for one answer."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """Give it."""
        return self._found


async def _none() -> Iterable[Metric]:
    return ()


@asynccontextmanager
async def scraped(
    settings: MetricsSettings, port: int | None, database: Database, *, look: Look = _none
) -> AsyncIterator[None]:
    """Answer Prometheus for the time of an ``async with``, unless `port` is None.

    Raises
    ------
    ValueError
        Nobody can listen there.
    """
    if port is None:
        yield
        return
    port += int(os.environ.get(f"{PREFIX}WORKER", "1")) - 1
    app = web.Application()
    app.router.add_get("/metrics", _answer_with(database, look))
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, port).start()
        except OSError as error:
            raise ValueError(f"metrics: {settings.host}:{port}: {error.strerror or error}") from error
        log.info("metrics at %s:%d", settings.host, port)
        yield
    finally:
        await runner.cleanup()


def _answer_with(database: Database, look: Look) -> Callable[[web.Request], Awaitable[web.Response]]:
    pool = _Pool(database)

    async def answer(_: web.Request) -> web.Response:
        registry = CollectorRegistry()
        registry.register(pool)
        try:
            registry.register(_Found(await within(_PATIENCE, _list(look))))
        except (Fault, Unavailable) as error:
            log.warning("the database tells nothing to Prometheus: %s", error)
        body = generate_latest(REGISTRY) + generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


async def _list(look: Look) -> list[Metric]:
    return list(await look())
