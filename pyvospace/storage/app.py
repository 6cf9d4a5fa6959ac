"""The storage server: its routes, its background tasks, its process."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from pyvospace.model.claims import StorageState
from pyvospace.model.faults import Fault, ServiceBusy
from pyvospace.storage.backend import BackendConfig, StorageBackend
from pyvospace.storage.catalogue import Catalogue
from pyvospace.storage.deliver import CONTENT_RANGE
from pyvospace.storage.handlers import Files, Verifier
from pyvospace.storage.receive import CLOSING
from pyvospace.storage.room import Room
from pyvospace.storage.sweep import Sweeper
from pyvospace.storage.threads import Workers

if TYPE_CHECKING:
    from uuid import UUID

    from pyvospace.config import Settings

log = logging.getLogger(__name__)

ENTRY_POINTS: Final = "pyvospace.storage"
_READY_FOR: Final = 2.0
"""Seconds for which /readyz repeats its answer, so that nobody can keep the disk busy with it."""


def load_backend(settings: "Settings") -> StorageBackend:
    """Make the backend that ``storage.backend`` names.

    Raises
    ------
    ValueError
        No installed package offers it, or a setting of it is wrong.
    """
    name = settings.storage.backend
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        raise ValueError(f"storage.backend: no backend {name!r}; installed: {', '.join(sorted(found)) or 'none'}")
    kind = found[name].load()
    if not (isinstance(kind, type) and issubclass(kind, StorageBackend)):
        raise ValueError(f"storage.backend: {name!r} is no StorageBackend")  # noqa: TRY004 (a wrong setting)
    return kind.configure(BackendConfig(settings.storage.path, settings.storage.options))


def make_app(
    settings: "Settings",
    *,
    catalogue: Catalogue,
    backend: StorageBackend,
    verifier: Verifier,
    middlewares: Sequence[Middleware] = (),
) -> web.Application:
    """Put the server together; `backend` is started and closed with the application."""
    app = web.Application(middlewares=middlewares)
    workers = Workers(threads=settings.storage.threads, buffer_size=settings.storage.buffer_size)
    room = Room(backend, settings.storage.reserve)
    files = Files(settings, catalogue=catalogue, backend=backend, verifier=verifier, workers=workers, room=room)
    for base in {"", urlsplit(settings.storage.public_url).path}:
        resource = app.router.add_resource(f"{base}/files/{{token}}/{{name:.*}}")
        resource.add_route("GET", files.get)
        resource.add_route("HEAD", files.get)
        # The handler itself asks for the body, once it is clear that the body is wanted.
        resource.add_route("PUT", files.put, expect_handler=_expect_nothing)
    health = Health(catalogue, backend)
    app.router.add_get("/livez", health.live)
    app.router.add_get("/readyz", health.ready)
    app.on_response_prepare.append(_finish_head)
    app.cleanup_ctx.append(lambda _: _threads(workers))
    app.cleanup_ctx.append(lambda _: _background(settings, catalogue, backend, room))
    return app


async def _expect_nothing(_: web.Request) -> None:
    """Leave ``Expect: 100-continue`` to `HttpBody`."""


async def _finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """Add to every answer, faults included, what only we know."""
    response.headers["Server"] = "pyvospace"
    if response.status == web.HTTPRequestRangeNotSatisfiable.status_code and CONTENT_RANGE in request:
        response.headers["Content-Range"] = request[CONTENT_RANGE]
    if CLOSING in request or not request.content.is_eof():
        response.force_close()
        if request.version >= (1, 1):
            response.headers["Connection"] = "close"


class Health:
    """Tells load balancers whether the process is alive and can do its work."""

    def __init__(self, catalogue: Catalogue, backend: StorageBackend) -> None:
        self._catalogue = catalogue
        self._backend = backend
        self._asked = -_READY_FOR
        self._failure: str | None = None
        self._asking = asyncio.Lock()

    async def live(self, _: web.Request) -> web.Response:
        """Answer as long as the loop turns."""
        return web.Response(text="alive\n")

    async def ready(self, _: web.Request) -> web.Response:
        """Answer whether database and store are usable."""
        async with self._asking:
            if time.monotonic() - self._asked >= _READY_FOR:
                self._failure = await self._check()
                self._asked = time.monotonic()
        if self._failure is not None:
            raise ServiceBusy(self._failure)
        return web.Response(text="ready\n")

    async def _check(self) -> str | None:
        try:
            await self._catalogue.ready()
        except (Fault, OSError) as error:
            log.warning("not ready: %s", error)
            return "the database does not answer"
        try:
            await self._backend.check()
        except Exception as error:  # noqa: BLE001 (whatever a plugin raises: the store is not usable)
            log.warning("not ready: %s", error)
            return "the store cannot be written to"
        return None


async def _threads(workers: Workers) -> AsyncIterator[None]:
    """Own the threads, the default ones of the loop included."""
    asyncio.get_running_loop().set_default_executor(workers.quick)
    yield
    workers.close()


async def _background(
    settings: "Settings", catalogue: Catalogue, backend: StorageBackend, room: Room
) -> AsyncIterator[None]:
    """Open the store, say that we are here, sweep; stop all that at the end."""
    storage = settings.storage
    identity = await backend.start()
    herald = Herald(settings, catalogue, room, identity)
    await herald.announce()
    sweeper = Sweeper(
        backend,
        catalogue,
        interval=storage.sweep_interval,
        grace=storage.sweep_grace,
        obsolete_grace=storage.obsolete_grace,
    )
    tasks = [asyncio.create_task(herald.run()), asyncio.create_task(sweeper.run())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await backend.close()


class Herald:
    """Tells the catalogue from time to time that this storage is there and how much fits."""

    def __init__(self, settings: "Settings", catalogue: Catalogue, room: Room, identity: "UUID") -> None:
        self._storage = settings.storage
        self._catalogue = catalogue
        self._room = room
        self._identity = identity

    async def announce(self) -> None:
        """Tell once."""
        free = await self._room.free()
        await self._catalogue.announce(
            StorageState(id=self._identity, name=self._storage.name, url=self._storage.public_url, free=free)
        )

    async def run(self) -> None:
        """Tell at each heartbeat, until cancelled."""
        while True:
            await asyncio.sleep(self._storage.heartbeat)
            try:
                await self.announce()
            except (Fault, OSError) as error:
                log.warning("heartbeat missed: %s", error)


def tls_context(settings: "Settings") -> ssl.SSLContext | None:
    """Read certificate and key; None: plain HTTP."""
    storage = settings.storage
    if storage.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(storage.tls_cert, storage.tls_key)
    return context


async def serve(app: web.Application, settings: "Settings", *, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Listen until `stop` is set, then let transfers end (up to the idle time-out) and leave.

    Uploads that are cut off by that leave nothing behind; their clients come again.
    """
    storage = settings.storage
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,  # what was sent is what is stored
        handle_signals=False,
        keepalive_timeout=settings.limits.header_timeout,  # aiohttp's only limit for a slow head
        shutdown_timeout=storage.idle_timeout,
    )
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, storage.host, storage.port, reuse_port=storage.workers > 1, ssl_context=tls_context(settings)
        )
        await site.start()
        ready()
        await stop.wait()
    finally:
        await runner.cleanup()
