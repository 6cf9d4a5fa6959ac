"""The state of the service, which its operator sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import ServiceBusy
from pyvospace.model.vosi import Standing, State

if TYPE_CHECKING:
    from pyvospace.db.pool import Database
    from pyvospace.model.callers import Caller


class _Sql(QueryFile, file="state.sql"):
    standing: ClassVar[str]
    live_storages: ClassVar[str]
    turn: ClassVar[str]


async def standing(database: Database) -> Standing:
    """Give the state of the service; storage servers may ask too."""
    row = await database.fetchrow(_Sql.standing)
    if row is None:
        raise ServiceBusy("the space was not set up yet")
    values = dict(row)
    return Standing(state=State(values.pop("state")), **values)


async def live_storages(database: Database) -> int:
    """Count the storages that were heard of lately."""
    return int(await database.fetchval(_Sql.live_storages))


async def turn(database: Database, wanted: Standing, *, by: Caller | None = None) -> bool:
    """Put the service into a state: every process follows at once. False: `by` is not any more who he was."""
    whose = (by.epoch, by.told) if by else (None, None)
    row = await database.fetchrow(_Sql.turn, str(wanted.state), wanted.note, wanted.down_at, wanted.back_at, *whose)
    return row is not None
