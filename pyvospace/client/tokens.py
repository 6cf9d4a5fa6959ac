"""API tokens, by the service itself: one's own, or as an administrator those of others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from pyvospace.client.service import Service
from pyvospace.model.faults import InvalidData

_JSON = {"Content-Type": "application/json"}


class Tokens(Service):
    """The tokens at a service. `user` is a name; None: whoever the credential names."""

    async def create(
        self, user: str | None, name: str, *, days: int | None, paths: Sequence[str], rights: Sequence[str]
    ) -> str:
        """Make a token; it is shown only this once."""
        asked = {"name": name, "paths": list(paths), "rights": list(rights), **({"days": days} if days else {})}
        body = json.dumps(asked).encode()
        answer = await self._http.ask("POST", self._list(user), body=body, headers=_JSON, repeatable=False)
        return str(_member(answer.body, "token"))

    async def every(self, user: str | None) -> AsyncIterator[dict[str, Any]]:
        """Give the tokens, oldest first, without what is secret of them."""
        after = ""
        while True:
            answer = await self._http.ask("GET", f"{self._list(user)}{after}")
            for one in _member(answer.body, "items"):
                yield one
            following = _member(answer.body, "next")
            if following is None:
                return
            after = f"?after={quote(str(following), safe='')}"

    async def revoke(self, user: str | None, number: int) -> None:
        """Revoke a token."""
        await self._http.ask("DELETE", f"{self._list(user)}/{number}")

    def _list(self, user: str | None) -> str:
        where = "profile" if user is None else f"admin/users/{quote(user, safe='')}"
        return f"{self.url}/{where}/tokens"


def _member(body: bytes, name: str) -> Any:
    try:
        return json.loads(body)[name]
    except (ValueError, KeyError, TypeError):
        raise InvalidData(f"the service answers without {name}") from None
