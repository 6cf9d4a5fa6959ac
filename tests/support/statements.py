"""What servers say to PostgreSQL, read in its log: budgets of statements are kept by it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.postgres import PostgresServer

_PREFIX = "pyvospace-statement|%d|%a|"
_ENTRY = re.compile(
    r"^pyvospace-statement\|(?P<database>[^|]*)\|(?P<application>[^|]*)\|"
    r"LOG:  (?:statement|execute [^:]*): (?P<text>.*)$"
)
_PATIENCE = 30.0


@dataclass(frozen=True)
class Statement:
    """A statement that the server carried out."""

    application: str
    """Who sent it: the name of the pool."""
    text: str
    """Its first line."""


class StatementLog:
    """The statements of one database, as they come."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server = server
        self._database = database
        self._offset = server.log.stat().st_size

    def take(self) -> list[Statement]:
        """Give the statements since the last call, oldest first; begin and commit are statements too."""
        self._wait()
        with self._server.log.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = map(_ENTRY.match, whole.decode(errors="replace").splitlines())
        return [
            Statement(entry["application"], entry["text"])
            for entry in found
            if entry and entry["database"] == self._database
        ]

    def _wait(self) -> None:
        """Wait until the log holds a statement of our own, and so every one before it."""
        mark = f"mark {uuid.uuid4().hex}"
        self._server.execute(f"select '{mark}'")
        end = time.monotonic() + _PATIENCE
        while mark.encode() not in self._read_on():
            if time.monotonic() > end:
                raise TimeoutError(f"{self._server.log} shows no statements")
            time.sleep(0.01)

    def _read_on(self) -> bytes:
        with self._server.log.open("rb") as file:
            file.seek(self._offset)
            return file.read()


@contextmanager
def statement_log(server: PostgresServer, database: str) -> Iterator[StatementLog]:
    """Let the server log all statements for a while, those of connections that are open already too."""
    server.execute(f"alter system set log_line_prefix = '{_PREFIX}'")
    server.execute("alter system set log_statement = 'all'")
    server.execute("select pg_reload_conf()")
    try:
        log = StatementLog(server, database)
        log.take()
        yield log
    finally:
        server.execute("alter system reset log_statement")
        server.execute("alter system reset log_line_prefix")
        server.execute("select pg_reload_conf()")
