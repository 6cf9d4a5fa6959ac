"""The audit log, as the service streams it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from pyvospace.client.http import pieces
from pyvospace.client.service import Service
from pyvospace.model.audit import ALL, Filters
from pyvospace.model.faults import InvalidData
from pyvospace.model.vocabulary import STANDARD_AUDIT

if TYPE_CHECKING:
    from pyvospace.client.http import Http
    from pyvospace.model.uris import NodeUri

_LONGEST: Final = 16 << 20
"""Of a line."""


class Auditing(Service):
    """The audit log of one service."""

    async def audit(
        self, uri: NodeUri | str | None = None, filters: Filters = ALL
    ) -> AsyncGenerator[Mapping[str, Any]]:
        """Give rows that the caller may see, of one node or of any, oldest first, as they arrive.

        Raises
        ------
        OperationNotSupported
            The service has no audit log.
        InvalidData
            What arrives is no lines of JSON objects, or breaks off.
        """
        target = {} if uri is None else {"target": str(await self.uri(uri))}
        url = f"{await self._url(STANDARD_AUDIT)}?{urlencode(target | filters.parameters)}"
        async with aclosing(_rows(self._http, url)) as rows:
            async for row in rows:
                yield row


async def _rows(http: Http, url: str) -> AsyncGenerator[Mapping[str, Any]]:
    rest = b""
    async with http.open("GET", url) as response, aclosing(pieces(response)) as arriving:
        async for piece in arriving:
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _LONGEST:
                raise InvalidData("the audit log has a line without an end")
            for line in lines:
                yield _row(line)
    if rest:
        raise InvalidData("the audit log broke off in the middle of a line")


def _row(line: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise InvalidData("a line of the audit log is no JSON object")
    return row
