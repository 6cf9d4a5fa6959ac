"""Endpoints of transfers: one job, one file, one user and password.

The file has no other name than that which the client gives it, as in endpoints for HTTP, and nothing else is there.
A client may also come with ``user:password`` as the name of the user, and needs no password then: this is how OpenSSH
understands the URL of the endpoint.
"""

from __future__ import annotations

import logging
import secrets
import stat
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import asyncssh
from asyncssh import FXF_APPEND, FXF_WRITE, SFTPAttrs, SFTPName

from pyvospace.doors.sftp.faults import told
from pyvospace.doors.sftp.listening import Connections, host_key, listen
from pyvospace.doors.sftp.order import Ordered
from pyvospace.doors.sftp.sessions import LONGEST_READ, SESSIONS, Server, Session
from pyvospace.model.faults import Fault, InvalidArgument, NodeNotFound, PermissionDenied
from pyvospace.model.nodes import Param
from pyvospace.model.vocabulary import HOST_KEY, SFTP
from pyvospace.storage.jobpool import Download, Endpoint, JobPool, Origin, Upload
from pyvospace.storage.protocols import Offer, ProtocolConfig, ProtocolServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

log = logging.getLogger(__name__)

_FOLDERS: Final = frozenset({b"", b"/", b".", b"/."})
_EARLY: Final = 8 << 20
"""Bytes of an upload that may come before their turn."""
_FILES: Final = 32
"""Files that one session may have open: the one file, several times."""
_OPTIONS: Final = frozenset({"host", "port", "host_key", "public_host", "public_port", "connections", "idle"})


@dataclass(frozen=True, slots=True)
class Options:
    """The table ``[storage.protocols.sftp]``."""

    data: Path
    host: str
    port: int
    public: str
    """Host and port as clients see them."""
    connections: int
    idle: float
    key: Path | None

    @classmethod
    def read(cls, config: ProtocolConfig) -> Self:
        """Read them.

        Raises
        ------
        ValueError
            One is unknown, or is no number.
        """
        given = config.options
        if unknown := sorted(given.keys() - _OPTIONS):
            raise ValueError(f"storage.protocols.sftp does not know {unknown[0]}")
        port = _number(given, "port", 8022)
        public_host = str(given.get("public_host", config.public_host))
        if ":" in public_host:
            public_host = f"[{public_host}]"
        key = given.get("host_key")
        return cls(
            data=config.data,
            host=str(given.get("host", config.host)),
            port=port,
            public=f"{public_host}:{_number(given, 'public_port', port)}",
            connections=_number(given, "connections", 200),
            idle=_number(given, "idle", 300),
            key=config.data / str(key) if key is not None else None,
        )


def _number(given: Mapping[str, str | int], name: str, default: int) -> int:
    text = str(given.get(name, default))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"storage.protocols.sftp.{name}: {text!r} is no number")
    return int(text)


class SftpEndpoints(ProtocolServer):
    """The server of them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._connections = Connections(options.connections, options.connections)
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._pool: JobPool | None = None
        self._open: set[asyncssh.SSHServerConnection] = set()

    @classmethod
    def configure(cls, config: ProtocolConfig) -> Self:
        """Make one from the settings."""
        return cls(Options.read(config))

    async def start(self, pool: JobPool) -> Sequence[Offer]:
        """Listen."""
        options, self._pool = self._options, pool
        key = host_key(options.key, options.data)

        def serve() -> _Connection:
            return _Connection(pool, self._connections, self._open, options.idle)

        self._acceptor = await listen(options.host, options.port, serve, key=key)
        log.info("SFTP endpoints at port %d; host key %s", options.port, key.get_fingerprint())
        return [Offer(SFTP, f"sftp://{options.public}", (Param(HOST_KEY, key.get_fingerprint()),))]

    async def close(self) -> None:
        """Take nobody new, let transfers end, and cut off who is still there."""
        if self._acceptor is not None:
            self._acceptor.close()
        if self._pool is not None:
            await self._pool.drain()
        for connection in list(self._open):
            connection.abort()
            await connection.wait_closed()


class _Connection(asyncssh.SSHServer):
    """Somebody who comes with the user and password of an endpoint."""

    def __init__(
        self, pool: JobPool, connections: Connections, known: set[asyncssh.SSHServerConnection], idle: float
    ) -> None:
        self._pool = pool
        self._connections = connections
        self._known = known
        self._idle = idle
        self._conn: asyncssh.SSHServerConnection | None = None
        self._endpoint: Endpoint | None = None
        self._sessions = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Count it."""
        self._peer = Origin(conn.get_extra_info("peername")[0], secrets.token_hex(8))
        if not self._connections.admit("all"):
            conn.abort()
            return
        self._conn = conn
        self._known.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        del exc
        if self._conn is not None:
            self._known.discard(self._conn)
            self._connections.leave("all")

    async def begin_auth(self, username: str) -> bool:
        """Say whether more than the name of the user is needed."""
        user, colon, password = username.partition(":")
        return not (colon and await self.validate_password(user, password))

    def password_auth_supported(self) -> bool:
        """Say that passwords are taken."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Find the endpoint."""
        try:
            self._endpoint = await self._pool.log_in(username, password, self._peer)
        except Fault as fault:
            log.info("%s refused: %s", self._peer.request, fault.code)
            return False
        return True

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], Session] | bool:
        """Speak SFTP."""
        if self._conn is None or self._endpoint is None or self._sessions == SESSIONS:
            return False
        self._sessions += 1
        endpoint = self._endpoint
        channel = self._conn.create_server_channel(encoding=None)
        return channel, Session(lambda chan: _OneFile(chan, endpoint), idle=self._idle)


@dataclass(slots=True)
class _Taken:
    """A file that is being written."""

    upload: Upload
    left: AsyncExitStack
    order: Ordered = field(default_factory=lambda: Ordered(_EARLY))


@dataclass(slots=True)
class _Given:
    """A file that is being read."""

    download: Download
    left: AsyncExitStack


class _OneFile(Server):
    """A folder with the one file of an endpoint."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], endpoint: Endpoint) -> None:
        super().__init__(chan)
        self._endpoint = endpoint
        self._left = _FILES

    @told
    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> _Taken | _Given:
        """Begin to write or to read, as the endpoint is for."""
        del attrs
        if path in _FOLDERS:
            raise asyncssh.SFTPFailure("that is a folder")
        if not self._left:
            raise asyncssh.SFTPFailure("too many files are open")
        opened = await (self._open_to_write(pflags) if pflags & FXF_WRITE else self._open_to_read())
        self._left -= 1
        return opened

    async def _open_to_read(self) -> _Given:
        left = AsyncExitStack()
        return _Given(await left.enter_async_context(self._endpoint.download()), left)

    async def _open_to_write(self, flags: int) -> _Taken:
        if flags & FXF_APPEND:
            raise asyncssh.SFTPOpUnsupported("nothing can be appended: send the whole file")
        left = AsyncExitStack()
        return _Taken(await left.enter_async_context(self._endpoint.upload()), left)

    @told
    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Give some bytes."""
        if not isinstance(file_obj, _Given):
            raise PermissionDenied("this file was opened for writing")
        return await file_obj.download.read(offset, min(size, LONGEST_READ))

    @told
    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Take some bytes."""
        if not isinstance(file_obj, _Taken):
            raise PermissionDenied("this file was opened for reading")
        for piece in file_obj.order.take(offset, data):
            await file_obj.upload.write(piece)
        return len(data)

    @told
    async def close(self, file_obj: object) -> None:
        """Store what was written, unless the client was cut off: it hears of it only when that is done."""
        assert isinstance(file_obj, (_Taken, _Given))  # noqa: S101 (open gives nothing else)
        self._left += 1
        async with file_obj.left:
            if self.closing and isinstance(file_obj, _Taken):
                if not file_obj.order.whole:
                    raise InvalidArgument("a part in the middle of the file did not come")
                await file_obj.upload.commit()

    @told
    async def stat(self, path: bytes) -> SFTPAttrs:
        """Tell what there is."""
        if path in _FOLDERS:
            return SFTPAttrs(permissions=stat.S_IFDIR | 0o700, nlink=2)
        if self._endpoint.operation == "put":
            stored = await self._endpoint.current()
            if stored is None:
                raise NodeNotFound("nothing is there yet")
            return _attributes(stored.size, None)
        async with self._endpoint.download() as download:
            return _attributes(download.size, download.modified)

    @told
    async def lstat(self, path: bytes) -> SFTPAttrs:
        """Do the same: there are no links."""
        return await self.stat(path)

    @told
    async def fstat(self, file_obj: object) -> SFTPAttrs:
        """Tell of an open file."""
        if isinstance(file_obj, _Given):
            return _attributes(file_obj.download.size, file_obj.download.modified)
        assert isinstance(file_obj, _Taken)  # noqa: S101 (open gives nothing else)
        return _attributes(file_obj.order.position, None)

    async def setstat(self, *_: object) -> None:
        """Keep no times and modes, which many clients send unasked."""

    async def fsetstat(self, *_: object) -> None:
        """Likewise."""

    async def children(self, path: bytes) -> AsyncIterator[SFTPName]:
        """List the file, if it can be read."""
        if path not in _FOLDERS:
            raise asyncssh.SFTPNoSuchFile("there are no folders")
        yield SFTPName(b".", attrs=SFTPAttrs(permissions=stat.S_IFDIR | 0o700, nlink=2))
        if self._endpoint.operation == "get":
            name, attrs = await self._file()
            yield SFTPName(name.encode(), attrs=attrs)

    @told
    async def _file(self) -> tuple[str, SFTPAttrs]:
        async with self._endpoint.download() as download:
            return download.name, _attributes(download.size, download.modified)

    def realpath(self, path: bytes) -> bytes:
        """Everything is in one folder."""
        return b"/" if path in _FOLDERS else b"/" + path.rsplit(b"/", 1)[-1]


def _attributes(size: int, modified: datetime | None) -> SFTPAttrs:
    when = int(modified.timestamp()) if modified is not None else 0
    return SFTPAttrs(size=size, permissions=stat.S_IFREG | 0o600, nlink=1, atime=when, mtime=when)
