"""The metadata server: its routes, its middleware, its process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from functools import partial
from sys import maxsize
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import uvloop
from aiohttp import web
from aiohttp.http import StreamWriter

from pyvospace.config.requirements import require_safe_versions
from pyvospace.db import audit, identities, keys, replica
from pyvospace.db.bootstrap import WrongSpaceError
from pyvospace.db.errors import Unavailable
from pyvospace.db.holding import on_behalf_of
from pyvospace.db.listening import Listener
from pyvospace.db.pool import Database
from pyvospace.model.callers import ANONYMOUS, StaleCallerError
from pyvospace.model.faults import Fault, InternalFault, LinkFound, ServiceBusy
from pyvospace.model.stored import Resolution
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail
from pyvospace.server.administration.operation import STATE
from pyvospace.server.auditing import auditing
from pyvospace.server.context import Context, Service
from pyvospace.server.counting import count_for_ever
from pyvospace.server.describe import describe
from pyvospace.server.emptying import empty_for_ever
from pyvospace.server.handlers import administration, service
from pyvospace.server.handlers.requests import CONTEXT, SERVICE, representation
from pyvospace.server.keeping import keep_for_ever
from pyvospace.server.operations.homes import FirstLogins
from pyvospace.server.routes import add_routes
from pyvospace.server.watching import look
from pyvospace.server.works import works
from pyvospace.service.audit import AuditWriter, prune_for_ever
from pyvospace.service.auth import AUTHENTICATOR, Authenticator, Presented
from pyvospace.service.certificates import Certificates
from pyvospace.service.challenges import challenges
from pyvospace.service.endpoints import EndpointSigner
from pyvospace.service.faults import CALLER, REQUEST_ID, edge
from pyvospace.service.headers import Cors, dress
from pyvospace.service.logs import AccessLog, set_up_logs
from pyvospace.service.oidc import Issuers
from pyvospace.service.proxies import Proxies, client_address
from pyvospace.service.rates import Rates, client_of, limiting
from pyvospace.service.scraping import scraped
from pyvospace.service.serving import serve, stop_event
from pyvospace.service.standing import PATIENCE, StandingWatch, within
from pyvospace.service.throttle import forget_for_ever
from pyvospace.service.trusted import Trusted
from pyvospace.uws.jobs import MetadataQueue, tidy_for_ever
from pyvospace.uws.runner import Runner, Work
from pyvospace.uws.waiting import Waiting
from pyvospace.wire.nodes import render_node
from pyvospace.wire.xml import Limits

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from pyvospace.config import Settings

log = logging.getLogger(__name__)

_YOUNG: Final = 20_000
"""Objects that come before the collector of cycles looks at them: those of some dozens of requests."""
_STARTS: Final = 3
"""Starts of a request whose caller turned out to have changed."""
_DOCUMENT: Final = {"standard": maxsize, "opencadc": 32 * 1024}
"""Largest document by the rules that we follow, if the limit in the settings is not smaller."""


def make_service(settings: Settings, database: Database) -> Service:
    """Put together what a process of the metadata service has but one of."""
    endpoints = settings.endpoints
    longest = max(endpoints.life, endpoints.share_life)
    signer = EndpointSigner(
        settings.authority,
        lambda: keys.signing_key(database, rotation=endpoints.key_rotation, life=longest),
    )
    limits = Limits(
        document_bytes=min(settings.limits.document_bytes, _DOCUMENT[settings.interop]),
        depth=settings.limits.document_depth,
        properties=settings.limits.properties,
        property_bytes=settings.limits.property_bytes,
    )
    listener = Listener(database)
    watch = StandingWatch(database, listener)
    writer = AuditWriter(partial(audit.note, database))
    doing: dict[str, Work] = {}
    runner = Runner(MetadataQueue(database, settings.jobs), doing, at_once=settings.jobs.at_once, listener=listener)
    service = Service(settings, database, signer, limits, listener, watch, Waiting(listener), writer, runner)
    doing.update(works(service))
    return service


def background(service: Service) -> list[Callable[[], Coroutine[None, None, None]]]:
    """Give what a process does besides answering requests, each until it is cancelled."""
    database, settings = service.database, service.settings.jobs
    counting = partial(count_for_ever, database, service.settings.quotas)
    keeping = partial(keep_for_ever, database, service.settings.placement), partial(empty_for_ever, database)
    forgetting = partial(tidy_for_ever, database, settings), partial(forget_for_ever, database)
    logging_ = service.audit.run, partial(prune_for_ever, database, service.settings.audit)
    return [service.listener.run, service.watch.follow, counting, *keeping, *forgetting, *logging_, service.runner.run]


def make_app(settings: Settings, database: Database) -> web.Application:
    """Put the server together."""
    shared = make_service(settings, database)
    trusted = Trusted(settings)
    issuers = Issuers(settings, database, trusted)
    authenticator = Authenticator(database, logins=settings.logins, bearers=(issuers,))
    cors = Cors.of(settings.cors)
    app = web.Application(
        middlewares=[
            edge(
                AccessLog(settings.log),
                challenges=lambda invalid: challenges(settings, invalid=invalid),
                describe=lambda fault: _describe(shared, fault),
            ),
            *([cors.middleware()] if cors else []),
            auditing(shared),
            identification(shared, authenticator, Certificates(settings)),
            limiting(Rates(settings.rates), free={service.live, service.ready}),
            representation,
        ]
    )
    app[SERVICE] = shared
    app[AUTHENTICATOR] = authenticator
    Proxies.install(app, settings.proxies)
    for base in {"", urlsplit(settings.metadata.public_url).path}:
        add_routes(app, base)
    app.on_response_prepare.append(_hold_undecided)
    dress(app, settings.metadata, vary=("Accept", "Authorization"), cors=cors)
    app.on_shutdown.append(_let_go)
    app.cleanup_ctx.append(partial(_asking, trusted, issuers))
    app.cleanup_ctx.append(partial(_background, background(shared)))
    return app


def identification(shared: Service, authenticator: Authenticator, certificates: Certificates) -> Middleware:
    """Make the middleware that says who calls, and sees to it that every answer was decided about.

    A caller who turns out to have changed since he was identified is identified again, and the request starts over.
    """
    first_logins = FirstLogins() if shared.settings.homes.at_login else None

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        on_behalf_of.set(client_of(request))
        authorization = request.headers.get("Authorization")
        presented = Presented(
            authorization,
            certificates.name(request) if authorization is None else None,
            remote=client_address(request),
            request=request[REQUEST_ID],
        )
        meet = _MEETINGS.get(request.match_info.handler, _meet)
        for _ in range(_STARTS):
            try:
                context = request[CONTEXT] = await meet(shared, authenticator, presented)
                if not context.caller.anonymous:
                    request[CALLER] = context.caller.name
                    if first_logins is not None:
                        await first_logins.welcome(context)
                response = await handler(request)
                await _confirm(context)
            except StaleCallerError:
                authenticator.forget(presented)
                request.pop(CALLER, None)
                continue
            _require_decision(context)
            return response
        raise ServiceBusy("users and groups are changing; try again")

    return middleware


async def _meet(shared: Service, authenticator: Authenticator, presented: Presented) -> Context:
    """Say who calls, and refuse everybody if the service is offline."""
    shared.watch.current.require(changes=False)
    context = await _meet_anyway(shared, authenticator, presented)
    context.standing.require(changes=False)
    return context


async def _meet_anyway(shared: Service, authenticator: Authenticator, presented: Presented) -> Context:
    """Say who calls."""
    caller = await authenticator.identify(presented)
    return Context(shared, caller, await shared.watch.at(caller.epoch))


async def _meet_lightly(shared: Service, authenticator: Authenticator, presented: Presented) -> Context:
    """Say who calls, or let him be anonymous if the database is not there to tell."""

    async def meet() -> Context:
        context = Context(shared, await authenticator.identify(presented))
        if not context.caller.anonymous:
            context.policy.check_epoch(await identities.epoch(shared.database))
        return context

    try:
        return await within(PATIENCE, meet())
    except ServiceBusy:
        return Context(shared, ANONYMOUS)


_MEETINGS: Final[dict[object, Callable[[Service, Authenticator, Presented], Awaitable[Context]]]] = {
    service.set_state: _meet_anyway,
    **{handler: _meet_anyway for route, handler in administration.HANDLERS.items() if route.path == STATE},
    **dict.fromkeys(service.ALWAYS, _meet_lightly),
}
"""How to receive the callers of some handlers, also of a service that is offline."""


async def _confirm(context: Context) -> None:
    """Make sure of the caller behind an answer that does not depend on him; it is given though nobody can be asked."""
    if context.policy.asked and not context.policy.confirmed:
        with contextlib.suppress(Unavailable):
            context.policy.check_epoch(await identities.epoch(context.database))


def _require_decision(context: Context) -> None:
    if not context.policy.asked:
        raise InternalFault("an answer that nobody has decided about is not given")


async def _hold_undecided(request: web.Request, response: web.StreamResponse) -> None:
    """Stop an answer that is about to be streamed though nobody was asked about it (signal on_response_prepare)."""
    if type(response) is web.StreamResponse and CONTEXT in request and not request[CONTEXT].policy.asked:
        if isinstance(request.writer, StreamWriter):
            request.writer.chunked = False  # meant for the answer that is held back
        _require_decision(request[CONTEXT])


def _describe(shared: Service, fault: Fault) -> str:
    """Give what stands behind the words of a fault: the document of the link (VOSpace 2.1, section 6.5)."""
    if not isinstance(fault, LinkFound) or not isinstance(fault.link, Resolution):
        return ""
    found = fault.link
    uri = NodeUri(shared.authority, found.names[: found.depth])
    return "\n" + render_node(describe(found.last, uri, Detail.FULL, base=shared.url)).decode()


async def _let_go(app: web.Application) -> None:
    """Answer those who wait for jobs: the process ends."""
    app[SERVICE].waiting.close()


async def _asking(trusted: Trusted, issuers: Issuers, _app: web.Application) -> AsyncIterator[None]:
    """Keep ready what asks providers and group services."""
    async with trusted:
        yield
        await issuers.close()


async def _background(
    tasks: Iterable[Callable[[], Coroutine[None, None, None]]], _app: web.Application
) -> AsyncIterator[None]:
    running = [asyncio.create_task(task()) for task in tasks]
    for one in running:
        one.add_done_callback(_report)
    yield
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (defect := task.exception()):
        log.critical("this process does only a part of its work: start it again", exc_info=defect)


@contextlib.asynccontextmanager
async def catalogue(settings: Settings, *, name: str) -> AsyncIterator[Database]:
    """Open the database that the settings name, which is set up, and for this space.

    Raises
    ------
    ValueError
        They name none.
    WrongSpaceError
        It is not.
    """
    dsn, direct = settings.database.dsn, settings.database.direct_dsn
    if dsn is None:
        raise ValueError("database.dsn is not set")
    past = direct.get_secret_value() if direct else None
    database = await Database.connect(dsn.get_secret_value(), settings.database, direct=past, name=name)
    try:
        await check_space(database, settings)
        async with replica.attached(database, settings.database, name=name):
            yield database
    finally:
        await database.close()


async def check_space(database: Database, settings: Settings) -> None:
    """Make sure that the database is set up, and for this space.

    Raises
    ------
    WrongSpaceError
        It is not.
    """
    space = await identities.space(database)
    if space is None:
        raise WrongSpaceError("the database holds no space yet: run `pyvospace migrate`")
    if space.authority != settings.authority:
        raise WrongSpaceError(f"the database belongs to the space {space.authority!r}, not {settings.authority!r}")


async def main(settings: Settings) -> None:
    """Serve until told to stop."""
    stop = stop_event()
    async with catalogue(settings, name="pyvospace metadata") as database:
        if not settings.metadata.public_url.startswith("https:"):
            log.warning("plain http: httpsget and httpsput are answered with http endpoints; use TLS in production")
        app = make_app(settings, database)
        _spare_the_collector()
        async with scraped(settings.metrics, settings.metrics.metadata, database, look=partial(look, database)):
            await serve(app, settings.metadata, stop, limits=settings.limits)


def _spare_the_collector() -> None:
    """Let the collector of cycles pass over what stays as long as the process, and look at the rest more rarely.

    A request makes a few hundred objects, and no cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)


def run(settings: Settings) -> None:
    """Run one process of the metadata server until SIGTERM or SIGINT."""
    set_up_logs(settings.log)
    require_safe_versions()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(settings))
