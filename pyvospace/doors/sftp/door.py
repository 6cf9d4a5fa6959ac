"""The SFTP door: users come with their SSH keys, and find the space as a tree of files.

A door decides nothing. It finds out whose key somebody holds, and acts for that user with a token of an hour, which
dies with the key; everything else the metadata servers decide.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncssh

from pyvospace.db import identities, ssh_keys
from pyvospace.db.bootstrap import new_token
from pyvospace.db.pool import Database, acting
from pyvospace.doors.sftp.listening import Connections, host_key, listen
from pyvospace.doors.sftp.sessions import SESSIONS, Session
from pyvospace.doors.sftp.spaces import DoorSpace
from pyvospace.doors.sftp.spool import Spool
from pyvospace.doors.sftp.tree import Tree
from pyvospace.model.callers import Caller, Origin
from pyvospace.model.faults import Fault, NotAuthenticated
from pyvospace.service.serving import stop_event
from pyvospace.service.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyvospace.config import Settings

log = logging.getLogger(__name__)

_LIFE: Final = 3600.0
"""Seconds that the token of a key is good for."""
_RENEWED: Final = 900.0
"""Seconds before its end in which it is used no more."""


@dataclass(slots=True)
class Tokens:
    """The tokens that this door has made, one for each key."""

    database: Database
    _known: dict[int, tuple[str, float]] = field(default_factory=dict)
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, user: str, key: int, origin: Origin) -> str:
        """Give the token of the moment.

        Raises
        ------
        NotAuthenticated
            The key speaks for nobody any more.
        """
        async with self._making:
            token, until = self._known.get(key, ("", 0.0))
            if time.monotonic() < until - _RENEWED:
                return token
            token, digest = new_token()
            acting.set(Caller(name=user, credential=f"SSH key {key}", origin=origin))
            if not await ssh_keys.open_session(self.database, key, digest, life=_LIFE):
                raise NotAuthenticated("the key is not known any more", invalid=True)
            self._known[key] = token, time.monotonic() + _LIFE
            return token


class Visitor:
    """The client of a session, with the token of the moment.

    Parameters
    ----------
    token
        Gives it.
    """

    def __init__(self, settings: Settings, token: Callable[[], Awaitable[str]]) -> None:
        self._settings = settings
        self._token = token
        self._used = ""
        self._spaces: list[DoorSpace] = []

    async def space(self) -> DoorSpace:
        """Give the client."""
        token = await self._token()
        if token is not self._used:
            settings = self._settings
            space = DoorSpace(
                settings.metadata.public_url, token=token, authority=settings.authority, ca_file=settings.sftp.ca_file
            )
            self._spaces.append(space)
            self._used = token
        return self._spaces[-1]

    async def close(self) -> None:
        """Close all connections."""
        for space in self._spaces:
            await space.close()


class Door:
    """What all connections share."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.tokens = Tokens(database)
        self.throttle = Throttle(database, settings.logins)
        self.spool = Spool(settings.sftp.data / "spool", settings.sftp.spool_bytes)
        self.connections = Connections(settings.sftp.connections, settings.sftp.connections)
        self.users = Connections(settings.sftp.connections, settings.sftp.connections_of_user)
        self.open: set[asyncssh.SSHServerConnection] = set()
        self.leaving: set[asyncio.Task[None]] = set()

    def leave(self, visitor: Visitor) -> None:
        """Close a client whose session has ended."""
        task = asyncio.create_task(visitor.close())
        self.leaving.add(task)
        task.add_done_callback(self.leaving.discard)

    async def end(self) -> None:
        """Cut off who is there."""
        for connection in list(self.open):
            connection.abort()
            await connection.wait_closed()
        if self.leaving:
            await asyncio.wait(self.leaving)


class Connection(asyncssh.SSHServer):
    """Somebody at the door."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._conn: asyncssh.SSHServerConnection | None = None
        self._visitor: Visitor | None = None
        self._user = ""
        self._sessions = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Count it."""
        self._origin = Origin(conn.get_extra_info("peername")[0], secrets.token_hex(8))
        if not self._door.connections.admit(self._origin.remote):
            conn.abort()
            return
        self._conn = conn
        self._door.open.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        del exc
        if self._conn is not None:
            self._door.open.discard(self._conn)
            self._door.connections.leave(self._origin.remote)
        if self._user:
            self._door.users.leave(self._user)
        if self._visitor is not None:
            self._door.leave(self._visitor)

    def public_key_auth_supported(self) -> bool:
        """Say that keys are taken."""
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Say whether the key speaks for the user; that he has it, asyncssh finds out."""
        try:
            found = await ssh_keys.find(self._door.database, username, key.get_fingerprint())
        except Fault as fault:
            log.warning("%s: nobody can be let in: %s", self._origin.request, fault)
            return False
        if found is None:
            return False
        self._visitor = Visitor(self._door.settings, partial(self._door.tokens.of, username, found, self._origin))
        return True

    def password_auth_supported(self) -> bool:
        """Say whether API tokens are taken."""
        return self._door.settings.sftp.passwords

    async def validate_password(self, username: str, password: str) -> bool:
        """Say whether the password is an API token of the user."""
        digest = hashlib.sha256(password.encode("utf-8", "replace")).digest()
        try:
            caller = await identities.by_token(self._door.database, digest)
            if caller is None or caller.name != username:
                await self._door.throttle.wrong(self._origin.remote)
                return False
        except Fault as fault:
            log.warning("%s: nobody can be let in: %s", self._origin.request, fault)
            return False
        self._visitor = Visitor(self._door.settings, partial(_the_same, password))
        return True

    def auth_completed(self) -> None:
        """Count the user."""
        assert self._conn is not None  # noqa: S101 (nobody else is asked who he is)
        user = self._conn.get_extra_info("username")
        if not self._door.users.admit(user):
            self._conn.abort()
            return
        self._user = user
        log.info("%s: %s came from %s", self._origin.request, user, self._origin.remote)

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], Session] | bool:
        """Speak SFTP."""
        if self._conn is None or self._visitor is None or not self._user or self._sessions == SESSIONS:
            return False
        self._sessions += 1
        door, visitor = self._door, self._visitor
        home = door.settings.homes.parent.rstrip("/") + "/" + self._user

        def serve(chan: asyncssh.SSHServerChannel[bytes]) -> Tree:
            return Tree(chan, visitor.space, door.spool, home=home, open_files=door.settings.sftp.open_files)

        channel = self._conn.create_server_channel(encoding=None)
        return channel, Session(serve, idle=door.settings.sftp.idle_timeout)


async def _the_same(token: str) -> str:
    return token


def run(settings: Settings) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    Raises
    ------
    ValueError
        A setting is wrong.
    """
    asyncio.run(_main(settings))


async def _main(settings: Settings) -> None:
    stop, sftp = stop_event(), settings.sftp
    dsn, direct = settings.database.dsn, settings.database.direct_dsn
    if dsn is None:
        raise ValueError("database.dsn is not set")
    key = host_key(sftp.host_key, sftp.data)
    database = await Database.connect(
        dsn.get_secret_value(),
        settings.database,
        direct=direct.get_secret_value() if direct else None,
        name="pyvospace-sftp",
    )
    try:
        door = Door(settings, database)
        door.spool.prepare()
        acceptor = await listen(sftp.host, sftp.port, lambda: Connection(door), key=key)
        log.info("SFTP at %s:%d; host key %s", sftp.host, sftp.port, key.get_fingerprint())
        await stop.wait()
        acceptor.close()
        await acceptor.wait_closed()
        await door.end()
    finally:
        await database.close()
