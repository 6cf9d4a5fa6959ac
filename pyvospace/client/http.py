"""HTTP as a client of a space needs it: credentials for one origin, redirects by hand, failures as faults."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from pyvospace import __version__
from pyvospace.client.failures import ServiceUnreachable
from pyvospace.client.lanes import Lanes
from pyvospace.client.retry import Attempts, Retry, retry_after
from pyvospace.model.faults import Fault, NotAuthenticated, ServiceBusy, TransferFailed, fault_of
from pyvospace.service.once import HiddenError, send_once

log = logging.getLogger(__name__)

USER_AGENT: Final = f"pyvospace/{__version__}"
PIECE: Final = 1 << 20
"""Bytes that are handled in one go."""
_HOPS: Final = 5
_FAULT_BYTES: Final = 16 << 10
_FAULT_LENGTH: Final = 2000
_ANSWER_BYTES: Final = 64 << 20
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GATEWAY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})

Authorization = str | Callable[[], Awaitable[str]]
"""Value of the header, or what gives the one of the moment."""
Body = bytes | Callable[[], AsyncIterable[bytes] | aiohttp.Payload]
"""What is sent; a stream is made anew for each time that it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds of silence after which a request is given up."""

    connect: float = 15.0
    read: float = 120.0
    """Until the next byte of an answer, or until the service takes the next byte of an upload."""
    finish: float = 600.0
    """Until the answer to an upload, which the service makes durable first, or to the deletion of a tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer with its whole body."""

    status: int
    headers: Mapping[str, str]
    url: str
    """Where it came from, after redirects."""
    body: bytes = field(repr=False)


class Http:
    """The connections of one client.

    Parameters
    ----------
    origin
        URL of the service. Only requests to its scheme, host and port carry the credential.
    authorization
        Value of the header Authorization, or what gives the one of the moment; None: anonymous.
    ca_file
        Certificates (PEM) to trust besides the system's, or those that the variable SSL_CERT_FILE names.
    connections
        Most connections at once.
    """

    def __init__(
        self,
        origin: str,
        *,
        authorization: Authorization | None = None,
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        connections: int = 32,
    ) -> None:
        self._origin = URL(origin).origin()
        self._authorization = authorization
        self._ca_file = ca_file
        self.timeouts = timeouts or Timeouts()
        self.retry = retry or Retry()
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._lanes: Lanes | None = None
        self._trusted: ssl.SSLContext | None = None
        self._proxies: dict[tuple[str, str | None], str | None] = {}
        """By scheme and host: to look through the environment takes as long as much of a request."""

    @property
    def anonymous(self) -> bool:
        """Whether requests say nothing of who asks."""
        return self._authorization is None

    def authorize(self, authorization: Authorization | None) -> None:
        """Use another credential from now on."""
        self._authorization = authorization

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None

    def disown(self) -> None:
        """Leave the connections to the process that this one was forked from.

        Both have the same epoll: who closes a connection here takes it out there, and is waited for in vain.
        """
        if self._session is not None and self._session.connector is not None:
            self._session.connector._closed = True  # noqa: SLF001 - nothing else keeps it from closing itself
            self._session.detach()
        self._session = None
        self._lanes = None

    @property
    def lanes(self) -> Lanes:
        """Give the connections for parts of files, past the event loop; only for what `is_plain`."""
        if self._lanes is None:
            self._lanes = Lanes(
                connect=self.timeouts.connect, read=self.timeouts.read, headers={"User-Agent": USER_AGENT}
            )
        return self._lanes

    def is_plain(self, url: URL) -> bool:
        """Say whether a URL is reached without TLS, proxies and passwords."""
        return url.scheme == "http" and url.host is not None and url.user is None and self._proxy(url) is None

    async def ask(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        credential: bool = True,
        repeatable: bool = True,
        read: float | None = None,
        follow: bool = True,
        refused: bool = True,
    ) -> Answer:
        """Send a request and read the whole answer, with as many tries as allowed.

        Parameters
        ----------
        credential
            Whether the service gets the credential.
        repeatable
            Whether a second request does no harm if the first one had its effect and only the answer was lost.
        follow
            Whether to go where a redirect leads, or to give the redirect itself.
        refused
            Whether an answer that refuses is raised as a fault, or given like any other.

        Raises
        ------
        Fault
            What the service answered, or ServiceUnreachable.
        """
        attempts = Attempts(self.retry)
        while True:
            try:
                async with self.open(
                    method,
                    url,
                    body=body,
                    headers=headers,
                    credential=credential,
                    read=read,
                    follow=follow,
                    refused=refused,
                ) as response:
                    whole = b"".join([piece async for piece in pieces(response, limit=_ANSWER_BYTES)])
                    return Answer(status=response.status, headers=response.headers, url=str(response.url), body=whole)
            except Fault as fault:
                await attempts.wait_after(fault, repeatable=repeatable)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        credential: bool = True,
        read: float | None = None,
        follow: bool = True,
        refused: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request once, follow redirects if that is wanted, and give the answer with its body still to be read.

        Parameters
        ----------
        credential
            Whether the service (and nobody else) gets the credential; endpoints for bytes need none.
        read
            Seconds to wait for the answer, if not the usual ones.

        Raises
        ------
        Fault
            What the service answered, or ServiceUnreachable.
        """
        target, sent = URL(url, encoded=True), headers or {}
        for _ in range(_HOPS):
            response = await self._send(method, target, body=body, headers=sent, credential=credential, read=read)
            try:
                location = response.headers.get("Location")
                if response.status not in REDIRECTS or location is None or not follow:
                    if refused:
                        await self._refuse(response, credential=credential)
                    yield response
                    return
                await _beginning(response, _FAULT_BYTES)
            finally:
                # Whoever has not read to the end cannot use the connection any more; else it is back already.
                response.close()
            target = _joined(target, location)
            if response.status == HTTPStatus.SEE_OTHER or (method == "POST" and response.status in {301, 302}):
                method, sent = ("HEAD" if method == "HEAD" else "GET"), (sent if body is None else {})
                body = None
        raise TransferFailed(f"more than {_HOPS} redirects")

    async def _send(
        self,
        method: str,
        url: URL,
        *,
        body: Body | None,
        headers: Mapping[str, str],
        credential: bool,
        read: float | None,
    ) -> aiohttp.ClientResponse:
        sent = {**headers, "Accept-Encoding": "identity"}
        if credential and self._authorization is not None and url.origin() == self._origin:
            found = self._authorization
            sent["Authorization"] = found if isinstance(found, str) else await found()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %s", method, shown(url))
        proxy = self._proxy(url)
        with translated(url):
            return await self._open_session().request(
                method,
                url,
                data=body() if callable(body) else body,
                headers=sent,
                timeout=aiohttp.ClientTimeout(sock_connect=self.timeouts.connect, sock_read=read or self.timeouts.read),
                proxy=proxy,
                ssl=self._tls() if url.scheme == "https" or proxy or self._ca_file else True,
                allow_redirects=False,
            )

    async def _refuse(self, response: aiohttp.ClientResponse, *, credential: bool) -> None:
        if response.status < HTTPStatus.BAD_REQUEST:
            return
        text = _words_of(await _beginning(response, _FAULT_BYTES), response.content_type)
        log.debug("%s %s", response.status, text)
        if response.status in _GATEWAY:
            raise ServiceUnreachable(f"{shown(response.url)}: HTTP status {response.status}")
        fault = fault_of(text, response.status)
        if isinstance(fault, ServiceBusy):
            fault.retry_after = retry_after(response.headers.get("Retry-After"))
        kept = credential and self._authorization is not None and response.url.origin() != self._origin
        if kept and isinstance(fault, NotAuthenticated):
            where = f"the credential for {self._origin} is not sent to {response.url.origin()}"
            raise NotAuthenticated(f"{fault.detail} ({where})")
        raise fault

    def _open_session(self) -> aiohttp.ClientSession:
        """Make the session when the first request comes: only then there is surely a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT},
                skip_auto_headers=("Content-Type",),
                auto_decompress=False,
                read_bufsize=256 << 10,
                middlewares=(send_once,),
            )
        return self._session

    def _proxy(self, url: URL) -> str | None:
        """Find the proxy that the environment names (``https_proxy``, ``no_proxy`` and so on)."""
        asked = url.scheme, url.host
        if asked not in self._proxies:
            proxies = getproxies()
            bypassed = not proxies or proxy_bypass(url.host or "")
            self._proxies[asked] = None if bypassed else proxies.get(url.scheme) or proxies.get("all")
        return self._proxies[asked]

    def _tls(self) -> ssl.SSLContext:
        if self._trusted is not None:
            return self._trusted
        # Made here: aiohttp makes its own when it is imported, and so may not see SSL_CERT_FILE. And made only when it
        # is needed, since to read all the certificates takes a tenth of a short command.
        context = ssl.create_default_context()
        if self._ca_file is not None:
            try:
                context.load_verify_locations(self._ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ServiceUnreachable(f"certificates {self._ca_file}: {error}", sent=False, permanent=True) from None
        self._trusted = context
        return context


async def pieces(
    response: aiohttp.ClientResponse, *, limit: int | None = None, size: int = PIECE
) -> AsyncGenerator[bytes]:
    """Read a body in pieces of about so many bytes.

    Raises
    ------
    ServiceUnreachable
        The connection broke before the end; all that came was given before.
    TransferFailed
        There are more bytes than the limit.
    """
    received, gathered = 0, bytearray()
    ended = False
    while not ended:
        try:
            with translated(response.url):
                gathered += await response.content.readany()
                ended = response.content.at_eof()
        except ServiceUnreachable:
            if gathered:
                yield bytes(gathered)
            raise
        if limit is not None and received + len(gathered) > limit:
            raise TransferFailed(f"the answer of {shown(response.url)} is larger than {limit} bytes")
        if gathered and (ended or len(gathered) >= size):
            received += len(gathered)
            yield bytes(gathered)
            gathered.clear()


async def _beginning(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read the words of a fault as far as they come."""
    data = b""
    try:
        async with asyncio.timeout(10):
            while len(data) < limit and (piece := await response.content.read(limit - len(data))):
                data += piece
    except (aiohttp.ClientError, OSError):
        log.debug("the words of a fault broke off")
    return data


def _words_of(body: bytes, content_type: str) -> str:
    """Give the first line of a fault; what a terminal might obey is taken out, and pages of a proxy say nothing."""
    if content_type == "text/html":
        return ""
    lines = body.decode(errors="replace").strip().splitlines()
    return "".join(one if one.isprintable() else "\ufffd" for one in lines[0][:_FAULT_LENGTH]) if lines else ""


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn what aiohttp and the network raise into ServiceUnreachable."""
    try:
        yield
    except (aiohttp.ClientError, HiddenError, OSError) as error:  # TimeoutError is an OSError
        raise _translation(shown(url), error) from (error.__cause__ if isinstance(error, HiddenError) else error)


def _translation(where: str, error: Exception) -> ServiceUnreachable:
    match error:
        case HiddenError():
            return ServiceUnreachable(f"{where}: {_words(error.__cause__ or error)}")
        case aiohttp.ClientConnectorError():
            return _not_connected(where, error)
        case aiohttp.ConnectionTimeoutError():
            return ServiceUnreachable(f"{where}: no connection in time", sent=False)
        case TimeoutError():
            return ServiceUnreachable(f"{where}: no answer in time")
        case aiohttp.InvalidURL():
            return ServiceUnreachable(f"{where}: {_words(error)}", sent=False, permanent=True)
    return ServiceUnreachable(f"{where}: {_words(error)}")


def _not_connected(where: str, error: aiohttp.ClientConnectorError) -> ServiceUnreachable:
    permanent = True
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        words = f": certificate not trusted: {getattr(reason, 'verify_message', '') or reason}"
    elif isinstance(error, aiohttp.ClientProxyConnectionError):
        words = f" through the proxy {error.host}:{error.port} of the environment: {_words(error.os_error)}"
    else:
        lost = isinstance(error.os_error, socket.gaierror) and error.os_error.errno != socket.EAI_AGAIN
        permanent = lost or isinstance(error, aiohttp.ClientSSLError)
        words = f": {_words(error.os_error)}"
    return ServiceUnreachable(f"{where}{words}", sent=False, permanent=permanent)


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text if text and text != "None" else type(error).__name__


def shown(url: URL) -> str:
    """Write a URL for people: without secrets, which endpoints carry in their path and clients in their user part."""
    text = str(url.origin())
    if "/files/" in url.path:
        return f"{text}/…/{url.name}"
    if "/tus/" in url.path:
        return f"{text}/tus/…"
    return text + url.raw_path


def _joined(base: URL, location: str) -> URL:
    try:
        target = base.join(URL(location, encoded=True))
    except ValueError:
        raise TransferFailed(f"{shown(base)} leads to {location[:200]!r}, which is no URL") from None
    if target.scheme not in {"http", "https"} or not target.host:
        raise TransferFailed(f"{shown(base)} leads to {location[:200]!r}, which is no web address")
    return target
