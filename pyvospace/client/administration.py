"""Profile, groups and administration of a service: resources of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from pyvospace.client.service import Service
from pyvospace.model.faults import InvalidData


class Administration(Service):
    """A client of these resources; docs/reference/administration.json describes them."""

    async def ask(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:
        """Send a request and give the JSON of the answer; None: there is none.

        Parameters
        ----------
        path
            Percent-encoded, below the URL of the service.
        body
            What is sent as JSON.

        Raises
        ------
        Fault
            What the service answered.
        """
        url = f"{self.url}{path}{'?' if query else ''}{urlencode(query or {}, quote_via=quote)}"
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if sent is not None else None
        answer = await self._http.ask(method, url, body=sent, headers=headers, repeatable=method != "POST")
        if not answer.body:
            return None
        try:
            return json.loads(answer.body)
        except ValueError:
            raise InvalidData(f"{self.url}{path} answers with something else than JSON") from None
