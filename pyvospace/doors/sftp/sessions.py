"""Sessions of SFTP as our servers need them.

asyncssh ends a session that was cut by closing its files, as if the client had asked for that: half a file would be
stored as a whole one. So we look at each request as it is read, and a server knows which `close` is a client's word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import asyncssh
from asyncssh.sftp import MAX_SFTP_READ_LEN, run_sftp_server
from asyncssh.stream import SSHReader, SSHServerStreamSession, SSHWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncssh.connection import SSHConnection

_HEAD: Final = 4
"""Bytes of the length before each request."""
_CLOSE: Final = 4
"""Type of the request that closes a file (draft-ietf-secsh-filexfer-02, section 3)."""
VERSION: Final = 3
LONGEST_READ: Final = MAX_SFTP_READ_LEN
"""Bytes that one request gets at most: clients are told so, and may ask for any number."""
SESSIONS: Final = 10
"""Sessions that one connection may have, as for OpenSSH."""
_LISTINGS: Final = 64
"""Listings that a session may have begun."""
_LEAVING: Final = 5.0
"""Seconds that a client has to close a connection without sessions."""
_PATH: Final = 1 << 16
"""Bytes of a path: an operation on a longer one would only be kept in memory."""


class Server(asyncssh.SFTPServer):
    """A server of one session; requests come one at a time.

    That of asyncssh serves the files of this machine: nothing of it is left.
    """

    closing = False
    """The client itself asks for the file that is being closed now."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(chan)
        self._listings = WeakSet[AsyncIterator[asyncssh.SFTPName]]()

    def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """Begin a listing, which ends when the client closes it; asyncssh would keep any number."""
        if len(path) > _PATH or len(self._listings) >= _LISTINGS:
            raise asyncssh.SFTPFailure("too many listings are open, or the path is too long")
        listing: AsyncIterator[asyncssh.SFTPName] = self.children(path)
        self._listings.add(listing)
        return listing

    def _refuse(self, *_: object, **__: object) -> Any:
        raise asyncssh.SFTPOpUnsupported("this is not possible here")

    open: Any = _refuse
    open56: Any = _refuse
    read: Any = _refuse
    write: Any = _refuse
    close: Any = _refuse
    stat: Any = _refuse
    lstat: Any = _refuse
    fstat: Any = _refuse
    setstat: Any = _refuse
    lsetstat: Any = _refuse
    fsetstat: Any = _refuse
    statvfs: Any = _refuse
    fstatvfs: Any = _refuse
    children: Any = _refuse
    remove: Any = _refuse
    mkdir: Any = _refuse
    rmdir: Any = _refuse
    realpath: Any = _refuse
    rename: Any = _refuse
    posix_rename: Any = _refuse
    readlink: Any = _refuse
    symlink: Any = _refuse
    link: Any = _refuse
    lock: Any = _refuse
    unlock: Any = _refuse
    fsync: Any = _refuse


class Requests(SSHReader[bytes]):
    """The requests of a session."""

    server: Server
    answers: SSHWriter[bytes]
    idle: float
    """Seconds that the client may be silent, and let answers wait."""

    async def readexactly(self, n: int) -> bytes:
        """Give the head of a request, or what follows it."""
        self.server.closing = False
        try:
            async with asyncio.timeout(self.idle):
                # Who asks and reads no answers is not asked for more: asyncssh would keep all of them in memory.
                await self.answers.drain()
                data = await super().readexactly(n)
        except TimeoutError:
            raise asyncssh.ConnectionLost("nothing came for too long") from None
        self.server.closing = n > _HEAD and data[0] == _CLOSE
        return data


class Session(SSHServerStreamSession[bytes]):
    """A channel that speaks SFTP and nothing else."""

    def __init__(self, serve: Callable[[asyncssh.SSHServerChannel[bytes]], Server], *, idle: float) -> None:
        super().__init__(None)
        self._serve = serve
        self._idle = idle

    def subsystem_requested(self, subsystem: str) -> bool:
        """Say whether it is SFTP."""
        return subsystem == "sftp"

    def session_started(self) -> None:
        """Serve until the client is gone."""
        chan, conn = self._chan, self._conn
        assert isinstance(chan, asyncssh.SSHServerChannel)  # noqa: S101 (for mypy: a server's session has one)
        assert conn is not None  # noqa: S101 (likewise)
        requests = Requests(self, chan)
        requests.server, requests.answers, requests.idle = self._serve(chan), SSHWriter(self, chan), self._idle
        conn.create_task(self._run(conn, requests), requests.logger)

    async def _run(self, conn: SSHConnection, requests: Requests) -> None:
        _count(conn, 1)
        await run_sftp_server(requests.server, requests, requests.answers, VERSION)
        # The client is to leave by itself: OpenSSH shows its user an error if the connection is closed before.
        left = _count(conn, -1)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._idle, _LEAVING)):
                await conn.wait_closed()
        if left == _count(conn, 0) == 0:
            conn.close()


def _count(conn: SSHConnection, more: int) -> int:
    """Give how many sessions a connection has open."""
    now = int(conn.get_extra_info("open_sessions", 0)) + more
    conn.set_extra_info(open_sessions=now)
    return now
