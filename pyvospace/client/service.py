"""A service as its clients see it: where its resources are, who asks, and what short URIs mean."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Self

from pyvospace.client.access import Access
from pyvospace.client.failures import ServiceUnreachable
from pyvospace.client.http import Http, Timeouts
from pyvospace.client.locations import is_relative, resolve
from pyvospace.client.logins import StoredLogin
from pyvospace.client.retry import Retry
from pyvospace.model.faults import Fault, InvalidData, InvalidURI, NotFound, OperationNotSupported, PermissionDenied
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import STANDARD_NODES
from pyvospace.wire.nodes import read_node
from pyvospace.wire.vosi import parse_capabilities


class Service:
    """The service of one space: where it is, and what its URIs mean. See `Space` for the parameters."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        authority: str | None = None,
        home: str | None = None,
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        connections: int = 32,
    ) -> None:
        access = Access(url=url, token=token, user=user, password=password, authority=authority)
        self.url = access.url or url
        self._authority = access.authority
        self._home = home
        self._urls: dict[str, str] | None = None
        self._finding = asyncio.Lock()
        self._http = Http(
            self.url,
            authorization=access.authorization(),
            ca_file=ca_file,
            timeouts=timeouts,
            retry=retry,
            connections=connections,
        )

    @classmethod
    def of(cls, access: Access, *, timeouts: Timeouts | None = None, retry: Retry | None = None) -> Self:
        """Make the client of a space that the configuration knows; without another credential, by a login.

        Raises
        ------
        InvalidArgument
            The configuration names no URL.
        """
        made = cls(**access.parameters(), timeouts=timeouts, retry=retry)
        made.use_login(access)
        return made

    def use_login(self, access: Access) -> None:
        """Use the login that is kept for the service, unless `access` has another credential."""
        if access.authorization() is None:
            self._http.authorize(StoredLogin.find(self.url, ca_file=access.ca_file))

    @property
    def anonymous(self) -> bool:
        """Whether the service is not told who asks: there is neither a credential nor a login."""
        return self._http.anonymous

    async def __aenter__(self) -> Self:
        """Connect when the first request comes."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def disown(self) -> None:
        """Leave the connections to the process that this one was forked from; this one makes others."""
        self._http.disown()

    # ------------------------------------------------------------------ where things are

    async def uri(self, text: NodeUri | str) -> NodeUri:
        """Read a URI in any form.

        Raises
        ------
        InvalidURI
            It is none, or of another space.
        """
        authority = await self.authority()
        if isinstance(text, NodeUri):
            uri = text
        else:
            if self._home is None and is_relative(text):
                self._home = await self._home_of_caller()
            uri = resolve(text, authority, self._home)
        if uri.authority != authority:
            raise InvalidURI(f"{uri} is not of the space {authority} at {self.url}")
        return uri

    async def authority(self) -> str:
        """Tell the name of the space: what was given, else what the root container says."""
        if self._authority is None:
            root = f"{await self._url(STANDARD_NODES)}?limit=0"
            try:
                answer = await self._http.ask("GET", root)
            except PermissionDenied:  # a token that is limited; nobody may often read the root all the same
                answer = await self._http.ask("GET", root, credential=False)
            self._authority = read_node(answer.body).uri.authority
        return self._authority

    async def _home_of_caller(self) -> str:
        """Ask the service for it (an extension of our own); empty: there is none, or the service does not say."""
        try:
            answer = await self._http.ask("GET", f"{self.url}/profile")
            return str(json.loads(answer.body)["home"] or "")
        except ServiceUnreachable:
            raise
        except (Fault, ValueError, KeyError, TypeError):
            return ""

    async def _url(self, *standards: str) -> str:
        """Find the URL of a resource, by the first of its names that the service knows."""
        known = await self._resources()
        for standard in standards:
            if standard in known:
                return known[standard]
        raise OperationNotSupported(f"{self.url} offers no {standards[0]}")

    async def _offers(self, standard: str) -> bool:
        """Say whether the service has a resource."""
        return standard in await self._resources()

    async def _resources(self) -> dict[str, str]:
        if self._urls is not None:
            return self._urls
        async with self._finding:
            if self._urls is None:
                try:
                    answer = await self._http.ask("GET", f"{self.url}/capabilities")
                    known = reversed(parse_capabilities(answer.body))
                except (InvalidData, NotFound) as fault:
                    raise type(fault)(f"there is no VOSpace at {self.url} (/capabilities: {fault.detail})") from None
                self._urls = {one.standard_id: one.url.rstrip("/") for one in known}
        return self._urls
