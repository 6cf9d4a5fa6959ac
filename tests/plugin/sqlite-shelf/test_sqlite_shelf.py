"""The whole test module of a plugin author."""

from sqlite_shelf import SqliteShelf

from pyvospace.storage.testing.contract import BackendContract


class TestSqliteShelf(BackendContract):
    backend_class = SqliteShelf
    readers_outlive_deletion = False
