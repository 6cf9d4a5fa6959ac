"""SSH keys, by the service: one's own, or as an administrator those of others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from pyvospace.client.service import Service
from pyvospace.model.faults import InvalidData

_JSON = {"Content-Type": "application/json"}


class Keys(Service):
    """The keys at a service. `user` is a name; None: whoever the credential names."""

    async def add(
        self, user: str | None, name: str, key: str, *, paths: Sequence[str], rights: Sequence[str]
    ) -> dict[str, Any]:
        """Let a public key, as OpenSSH writes it, speak for a user; give what the service says of it."""
        body = json.dumps({"name": name, "key": key, "paths": list(paths), "rights": list(rights)}).encode()
        answer = await self._http.ask("POST", self._list(user), body=body, headers=_JSON, repeatable=False)
        return _read(answer.body)

    async def every(self, user: str | None) -> list[dict[str, Any]]:
        """Give the keys, oldest first."""
        found = _read((await self._http.ask("GET", self._list(user))).body)
        return list(found.get("items", ()))

    async def remove(self, user: str | None, number: int) -> None:
        """Let a key speak for nobody."""
        await self._http.ask("DELETE", f"{self._list(user)}/{number}")

    def _list(self, user: str | None) -> str:
        where = "profile" if user is None else f"admin/users/{quote(user, safe='')}"
        return f"{self.url}/{where}/keys"


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidData("the service answers with something else than JSON")
    return found
