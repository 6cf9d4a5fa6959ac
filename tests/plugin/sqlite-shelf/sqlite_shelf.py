"""A storage backend that keeps bytes in an SQLite database, as pieces of up to 2 MiB."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Self
from uuid import UUID, uuid4

from pyvospace.model.faults import InsufficientStorage, ServiceBusy
from pyvospace.storage.backend import (
    BackendConfig,
    Body,
    ByteRange,
    Download,
    DownloadJob,
    StorageBackend,
    StreamBytes,
    UploadJob,
    in_thread,
)

_SCHEMA = """
create table if not exists place (one integer primary key check (one = 1), id text not null);
create table if not exists pieces (
    upload text, number integer, start integer not null, bytes blob not null, written real not null,
    primary key (upload, number));
create table if not exists shelf (location text primary key, upload text unique not null, published real not null);
"""
_LISTED_AT_ONCE = 1000


class SqliteShelf(StorageBackend):
    """Pieces belong to an upload; a row of ``shelf`` makes an upload visible under a location."""

    def __init__(self, config: BackendConfig, timeout: float) -> None:
        self._path = config.path
        self._timeout = timeout

    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Take the one option: ``timeout``, seconds to wait for other writers."""
        options = dict(config.options)
        timeout = float(options.pop("timeout", "60"))
        if options:
            raise ValueError(f"storage.options: the shelf does not know {', '.join(options)}")
        return cls(config, timeout)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path / "shelf.sqlite", timeout=self._timeout, check_same_thread=False)
        connection.execute("pragma synchronous = full")  # a commit survives a power cut
        return connection

    @contextmanager
    def _shelf(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction, and say in the words of pyvospace what the client can do about it."""
        try:
            with closing(self._connect()) as connection, connection:
                yield connection
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise ServiceBusy("others keep the shelf locked") from error
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise InsufficientStorage("the shelf is full") from error
            raise

    async def start(self) -> UUID:
        """Make the tables, and an identity for a new place."""
        return await in_thread(self._start)

    def _start(self) -> UUID:
        self._path.mkdir(parents=True, exist_ok=True)
        with self._shelf() as connection:
            connection.execute("pragma journal_mode = wal")
            connection.executescript(_SCHEMA)
            connection.execute("insert or ignore into place values (1, ?)", [str(uuid4())])
            return UUID(connection.execute("select id from place").fetchone()[0])

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Keep the pieces as they come; put them on the shelf inside the transaction."""
        try:
            await self._keep(job.id, body)
            async with job.transaction() as transaction:
                location = uuid4().hex
                await transaction.store(location)
                await in_thread(self._publish, job.id, location)
        except BaseException:
            await in_thread(self._forget, job.id)
            raise

    async def _keep(self, upload: str, body: Body) -> None:
        number = start = 0
        async for piece in body:
            await in_thread(self._append, upload, number, start, piece)
            number += 1
            start += len(piece)

    def _append(self, upload: str, number: int, start: int, piece: bytes) -> None:
        with self._shelf() as connection:
            now = datetime.now(UTC).timestamp()
            connection.execute("insert into pieces values (?, ?, ?, ?, ?)", [upload, number, start, piece, now])

    def _publish(self, upload: str, location: str) -> None:
        with self._shelf() as connection:
            now = datetime.now(UTC).timestamp()
            connection.execute("insert into shelf values (?, ?, ?)", [location, upload, now])

    def _forget(self, upload: str) -> None:
        """Delete pieces, but not those on the shelf: if the outcome of the commit is unknown, a node may name them."""
        with self._shelf() as connection:
            connection.execute(
                "delete from pieces where upload = ? and upload not in (select upload from shelf)", [upload]
            )

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Give the pieces that the range touches, cut to the range."""
        upload = await in_thread(self._find, job.location)
        if upload is None:
            raise FileNotFoundError(job.location)
        return StreamBytes(self._pieces(upload, byte_range or ByteRange(0, job.size)))

    def _find(self, location: str) -> str | None:
        with self._shelf() as connection:
            row = connection.execute("select upload from shelf where location = ?", [location]).fetchone()
        return row[0] if row else None

    async def _pieces(self, upload: str, span: ByteRange) -> AsyncIterator[bytes]:
        position = span.start
        while position < span.stop:
            piece = await in_thread(self._piece, upload, position, span.stop)
            if not piece:
                return  # the core notices that bytes are missing and cuts the connection
            position += len(piece)
            yield piece

    def _piece(self, upload: str, position: int, stop: int) -> bytes:
        with self._shelf() as connection:
            row = connection.execute(
                "select start, bytes from pieces where upload = ? and start <= ? order by start desc limit 1",
                [upload, position],
            ).fetchone()
        return row[1][position - row[0] : stop - row[0]] if row else b""

    async def delete(self, location: str) -> None:
        """Delete the row of the shelf and the pieces behind it, all or nothing."""
        await in_thread(self._delete, location)

    def _delete(self, location: str) -> None:
        with self._shelf() as connection:
            connection.execute(
                "delete from pieces where upload = (select upload from shelf where location = ?)", [location]
            )
            connection.execute("delete from shelf where location = ?", [location])

    async def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """Go through the shelf, some rows at a time."""
        last = ""
        while rows := await in_thread(self._list, last):
            for location, published in rows:
                yield location, datetime.fromtimestamp(published, UTC)
            last = rows[-1][0]

    def _list(self, after: str) -> list[tuple[str, float]]:
        with self._shelf() as connection:
            return connection.execute(
                "select location, published from shelf where location > ? order by location limit ?",
                [after, _LISTED_AT_ONCE],
            ).fetchall()

    async def sweep_staging(self, older_than: datetime) -> int:
        """Delete uploads that are not on the shelf and got no piece since `older_than`.

        An upload that lives gets one each idle time-out at the latest, and the grace time is longer.
        """
        return await in_thread(self._sweep, older_than.timestamp())

    def _sweep(self, older_than: float) -> int:
        with self._shelf() as connection:
            abandoned = connection.execute(
                "select upload from pieces where upload not in (select upload from shelf)"
                " group by upload having max(written) < ?",
                [older_than],
            ).fetchall()
            connection.executemany("delete from pieces where upload = ?", abandoned)
        return len(abandoned)

    async def check(self) -> None:
        """Begin to write, and leave it."""
        await in_thread(self._check)

    def _check(self) -> None:
        with self._shelf() as connection:
            connection.execute("begin immediate")
