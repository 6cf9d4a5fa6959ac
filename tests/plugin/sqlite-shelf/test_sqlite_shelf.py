"""The whole test module of a plugin author."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from unittest import mock

from sqlite_shelf import SqliteShelf

from pyvospace.storage.testing.contract import BackendContract
from pyvospace.storage.testing.rig import Rig


class TestSqliteShelf(BackendContract):
    backend_class = SqliteShelf
    readers_outlive_deletion = False
    pooled = 0
    large = 24 << 20

    @contextmanager
    def outage(self, rig: Rig) -> Iterator[None]:
        """Let somebody else keep the database locked."""
        assert isinstance(rig.backend, SqliteShelf)
        with closing(rig.backend._connect()) as other, mock.patch.object(rig.backend, "_timeout", 0.01):
            other.execute("begin exclusive")
            yield
            other.rollback()

    @contextmanager
    def full(self, rig: Rig) -> Iterator[None]:  # noqa: ARG002
        """Let the database not grow any more."""
        connect = SqliteShelf._connect

        def limited(self: SqliteShelf) -> sqlite3.Connection:
            connection = connect(self)
            connection.execute("pragma max_page_count = 100")
            return connection

        with mock.patch.object(SqliteShelf, "_connect", limited):
            yield
