"""Administration at the database, for the operator of a machine: what the REST interface does, without a server."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from pyvospace.config import load
from pyvospace.db import identities
from pyvospace.db.allocations import user_id
from pyvospace.db.bootstrap import ADMIN
from pyvospace.db.pool import Database
from pyvospace.model.callers import Caller, StaleCallerError
from pyvospace.model.faults import NotFound, ServiceBusy
from pyvospace.server.administration.routes import Route, serve
from pyvospace.server.administration.table import ROUTES
from pyvospace.server.app import make_service
from pyvospace.server.context import Context, Service
from pyvospace.supervisor.data import find_dsn

if TYPE_CHECKING:
    from pathlib import Path

_STARTS: Final = 3
_NAME: Final = "(operator)"
"""In the audit log; no user can be called so."""
_PLACE: Final = re.compile(r"\\\{(\w+)\\\}")


class Operator:
    """Whoever may read the settings of the database may everything."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ask(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:
        """Do what a request would; give the JSON of its answer.

        Raises
        ------
        Fault
            What the service would answer.
        """
        route, names = _find(method, path)
        content = json.dumps(body).encode()

        async def read() -> bytes:
            return content

        asked = {name: [value] for name, value in (query or {}).items()}
        for _ in range(_STARTS):
            await self._service.watch.look()
            context = Context(self._service, await _caller(self._service.database), self._service.watch.current)
            try:
                return (await serve(context, route, names=names, query=asked, body=read)).value
            except StaleCallerError:
                continue
        raise ServiceBusy("users and groups are changing; try again")


async def _caller(database: Database) -> Caller:
    """Act as the first administrator, whom every space has; disabled or not, for who else would let him in again."""
    return Caller(
        id=await user_id(database, ADMIN),
        name=_NAME,
        admin=True,
        epoch=await identities.epoch(database),
        credential=f"command line of {_account()}",
    )


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an account without a name"


def _find(method: str, path: str) -> tuple[Route, dict[str, str]]:
    for route in ROUTES:
        pattern = _PLACE.sub(r"(?P<\1>[^/]+)", re.escape(route.path))
        if route.method == method and (match := re.fullmatch(pattern, path)):
            return route, {name: unquote(value) for name, value in match.groupdict().items()}
    raise NotFound("there is no such resource")


@asynccontextmanager
async def operator(config: Path | None, data: Path | None) -> AsyncIterator[Operator]:
    """Reach the database that options, environment and files name."""
    settings = load(config)
    database = await Database.connect(find_dsn(settings, data), settings.database, name="pyvospace admin")
    try:
        space = await identities.space(database)
        if space is not None:
            groups = settings.groups.model_copy(update={"prefixes": space.group_prefixes})
            settings = settings.model_copy(update={"authority": space.authority, "groups": groups})
        yield Operator(make_service(settings, database))
    finally:
        await database.close()
