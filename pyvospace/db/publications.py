"""The transactions in which bytes get a name: of one upload, or of several that end at about the same time.

Each of them changes the catalogue, then publishes its bytes while the node is locked, then commits. Those who come
together do so in one transaction, so that one flush of the database's log does for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncpg

from pyvospace.db.errors import run_again, translated
from pyvospace.db.gathering import as_arrays
from pyvospace.model.claims import OutcomeUnknownError
from pyvospace.model.together import Together

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Database

LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""The driver calls it internal if a statement comes while it reads the last words of a server that dies."""
IN_DOUBT: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    *LOST,
)
"""Errors that leave open whether what was on its way is committed: last words may come instead of the answer."""
_SEVERAL: Final = 32
_LATE: Final = 0.5
"""Seconds after which others do not wait any more for one whose bytes are not published."""


@asynccontextmanager
async def publishing(database: Database, *, wait: float) -> AsyncIterator[Connection]:
    """Open a transaction in which bytes get a name.

    Raises
    ------
    OutcomeUnknownError
        On leaving: the connection was lost while the commit was on its way.
    """
    async with database.connection(wait=wait) as connection:
        transaction = connection.transaction()
        with translated():
            await transaction.start()
        try:
            yield connection
        except BaseException:
            # What went wrong matters, not that a dead connection cannot even roll back.
            with suppress(asyncpg.PostgresError, *LOST):
                await transaction.rollback()
            raise
        try:
            await transaction.commit()
        except IN_DOUBT as error:
            raise OutcomeUnknownError from error
        except asyncpg.PostgresError:
            with translated():
                raise


class _PartedError(Exception):
    """One of several has failed, or takes long: nothing was done, and each goes on alone."""


class _GivenUpError(Exception):
    """The only one has failed by itself."""


class Publication:
    """One upload's part in a transaction.

    Parameters
    ----------
    arguments
        Of the statement that changes the catalogue.
    rest
        Statements that come behind it, with their arguments.
    """

    def __init__(self, arguments: Sequence[object], rest: Sequence[tuple[str, Sequence[object]]] = ()) -> None:
        self.arguments = arguments
        self.rest = rest
        loop = asyncio.get_running_loop()
        self._changed: asyncio.Future[None] = loop.create_future()
        self._left: asyncio.Future[bool] = loop.create_future()
        self._ending: asyncio.Task[None] | None = None

    @property
    def failed(self) -> bool:
        """Whether its bytes are known not to get a name."""
        return self._left.done() and not self._left.result()

    def begin(self) -> None:
        """Say that the catalogue has changed, and the node is locked."""
        if not self._changed.done():
            self._changed.set_result(None)

    async def left(self) -> bool:
        """Wait until its bytes are published, or are not to be."""
        return await asyncio.shield(self._left)

    async def enter(self, together: Together[Publication, None]) -> None:
        """Wait until the catalogue has changed.

        Raises
        ------
        Fault
            It refused.
        """
        self._ending = asyncio.create_task(together.do(self))
        await asyncio.wait([self._ending, self._changed], return_when=asyncio.FIRST_COMPLETED)
        if self._ending.done():
            await self._ending

    async def leave(self, *, published: bool) -> None:
        """Commit, if all is well.

        Raises
        ------
        Fault, OutcomeUnknownError
            Only of bytes that are published: they have no name, or perhaps one.
        """
        if not self._left.done():
            self._left.set_result(published)
        if self._ending is None:
            return
        if published:
            await self._ending
        else:
            await asyncio.wait([self._ending])
            if not self._ending.cancelled():
                self._ending.exception()


class Publications:
    """Transactions by one statement.

    Parameters
    ----------
    one
        The statement for one upload.
    several
        The statement for some: the same arguments, as arrays. Empty: there is none, each has its own transaction.
    wait
        Seconds to wait for a connection.
    """

    def __init__(self, database: Database, one: str, several: str = "", *, wait: float) -> None:
        self._database = database
        self._one = one
        self._several = several
        self._wait = wait
        parting = (asyncpg.PostgresError, _PartedError)
        self.shared: Together[Publication, None] = Together(self._run, size=_SEVERAL if several else 1, alone=parting)
        self.own: Together[Publication, None] = Together(self._run, size=1, groups=_SEVERAL)

    async def _run(self, asked: Sequence[Publication]) -> list[None]:
        await run_again(partial(self._publish, asked))
        return [None] * len(asked)

    async def _publish(self, asked: Sequence[Publication]) -> None:
        going = [one for one in asked if not one.failed]
        if going:
            async with publishing(self._database, wait=self._wait) as connection:
                await self._change(connection, going)
                for one in going:
                    one.begin()
                await _all_published(going)

    async def _change(self, connection: Connection, going: Sequence[Publication]) -> None:
        try:
            if len(going) == 1:
                await connection.execute(self._one, *going[0].arguments)
            else:
                await connection.execute(self._several, *as_arrays([one.arguments for one in going]))
            for one in going:
                for statement, arguments in one.rest:
                    await connection.execute(statement, *arguments)
        except asyncpg.PostgresError:
            if len(going) > 1:
                raise  # each alone
            with translated():
                raise
        except LOST:
            with translated():
                raise


async def _all_published(going: Sequence[Publication]) -> None:
    """Wait for all; if there are several, for none of them long."""
    if len(going) == 1:
        if not await going[0].left():
            raise _GivenUpError
        return
    waiting = [asyncio.ensure_future(one.left()) for one in going]
    _, late = await asyncio.wait(waiting, timeout=_LATE)
    for one in late:
        one.cancel()
    if late or any(one.failed for one in going):
        raise _PartedError
