"""Requests to services that the operator names: OpenID providers and group services.

They go by the guarded client, to the hosts that stand in the settings and to public ones: what a provider says of
itself (where its keys are) cannot lead into our network. They are short, and no redirect is followed: a credential
travels with some of them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode, urlsplit

from yarl import URL

from pyvospace.config.settings import OutgoingSettings
from pyvospace.model.faults import InvalidArgument, TransferFailed
from pyvospace.service.outgoing import Outgoing, parse_url, translated

if TYPE_CHECKING:
    import aiohttp

    from pyvospace.config import Settings

_LARGEST: Final = 256 << 10
"""Bytes of an answer."""
_PATIENCE: Final = 5.0
"""Seconds for a connection, and for a silence."""
_LONGEST: Final = 10.0
"""Seconds for a request with its answer."""


class NoAnswerError(Exception):
    """Nothing came that can be used."""

    def __init__(self, words: str, *, silent: bool = False) -> None:
        super().__init__(words)
        self.silent = silent
        """Nothing came at all, so that nothing will come for others either."""


@dataclass(frozen=True, slots=True)
class TrustedAnswer:
    """What came."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Read it as JSON.

        Raises
        ------
        NoAnswerError
            It is none.
        """
        try:
            return json.loads(self.body.decode())
        except (ValueError, RecursionError):
            raise NoAnswerError("the answer is no JSON") from None


class Trusted:
    """The client; one for a process, open while it is entered."""

    def __init__(self, settings: Settings) -> None:
        outgoing = OutgoingSettings(
            ports=("1-65535",),
            allow=(*settings.outgoing.allow, *_hosts(settings)),
            connect_timeout=_PATIENCE,
            idle_timeout=_PATIENCE,
            transfer_time=_LONGEST,
        )
        self._outgoing = Outgoing(settings.model_copy(update={"outgoing": outgoing}))

    async def __aenter__(self) -> Self:
        """Open it."""
        await self._outgoing.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._outgoing.__aexit__()

    async def ask(
        self, url: str, *, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
    ) -> TrustedAnswer:
        """Send a GET, or a POST of a form, and read the whole answer.

        Raises
        ------
        NoAnswerError
            Nobody answered, or not in time, or too much. A redirect is an answer, and is not followed.
        """
        sent, content = dict(headers or {}), urlencode(form or {}).encode()
        if form is not None:
            sent |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(content))}
        try:
            target = parse_url(url)
            async with self._outgoing.request(
                "GET" if form is None else "POST",
                target,
                headers=sent,
                body=None if form is None else lambda: _pieces(content),
                hops=0,
            ) as response:
                return TrustedAnswer(response.status, await _read(response, target))
        except (InvalidArgument, TransferFailed) as fault:
            raise NoAnswerError(fault.detail, silent=True) from None

    async def ask_json(
        self, url: str, *, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
    ) -> Any:
        """Send a request whose answer is JSON.

        Raises
        ------
        NoAnswerError
            There is no such answer.
        """
        answer = await self.ask(url, headers={"Accept": "application/json", **(headers or {})}, form=form)
        if answer.status != HTTPStatus.OK:
            raise NoAnswerError(f"the answer has status {answer.status}")
        return answer.json()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _read(response: aiohttp.ClientResponse, url: URL) -> bytes:
    found = bytearray()
    with translated(url):
        while piece := await response.content.readany():
            found += piece
            if len(found) > _LARGEST:
                raise NoAnswerError(f"the answer is larger than {_LARGEST} bytes")
    return bytes(found)


def _hosts(settings: Settings) -> Iterator[str]:
    for provider in settings.oidc:
        yield urlsplit(provider.issuer).hostname or ""
        yield from provider.hosts
    for service in settings.gms:
        yield urlsplit(service.url).hostname or ""
