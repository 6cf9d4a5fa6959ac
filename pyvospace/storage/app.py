"""The storage server: its routes, its background tasks, its process."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pyvospace.config import Settings
from pyvospace.db.archives import PostgresArchives
from pyvospace.db.audit import note_bytes
from pyvospace.db.integrity import StoreRecords
from pyvospace.db.keys import verification_keys
from pyvospace.db.listening import Listener
from pyvospace.db.partials import PostgresPartials
from pyvospace.db.pool import Database
from pyvospace.db.protocols import offer
from pyvospace.db.replications import PostgresReplications
from pyvospace.db.storage import StorageCatalogue
from pyvospace.model.claims import StorageState
from pyvospace.model.faults import Fault, ServiceBusy
from pyvospace.service.audit import AuditWriter
from pyvospace.service.endpoints import EndpointVerifier
from pyvospace.service.faults import edge
from pyvospace.service.headers import Cors, dress
from pyvospace.service.logs import AccessLog
from pyvospace.service.outgoing import Outgoing
from pyvospace.service.proxies import Proxies
from pyvospace.service.rates import Rates, limiting
from pyvospace.service.scraping import scraped
from pyvospace.service.serving import FAREWELLS, require_staying, serve, stop_event
from pyvospace.service.standing import StandingWatch
from pyvospace.storage.archives.catalogue import ArchiveCatalogue
from pyvospace.storage.archives.serving import Archives
from pyvospace.storage.auditing import auditing, writing
from pyvospace.storage.backend import BackendConfig, StorageBackend
from pyvospace.storage.catalogue import Catalogue
from pyvospace.storage.deliver import CONTENT_RANGE
from pyvospace.storage.handlers import Files, Verifier
from pyvospace.storage.layers import layered
from pyvospace.storage.ongoing import Ongoing
from pyvospace.storage.partials.catalogue import PartialCatalogue
from pyvospace.storage.partials.transactions import Transactions
from pyvospace.storage.partials.tus import SECRET, Tus, announce_version
from pyvospace.storage.partials.uploads import Uploads
from pyvospace.storage.protocols import Protocols, load_protocols
from pyvospace.storage.receive import CLOSING
from pyvospace.storage.replication import Replications, Replicator
from pyvospace.storage.room import Room
from pyvospace.storage.scrub import Scrubber
from pyvospace.storage.sweep import Sweeper
from pyvospace.storage.third_party import ThirdParty
from pyvospace.storage.threads import Workers
from pyvospace.structures.installed import log_what_is_missing
from pyvospace.uws.runner import Runner
from pyvospace.uws.third_party import StorageQueue

log = logging.getLogger(__name__)

ENTRY_POINTS: Final = "pyvospace.storage"
_READY_FOR: Final = 2.0
"""Seconds for which /readyz repeats its answer, so that nobody can keep the disk busy with it."""


def load_backend(settings: Settings) -> StorageBackend:
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
    try:
        kind = found[name].load()
    except ImportError as error:
        raise ValueError(f"storage.backend: {name!r} needs {error.name}, which is not installed") from error
    if not (isinstance(kind, type) and issubclass(kind, StorageBackend)):
        raise ValueError(f"storage.backend: {name!r} is no StorageBackend")  # noqa: TRY004 (a wrong setting)
    return layered(kind, BackendConfig(settings.storage.path, settings.storage.options))


@dataclass(frozen=True, slots=True)
class Jobs:
    """Where the jobs of a storage server come from."""

    queue: StorageQueue
    listener: Listener


def make_app(
    settings: Settings,
    *,
    catalogue: Catalogue,
    backend: StorageBackend,
    identity: UUID,
    verifier: Verifier,
    jobs: Jobs | None = None,
    watch: StandingWatch | None = None,
    archives: ArchiveCatalogue | None = None,
    audit: AuditWriter | None = None,
    protocols: Protocols | None = None,
    replications: Replications | None = None,
    partials: PartialCatalogue | None = None,
    records: StoreRecords | None = None,
) -> web.Application:
    """Put the server together; `backend` is started already and says that it is `identity`.

    Without `jobs` it does what clients ask for and nothing else, without `watch` always; without `archives` it knows
    only single files, without `audit` nobody learns who has read; without `protocols` it speaks HTTP only, without
    `records` it never reads bytes again by itself.
    """
    health = Health(catalogue, backend)
    app = _front(settings, health, watch=watch, audit=audit)
    storage = settings.storage
    workers = Workers(threads=storage.threads, buffer_size=storage.buffer_size)
    shared = _Shared(settings, catalogue, backend, workers, Room(backend, storage.reserve))
    served = None
    if archives is not None:
        served = Archives(
            settings, archives=archives, catalogue=catalogue, backend=backend, workers=workers, room=shared.room
        )
    room = shared.room
    files = Files(
        settings, catalogue=catalogue, backend=backend, verifier=verifier, workers=workers, room=room, archives=served
    )
    _add_routes(app, urlsplit(storage.public_url).path, files, health)
    if partials is not None:
        uploads = Uploads(settings, catalogue=partials, backend=backend, intake=files.intake, workers=workers)
        _take_parts(app, storage.public_url, uploads, files, verifier)
    herald = Herald(settings, catalogue, shared.room, files.ongoing, identity)
    app.cleanup_ctx.append(lambda _: _threads(workers, files.ongoing))
    app[FAREWELLS] = (herald.leave,)
    app.cleanup_ctx.append(lambda _: _background(herald, _sweeper(settings, backend, catalogue)))
    if records is not None:
        scrub = settings.scrub
        scrubber = Scrubber(backend, records, workers.quick, rate=scrub.rate, interval=scrub.interval)
        app.cleanup_ctx.append(lambda _: _at_work(scrubber.run))
    if protocols is not None:
        pool = files.job_pool(standing=partial(_require_open, watch), audit=audit)
        app.cleanup_ctx.append(lambda _: protocols.run(pool))
    _watch_and_note(app, served, watch, audit)
    if jobs is not None:
        _work_on(app, shared, jobs, replications)
    return app


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the parts of a server have in common."""

    settings: Settings
    catalogue: Catalogue
    backend: StorageBackend
    workers: Workers
    room: Room


def _watch_and_note(
    app: web.Application, served: Archives | None, watch: StandingWatch | None, audit: AuditWriter | None
) -> None:
    if served is not None:
        app.on_cleanup.append(partial(_close, served))
    if audit is not None:
        app.cleanup_ctx.append(partial(writing, audit))
    if watch is not None:
        app.cleanup_ctx.append(lambda _: _follow(watch))


def _work_on(app: web.Application, shared: _Shared, jobs: Jobs, replications: Replications | None) -> None:
    """Carry out transfers with other servers, and make copies of bytes."""
    backend, workers, room = shared.backend, shared.workers, shared.room
    third_party = partial(
        ThirdParty, shared.settings, catalogue=shared.catalogue, backend=backend, workers=workers, room=room
    )
    app.cleanup_ctx.append(lambda _: _run_jobs(shared.settings, jobs, third_party))
    if replications is not None:
        replicator = Replicator(
            shared.settings,
            replications=replications,
            backend=backend,
            workers=workers,
            room=room,
            listener=jobs.listener,
        )
        app.cleanup_ctx.append(lambda _: _at_work(replicator.run))


def _front(
    settings: Settings, health: "Health", *, watch: StandingWatch | None, audit: AuditWriter | None
) -> web.Application:
    """Make what stands before every handler."""
    cors = Cors.of(settings.cors, open_to_all=True)
    app = web.Application(
        middlewares=[
            edge(AccessLog(settings.log)),
            *([cors.middleware()] if cors else []),
            *([auditing(audit, reads=settings.audit.reads != "none")] if audit else []),
            limiting(Rates(settings.rates), free={health.live, health.ready}),
            *([_closing(watch)] if watch else []),
        ]
    )
    Proxies.install(app, settings.proxies)
    dress(app, settings.storage, vary=(), cors=cors)
    app.on_response_prepare.append(_finish_head)
    return app


def _add_routes(app: web.Application, path: str, files: Files, health: "Health") -> None:
    for base in {"", path}:
        resource = app.router.add_resource(f"{base}/files/{{token}}/{{name:.*}}")
        resource.add_route("GET", files.get)
        resource.add_route("HEAD", files.get)
        # The handler itself asks for the body, once it is clear that the body is wanted.
        resource.add_route("PUT", files.put, expect_handler=_expect_nothing)
        resource.add_route("POST", files.post)
    app.router.add_get("/livez", health.live)
    app.router.add_get("/readyz", health.ready)


def _take_parts(app: web.Application, url: str, uploads: Uploads, files: Files, verifier: Verifier) -> None:
    """Take uploads that come in more than one request."""
    files.transactions = Transactions(uploads)
    app.cleanup_ctx.append(lambda _: _at_work(uploads.sweep))
    tus = Tus(uploads, verifier, files.ongoing, url)
    for base in {"", urlsplit(url).path}:
        upload = app.router.add_resource(f"{base}/tus/{{token:{SECRET}}}")
        for method in ("OPTIONS", "HEAD", "DELETE", "PATCH", "POST"):
            upload.add_route(method, tus.upload, expect_handler=_expect_nothing)
        creation = app.router.add_resource(f"{base}/tus/{{token}}")
        creation.add_route("OPTIONS", tus.options)
        creation.add_route("POST", tus.create, expect_handler=_expect_nothing)
    app.on_response_prepare.append(announce_version)


def _closing(watch: StandingWatch) -> Middleware:
    """Make the middleware that refuses everybody while the service is offline; what had begun goes on.

    Changes are refused by the database itself, where the writer's lease is taken.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "token" in request.match_info:
            _require_open(watch)
        return await handler(request)

    return middleware


def _require_open(watch: StandingWatch | None) -> None:
    if watch is not None:
        watch.current.require(changes=False)


async def _follow(watch: StandingWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.follow())
    yield
    task.cancel()
    await asyncio.wait([task])


async def _expect_nothing(_: web.Request) -> None:
    """Leave ``Expect: 100-continue`` to `HttpBody`."""


async def _finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """Add to every answer, faults included, what only we know."""
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

    async def ready(self, request: web.Request) -> web.Response:
        """Answer whether database and store are usable."""
        require_staying(request.app)
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


async def _close(archives: Archives, _: web.Application) -> None:
    await archives.close()


async def _threads(workers: Workers, ongoing: Ongoing) -> AsyncIterator[None]:
    """Own the threads, the default ones of the loop included."""
    asyncio.get_running_loop().set_default_executor(workers.quick)
    yield
    await ongoing.end()
    workers.close()


def _sweeper(settings: Settings, backend: StorageBackend, catalogue: Catalogue) -> Sweeper:
    storage = settings.storage
    return Sweeper(
        backend,
        catalogue,
        interval=storage.sweep_interval,
        grace=storage.sweep_grace,
        obsolete_grace=storage.obsolete_grace,
    )


async def _background(herald: "Herald", sweeper: Sweeper) -> AsyncIterator[None]:
    """Say that we are here, and sweep, until the end."""
    await herald.announce()
    tasks = [asyncio.create_task(herald.run()), asyncio.create_task(sweeper.run())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _run_jobs(settings: Settings, jobs: Jobs, third_party: Callable[..., ThirdParty]) -> AsyncIterator[None]:
    """Work on jobs until the end; those that are not done then are given back."""
    async with Outgoing(settings) as outgoing:
        works = third_party(outgoing=outgoing, completion=jobs.queue).works()
        runner = Runner(jobs.queue, works, at_once=settings.outgoing.transfers, listener=jobs.listener)
        tasks = [asyncio.create_task(jobs.listener.run()), asyncio.create_task(runner.run())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _at_work(doing: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Do something beside the requests until the end."""
    task = asyncio.create_task(doing())
    yield
    task.cancel()
    await asyncio.wait([task])


class Herald:
    """Tells the catalogue from time to time that this storage is there and how much fits."""

    def __init__(self, settings: Settings, catalogue: Catalogue, room: Room, ongoing: Ongoing, identity: UUID) -> None:
        self._storage = settings.storage
        self._ongoing = ongoing
        self._catalogue = catalogue
        self._room = room
        self._identity = identity
        self._gone = asyncio.Event()
        self._telling = asyncio.Lock()

    async def announce(self) -> None:
        """Tell once."""
        storage = self._storage
        await self._catalogue.announce(
            StorageState(
                id=self._identity,
                name=storage.name,
                url=storage.public_url,
                free=await self._room.offered(),
                total=await self._room.total(),
                labels=storage.labels,
                cold=storage.cold,
                site=storage.site,
                busy=len(self._ongoing),
            )
        )

    async def leave(self) -> None:
        """Tell that the server goes, so that nobody is sent to it any more, and nothing else from now on."""
        self._gone.set()
        try:
            async with self._telling:
                await self._catalogue.leave(self._storage.public_url)
        except (Fault, OSError) as error:
            log.warning("nobody was told that this server goes: %s", error)

    async def run(self) -> None:
        """Tell at each heartbeat, until cancelled."""
        while not self._gone.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._storage.heartbeat):
                    await self._gone.wait()
            try:
                async with self._telling:
                    if not self._gone.is_set():
                        await self.announce()
            except (Fault, OSError) as error:
                log.warning("heartbeat missed: %s", error)


def run(settings: Settings) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    Transfers may end, up to the idle time-out; what is cut off then leaves nothing behind.
    """
    asyncio.run(_main(settings))


async def _connect(settings: Settings) -> Database:
    dsn, direct = settings.database.of_storage
    if dsn is None:
        raise ValueError("database.storage_dsn is not set")
    past = direct.get_secret_value() if direct else None
    return await Database.connect(dsn.get_secret_value(), settings.database, direct=past, name="pyvospace-storage")


async def _main(settings: Settings) -> None:
    stop = stop_event()
    backend, servers = load_backend(settings), load_protocols(settings)
    log_what_is_missing()
    identity = await backend.start()
    database = await _connect(settings)
    try:
        listener = Listener(database)
        app = make_app(
            settings,
            catalogue=StorageCatalogue(
                database,
                upload_wait=settings.database.upload_acquire_timeout,
                repeat_window=settings.endpoints.repeat_window,
            ),
            backend=backend,
            identity=identity,
            verifier=EndpointVerifier(settings.authority, str(identity), partial(verification_keys, database)),
            archives=PostgresArchives(
                database,
                identity,
                upload_wait=settings.database.upload_acquire_timeout,
                repeat_window=settings.endpoints.repeat_window,
            ),
            replications=PostgresReplications(database, identity, upload_wait=settings.database.upload_acquire_timeout),
            jobs=Jobs(StorageQueue(database, identity, settings.jobs), listener),
            watch=StandingWatch(database, listener),
            audit=AuditWriter(partial(note_bytes, database, identity)),
            partials=PostgresPartials(
                database,
                identity,
                settings.partial_uploads,
                upload_wait=settings.database.upload_acquire_timeout,
                repeat_window=settings.endpoints.repeat_window,
            ),
            records=StoreRecords(database, identity),
            protocols=Protocols(servers, partial(offer, database, identity, settings.storage.public_url)),
        )
        async with scraped(settings.metrics, settings.metrics.storage, database):
            await serve(app, settings.storage, stop, limits=settings.limits)
    finally:
        await database.close()
        await backend.close()
