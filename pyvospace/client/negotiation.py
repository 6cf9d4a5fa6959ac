"""Endpoints for bytes, by synchronous transfers (VOSpace 2.1, sections 3.6 and 6.4)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from pyvospace.client.failures import ServiceUnreachable
from pyvospace.client.http import Answer, Http
from pyvospace.client.jobs import job_fault
from pyvospace.model.faults import Fault, TransferFailed
from pyvospace.model.nodes import View
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import DEFAULT_VIEW, HTTP_GET, HTTP_PUT, HTTPS_GET, HTTPS_PUT, TUS, Direction
from pyvospace.wire.transfers import read_transfer, render_package_request, render_transfer

log = logging.getLogger(__name__)

_PROTOCOLS: Final = {
    Direction.PUSH_TO_VOSPACE: (HTTPS_PUT, HTTP_PUT),
    Direction.PULL_FROM_VOSPACE: (HTTPS_GET, HTTP_GET),
}
_XML: Final = {"Content-Type": "text/xml"}
_DETAILS: Final = "/results/transferDetails"
_REFUSING: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE}
)
"""How an endpoint says that its time is over."""


async def negotiate(
    http: Http, sync_url: str, uri: NodeUri, direction: Direction, view: View | None = None
) -> tuple[str, ...]:
    """Ask the service for endpoints of a node, the best one first.

    If the service itself is reached by TLS, only endpoints with TLS are asked for and taken.

    Raises
    ------
    Fault
        What the service answered, or what its job says.
    """
    request = _request([uri], direction, view or View(DEFAULT_VIEW), _protocols(direction, sync_url))
    return tuple(await _negotiate(http, sync_url, uri, request))


async def negotiate_resumable(http: Http, sync_url: str, uri: NodeUri) -> tuple[str | None, tuple[str, ...]]:
    """Ask for a push that can be resumed: where TUS begins, None if that is not spoken, and those of plain HTTP."""
    usual = _protocols(Direction.PUSH_TO_VOSPACE, sync_url)
    request = _request([uri], Direction.PUSH_TO_VOSPACE, View(DEFAULT_VIEW), (TUS, *usual))
    found = await _negotiate(http, sync_url, uri, request)
    begins = [one for one in found if found[one] == TUS]
    return (begins[0] if begins else None), tuple(one for one in found if found[one] != TUS)


async def _negotiate(http: Http, sync_url: str, uri: NodeUri, request: Transfer) -> Mapping[str, str]:
    """Give the protocol of each endpoint, in the order of the protocols of the request."""
    secure = urlsplit(sync_url).scheme == "https"
    # A job that nobody uses ends by itself, so a lost answer does no harm.
    answer = await http.ask("POST", sync_url, body=render_transfer(request), headers=_XML)
    offered = read_transfer(answer.body).protocols
    found = {
        one.endpoint: wanted.uri
        for wanted in request.protocols
        for one in offered
        if one.uri == wanted.uri and one.endpoint is not None and _usable(one.endpoint, secure=secure)
    }
    if not found:
        raise await _reason(http, answer, uri)
    return found


async def negotiate_package(http: Http, sync_url: str, uris: Sequence[NodeUri], view: View) -> tuple[str, ...]:
    """Ask the service, as OpenCADC's clients do, where several nodes can be had as one package.

    It answers with a redirect to a resource of its own, which wants the credential and may redirect further.
    """
    direction = Direction.PULL_FROM_VOSPACE
    document = render_package_request(_request(uris, direction, view, _protocols(direction, sync_url)))
    answer = await http.ask("POST", sync_url, body=document, headers=_XML, follow=False)
    if "Location" not in answer.headers:
        raise TransferFailed(f"{uris[0]}: the service does not say where the package is")
    return (urljoin(sync_url, answer.headers["Location"]),)


async def locate(http: Http, url: str, direction: Direction) -> str | None:
    """Ask a service of ours for one endpoint of a node by its path, with one request and no job to pull.

    Parameters
    ----------
    url
        Where the bytes of the node are by path; it leads to the endpoint.

    Returns
    -------
    str or None
        None: there are no bytes to be pulled, or the endpoint is none that this client can use.
    """
    method = "PUT" if direction is Direction.PUSH_TO_VOSPACE else "GET"
    answer = await http.ask(method, url, follow=False)
    endpoint = urljoin(url, answer.headers["Location"]) if "Location" in answer.headers else None
    return endpoint if endpoint and _usable(endpoint, secure=urlsplit(url).scheme == "https") else None


def _protocols(direction: Direction, sync_url: str) -> tuple[str, ...]:
    known = _PROTOCOLS[direction]
    return known[:1] if urlsplit(sync_url).scheme == "https" else known


def _request(uris: Sequence[NodeUri], direction: Direction, view: View, protocols: Sequence[str]) -> Transfer:
    target, *more = (str(uri) for uri in uris)
    wanted = tuple(Protocol(one) for one in protocols)
    return Transfer(target, direction, view, protocols=wanted, version="2.1", more_targets=tuple(more))


def _usable(endpoint: str, *, secure: bool) -> bool:
    scheme = urlsplit(endpoint).scheme
    return scheme == "https" or (scheme == "http" and not secure)


async def _reason(http: Http, answer: Answer, uri: NodeUri) -> Fault:
    """Find out why there is no endpoint: the job knows its fault by name and in words."""
    job_url, details, _ = answer.url.partition(_DETAILS)
    if not details:
        return TransferFailed(f"{uri}: the service offers no endpoint that this client can use")
    return await job_fault(http, job_url, what=uri)


class Endpoints:
    """The endpoints of one transfer, negotiated when the first one is needed and again when they are over.

    Parameters
    ----------
    negotiate
        Gives all of them.
    quick
        Gives one of them at less cost; None: in this way there is none.
    """

    def __init__(
        self,
        negotiate: Callable[[], Awaitable[tuple[str, ...]]],
        quick: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self._negotiate = negotiate
        self._quick = quick
        self._urls: tuple[str, ...] = ()
        self._asking = asyncio.Lock()
        self._failed = 0
        """How often the one that was found quickly could not be reached."""

    async def current(self) -> str:
        """Give the endpoint to use now."""
        async with self._asking:
            if not self._urls:
                found = None if self._quick is None else await self._quick()
                if found is None:
                    self._quick = None
                self._urls = await self._negotiate() if found is None else (found,)
            return self._urls[0]

    def know(self, urls: tuple[str, ...]) -> None:
        """Use these first, which were negotiated elsewhere."""
        self._urls = urls

    def failed(self, fault: Fault) -> None:
        """Turn to the next endpoint if one cannot be reached."""
        if not isinstance(fault, ServiceUnreachable):
            return
        self._urls = (*self._urls[1:], *self._urls[:1])
        self._failed += 1
        if self._quick is not None and (not fault.sent or self._failed > 1):
            self._quick, self._urls = None, ()

    def renew(self, fault: Fault, endpoint: str | None = None) -> bool:
        """Say whether a fault of an endpoint that served before can mean that its time is over; if so, forget it.

        Parameters
        ----------
        endpoint
            Which one it was, if another one may have been negotiated meanwhile.
        """
        over = fault.status in _REFUSING
        if over and (endpoint is None or endpoint in self._urls):
            log.info("%s; negotiating again", fault)
            self._urls = ()
        return over
