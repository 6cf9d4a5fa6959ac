"""GET, HEAD and PUT of pre-authorised endpoints: ``/files/{token}/{name}``."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from pyvospace.config import Settings
from pyvospace.model.claims import DownloadClaim, EndpointClaims
from pyvospace.model.entries import MTIME_HEADER
from pyvospace.model.faults import (
    InvalidArgument,
    MethodNotAllowed,
    PermissionDenied,
)
from pyvospace.service.audit import AuditWriter
from pyvospace.service.content import facts_of
from pyvospace.storage.archives.serving import ARCHIVES, UNPACK, Archives
from pyvospace.storage.auditing import CLAIMS
from pyvospace.storage.backend import StorageBackend
from pyvospace.storage.catalogue import Catalogue
from pyvospace.storage.conditions import require
from pyvospace.storage.deliver import Deliverer, Delivery, answer_head, conditions_of
from pyvospace.storage.front import Front
from pyvospace.storage.hashing import Announced, announced
from pyvospace.storage.intake import Intake
from pyvospace.storage.jobpool import JobPool
from pyvospace.storage.jobs import record_delivery
from pyvospace.storage.ongoing import Ongoing
from pyvospace.storage.partials.transactions import ID, OPERATION, START, Transactions, is_transaction
from pyvospace.storage.receive import HttpBody
from pyvospace.storage.rendering import Renderer
from pyvospace.storage.room import Room
from pyvospace.storage.threads import Workers

GET: Final = "get"
PUT: Final = "put"
RENDER: Final = "render"
VERSION: Final = "version"
REPLICA: Final = "replica"
_DRAIN: Final = 25.0
"""Seconds that transfers of other protocols get at most, after those of HTTP had theirs."""
_METHODS: Final = frozenset({"GET", "HEAD", "PUT"})


class Verifier(Protocol):
    """Who reads the token of an endpoint."""

    async def verify(self, token: str) -> EndpointClaims:
        """Read it, or raise the Fault that refuses it."""

    async def verify_credential(self, user: str, password: str) -> EndpointClaims:
        """Do the same with the user and password of an endpoint of another protocol."""


class Files:
    """The handlers of one server."""

    def __init__(
        self,
        settings: Settings,
        *,
        catalogue: Catalogue,
        backend: StorageBackend,
        verifier: Verifier,
        workers: Workers,
        room: Room,
        archives: Archives | None = None,
    ) -> None:
        self._archives = archives
        self._catalogue = catalogue
        self._claiming = {
            GET: catalogue.claim_download,
            VERSION: catalogue.claim_version,
            REPLICA: catalogue.claim_replica,
        }
        self._backend = backend
        self._verifier = verifier
        self._workers = workers
        self.ongoing = Ongoing()
        self.transactions: Transactions | None = None
        """To be set before the first request, if they are offered."""
        self.intake = Intake(catalogue, backend, room, limit=settings.limits.upload_bytes)
        self._idle = settings.storage.idle_timeout
        self._drain = min(settings.storage.drain_time, _DRAIN)
        self._reads = settings.audit.reads != "none"
        self._least_rate = settings.storage.least_rate
        self._deliverer = Deliverer(
            backend,
            workers,
            empty=HTTPStatus.NO_CONTENT if settings.interop == "opencadc" else HTTPStatus.OK,
            idle=self._idle,
            front=Front(settings.storage.x_accel_redirect) if settings.storage.x_accel_redirect else None,
        )
        self._renderer = Renderer(backend, workers, idle=self._idle, seconds=settings.storage.render_time)

    def job_pool(self, *, standing: Callable[[], None], audit: AuditWriter | None) -> JobPool:
        """Give the same to servers of other protocols."""
        return JobPool(
            catalogue=self._catalogue,
            backend=self._backend,
            verifier=self._verifier,
            workers=self._workers,
            intake=self.intake,
            ongoing=self.ongoing,
            idle=self._idle,
            drain=self._drain,
            standing=standing,
            audit=audit,
            reads=self._reads,
        )

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve the bytes, or with HEAD only say what they are."""
        with self.ongoing:
            return await self._get(request)

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Take new bytes for the node."""
        with self.ongoing:
            return await self._put(request)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Answer what is asked of a put transaction."""
        with self.ongoing:
            if self.transactions is None or ID not in request.headers:
                raise MethodNotAllowed(f"POST is for transactions, which have an {ID}", allowed=_METHODS)
            return await self.transactions.go_on(request)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD" and ID in request.headers and self.transactions is not None:
            return await self.transactions.go_on(request)
        claims = request[CLAIMS] = await self._verifier.verify(request.match_info["token"])
        if self._archives is not None and claims.operation in ARCHIVES:
            return await self._archives.get(request, claims)
        if claims.operation == PUT and request.method == "HEAD":
            return answer_head(await self._catalogue.current(claims))
        if claims.operation == RENDER:
            wanted = await self._catalogue.claim_render(claims)
            return await self._finish(request, wanted.download, await self._renderer.answer(request, wanted))
        if claims.operation not in self._claiming:
            raise PermissionDenied("this endpoint is for writing")
        claim = await self._claiming[claims.operation](claims)
        return await self._finish(request, claim, await self._deliverer.answer(request, claim))

    async def _finish(self, request: web.Request, claim: DownloadClaim, delivery: Delivery) -> web.StreamResponse:
        """Send an answer to its end, and complete the job that waited for it."""
        if delivery.complete and claim.job_id is not None:
            await delivery.response.prepare(request)
            await delivery.response.write_eof()
            await record_delivery(claim.job_id, self._catalogue.delivered(claim))
        return delivery.response

    async def _put(self, request: web.Request) -> web.StreamResponse:
        if self.transactions is not None and is_transaction(request):
            return await self._transact(request, self.transactions)
        claims = request[CLAIMS] = await self._verifier.verify(request.match_info["token"])
        if self._archives is not None and claims.operation == UNPACK:
            return await self._archives.put(request, claims, _acceptable(request))
        if claims.operation != PUT:
            raise PermissionDenied("this endpoint is for reading")
        digests, facts = _acceptable(request), facts_of(request.headers)
        claim = await self.intake.claim(claims, size=request.content_length)
        await require(conditions_of(request), claim, self._catalogue)
        body = HttpBody(
            request,
            workers=self._workers,
            limit=self.intake.limit(claim),
            idle=self._idle,
            announced=digests,
            least_rate=self._least_rate,
        )
        await self.intake.store(claim, body, facts)
        headers = body.digests().headers()
        if facts.changed is not None:
            headers[MTIME_HEADER] = "accepted"  # as ownCloud answers
        return web.Response(status=HTTPStatus.CREATED, headers=headers)

    async def _transact(self, request: web.Request, transactions: Transactions) -> web.StreamResponse:
        _acceptable(request)
        starts = request.headers.get(OPERATION, "").lower() == START
        if starts == (ID in request.headers):
            raise InvalidArgument(f"{START} has no {ID}, all else has one")
        if not starts:
            return await transactions.go_on(request)
        claims = request[CLAIMS] = await self._verifier.verify(request.match_info["token"])
        if claims.operation != PUT:
            raise PermissionDenied("this endpoint is not for bytes of a file")
        return await transactions.start(request, claims)


def _acceptable(request: web.Request) -> Announced:
    if "Content-Range" in request.headers:
        raise InvalidArgument("a part of a file cannot be written")
    return announced(request.headers)
