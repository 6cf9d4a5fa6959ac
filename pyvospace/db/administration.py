"""What administrators see of a space, list by list, and how they change it.

Lists come in pages: each begins behind the last item of the one before. A change is one transaction, which makes sure
that whoever asks is still who he was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from pyvospace.db import identities
from pyvospace.db.statements import QueryFile
from pyvospace.model.callers import StaleCallerError
from pyvospace.model.faults import NotFound

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller

T = TypeVar("T")

_WAITING: Final = 10_000
"""As far as jobs that wait are counted."""


class _Sql(QueryFile, file="administration.sql"):
    confirm: ClassVar[str]
    users: ClassVar[str]
    user: ClassVar[str]
    tokens: ClassVar[str]
    jobs: ClassVar[str]
    has_job: ClassVar[str]
    waiting_jobs: ClassVar[str]


@dataclass(frozen=True, slots=True)
class User:
    """A user."""

    name: str
    admin: bool
    disabled: bool
    has_password: bool
    created: datetime
    tokens: int


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job of anybody."""

    id: str
    list: str
    kind: str
    phase: str
    owner: str | None
    """None: anonymous."""
    created: datetime
    started: datetime | None
    ended: datetime | None
    run_id: str | None


async def change(
    database: Database, by: Caller, work: Callable[[Connection], Awaitable[T]], *, tree: bool = False
) -> T:
    """Do what a caller may, in one transaction.

    Parameters
    ----------
    by
        Who has been found to be allowed it.
    work
        As for `Database.transact`.

    Raises
    ------
    StaleCallerError
        He is not any more who he was when he was identified.
    """

    async def guarded(connection: Connection) -> T:
        if not await connection.fetchval(_Sql.confirm, by.epoch, by.told):
            raise StaleCallerError
        return await work(connection)

    return await database.transact(guarded, tree=tree)


async def users(database: Database, *, after: str, limit: int, prefix: str = "") -> list[User]:
    """List users by name."""
    return [User(**row) for row in await database.fetch(_Sql.users, after, limit, prefix)]


async def user(database: Database, name: str) -> User:
    """Give a user.

    Raises
    ------
    NotFound
        There is none of that name.
    """
    row = await database.fetchrow(_Sql.user, name)
    if row is None:
        raise NotFound(f"there is no user {name!r}")
    return User(**row)


async def tokens(database: Database, name: str, *, after: int, limit: int) -> list[identities.TokenRow]:
    """List the tokens of a user, oldest first."""
    return [identities.token_row(row) for row in await database.fetch(_Sql.tokens, name, after, limit)]


async def jobs(database: Database, *, user: str | None, phase: str | None, after: str, limit: int) -> list[JobSummary]:
    """List jobs of everybody, or of one user, in the order of their ids."""
    return [JobSummary(**row) for row in await database.fetch(_Sql.jobs, user, phase, after, limit)]


async def has_job(connection: Connection, job: str) -> bool:
    """Say whether there is a job of that id."""
    return bool(await connection.fetchval(_Sql.has_job, job))


async def waiting_jobs(database: Database, user: int) -> int:
    """Count the jobs of a user that wait, up to some 10,000."""
    return int(await database.fetchval(_Sql.waiting_jobs, user, _WAITING))
