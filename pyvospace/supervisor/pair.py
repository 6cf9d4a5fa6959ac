"""`pyvospace up`: a database, a metadata server and a storage server, all from one directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyvospace.config import ConfigError, Problem, Settings, load
from pyvospace.config.load import as_environment, environment_of
from pyvospace.config.settings import ServerSettings
from pyvospace.db.bootstrap import bootstrap, create_token
from pyvospace.db.migrations import migrate
from pyvospace.db.pool import Database
from pyvospace.supervisor.accounts import become_owner
from pyvospace.supervisor.data import DATABASE, STORAGE_ROLE, Access, ClusterFile, DataDirectory
from pyvospace.supervisor.postgres import Cluster, Say
from pyvospace.supervisor.processes import Processes, reap_adopted, until_signalled
from pyvospace.supervisor.workers import begin, programs, require_free_port, wait_until_ready

FIRST_USER = "user"
"""Name of the ordinary user unless another is asked for."""
_SPARE_CONNECTIONS = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line of `pyvospace up` may say; None: what the settings say."""

    data: Path
    config: Path | None = None
    host: str | None = None
    port: int | None = None
    workers: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    user: str | None = None


def up(options: Options, *, say: Say, announce: Callable[[Access], None]) -> None:
    """Run the pair until SIGINT or SIGTERM.

    Parameters
    ----------
    say
        Told of what takes long or is worth knowing.
    announce
        Told once, when both servers answer and ``access.env`` is written.

    Raises
    ------
    ConfigError
        A setting is wrong.
    SupervisorError
        The data are in use, a port is taken, or a part does not start.
    """
    become_owner(options.data)
    data = DataDirectory(options.data)
    settings, overrides = settings_of_pair(options, data)
    begin(settings)
    with data.owned():
        require_free_port(settings.metadata)
        require_free_port(settings.storage)
        pair = _Pair(data, settings, environment_of(options.config, overrides), say, options.user)
        asyncio.run(until_signalled(pair.run(announce), pair.servers))


def settings_of_pair(options: Options, data: DataDirectory) -> tuple[Settings, dict[str, Any]]:
    """Give the settings of the pair, and what it lays over those of file and environment.

    The storage server listens at the next port and keeps its bytes with the data, unless a setting says otherwise.

    Raises
    ------
    ConfigError
        Also if a database is named: the pair brings one of its own.
    """
    given = {
        name: value
        for name in ("host", "workers", "tls_cert", "tls_key")
        if (value := getattr(options, name)) is not None
    }
    metadata = given if options.port is None else {**given, "port": options.port}
    settings = load(options.config, {"metadata": metadata})
    if settings.database.dsn or settings.database.storage_dsn:
        raise ConfigError(
            [
                Problem(
                    "database.dsn",
                    "`pyvospace up` brings a database of its own; "
                    "for yours run `pyvospace migrate`, `pyvospace metadata` and `pyvospace storage`",
                )
            ]
        )
    storage: dict[str, Any] = dict(given)
    if options.port is not None or "port" not in settings.storage.model_fields_set:
        storage["port"] = settings.metadata.port + 1
    if "path" not in settings.storage.model_fields_set:
        storage["path"] = data.storage
    overrides = {"metadata": metadata, "storage": storage}
    return load(options.config, overrides), overrides


class _Pair:
    """The processes of one `pyvospace up`."""

    def __init__(
        self, data: DataDirectory, settings: Settings, environment: Mapping[str, str], say: Say, user: str | None
    ) -> None:
        self.servers = Processes()
        self._data = data
        self._settings = settings
        self._environment = environment
        self._say = say
        self._user = user

    async def run(self, announce: Callable[[Access], None]) -> None:
        """Start everything, and stop it in the opposite order when cancelled."""
        database = Processes()
        cluster = Cluster(self._data, say=self._say, options={"max_connections": str(self._connections())})
        async with _as_first_process(), database, cluster.running(database) as known, self.servers:
            await migrate(known.dsn(DATABASE))
            access = await self._access(known.dsn(DATABASE))
            await self._start_servers(known)
            self._data.write_access(access)
            announce(access)
            await asyncio.Event().wait()

    async def _start_servers(self, known: ClusterFile) -> None:
        settings = self._settings
        database = {"metadata": {"dsn": known.dsn(DATABASE)}, "storage": {"storage_dsn": known.dsn(STORAGE_ROLE)}}
        metadata = programs("metadata", settings.metadata, self._with(database["metadata"]))
        storage = programs("storage", settings.storage, self._with(database["storage"]))
        running = [await self.servers.start(program) for program in (*metadata, *storage)]
        await wait_until_ready("metadata", settings.metadata, running)
        await wait_until_ready("storage", settings.storage, running)

    def _with(self, database: dict[str, str]) -> dict[str, str]:
        return {**self._environment, **as_environment({"database": database})}

    async def _access(self, dsn: str) -> Access:
        """Make what a space needs, and a token unless there is one in ``access.env``."""
        settings = self._settings
        known = self._data.access()
        user = self._user or (known.user if known else FIRST_USER)
        made = await bootstrap(
            dsn,
            settings=settings.database,
            authority=settings.authority,
            group_prefixes=settings.group_prefixes,
            user=user,
        )
        token = made.token or (known.token if known and known.user == user else None)
        if token is None:
            database = await Database.connect(dsn, settings.database)
            try:
                token = await create_token(database, user, "access.env")
            finally:
                await database.close()
        return Access(settings.metadata.public_url, settings.authority, user, token)

    def _connections(self) -> int:
        def most(server: ServerSettings) -> int:
            return server.workers * self._settings.database.pool_size

        return max(100, most(self._settings.metadata) + most(self._settings.storage) + _SPARE_CONNECTIONS)


@contextlib.asynccontextmanager
async def _as_first_process() -> AsyncIterator[None]:
    """Do the duty of process 1 if we are it, as in a container."""
    if os.getpid() != 1:
        yield
        return
    task = asyncio.create_task(reap_adopted())
    try:
        yield
    finally:
        task.cancel()
