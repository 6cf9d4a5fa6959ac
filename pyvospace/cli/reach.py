"""How commands of administration reach a space: the service, with the caller's credential, or its database.

One rule for all of them. Who names a database reaches it, and may everything: ``--data``, ``--config``, or one of the
variables PYVOSPACE_DATABASE__DSN, PYVOSPACE_CONFIG and PYVOSPACE_DATA. Else it is the service that ``--url``,
VOSPACE_URL or the client's file names; if none does, the database that the usual files of settings name, or that of
``pyvospace up``.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from pyvospace.model.faults import InvalidArgument

if TYPE_CHECKING:
    from pyvospace.db.pool import Database
    from pyvospace.model.callers import Caller

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings (TOML) that name the database to reach.")
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Directory of the `pyvospace up` whose database to reach."),
]
_VARIABLES: Final = ("PYVOSPACE_DATABASE__DSN", "PYVOSPACE_CONFIG", "PYVOSPACE_DATA")


@dataclass(frozen=True, slots=True)
class Reach:
    """What the options of a command say."""

    config: Path | None = None
    data: Path | None = None
    url: str | None = None
    token: str | None = None
    ca_file: Path | None = None

    def at_database(self) -> bool:
        """Say whether the command is for the database; else it is for the service.

        Raises
        ------
        InvalidArgument
            The options name both.
        """
        database = self.config is not None or self.data is not None
        service = self.url is not None or self.token is not None
        if database and service:
            raise InvalidArgument("--data and --config lead to the database, --url and --token to the service: choose")
        if database or service:
            return database
        if any(os.environ.get(name) for name in _VARIABLES):
            return True
        from pyvospace.client.access import Access, find_spaces

        return find_spaces(Access()).default.url is None


def with_database(config: Path | None, data: Path | None, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the database that options, environment and files name."""
    from pyvospace.config import load
    from pyvospace.db.pool import Database
    from pyvospace.supervisor.data import find_dsn

    settings = load(config)
    dsn = find_dsn(settings, data)

    async def run() -> T:
        database = await Database.connect(dsn, settings.database, name="pyvospace admin", acting=operator())
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def operator() -> Caller:
    """Give whoever runs this command, for the audit log."""
    from pyvospace.model.callers import Caller

    return Caller(name="(operator)", credential=f"command line of {_account()}")


def _account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # has no entry in the password file
        return str(os.getuid())
