"""Jobs of storage servers, as these may reach them: functions of the schema ``storage_api``, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.jobs import claimed_of
from pyvospace.db.statements import QueryFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pyvospace.db.pool import Database
    from pyvospace.model.jobs import Claimed
    from pyvospace.model.vocabulary import Phase


class _Sql(QueryFile, file="third_party.sql"):
    claim: ClassVar[str]
    renew: ClassVar[str]
    give_back: ClassVar[str]
    finish: ClassVar[str]


async def claim(
    database: Database,
    storage: UUID,
    kinds: Sequence[str],
    *,
    attempt: str,
    lease: float,
    lost: bool,
    attempts: int,
) -> Claimed | None:
    """Take a job that waits, or (`lost`) one whose worker is dead; None: there is none."""
    return claimed_of(await database.fetchrow(_Sql.claim, storage, kinds, attempt, lease, lost, attempts))


async def renew(database: Database, storage: UUID, claimed: Claimed, *, lease: float) -> bool:
    """Extend a worker's lease; False: the job was taken away."""
    progress = claimed.progress
    return bool(
        await database.fetchval(_Sql.renew, storage, claimed.attempt, lease, progress.bytes_done, progress.bytes_total)
    )


async def give_back(database: Database, storage: UUID, claimed: Claimed) -> None:
    """Let another worker have a job at once."""
    await database.fetchval(_Sql.give_back, storage, claimed.attempt)


async def finish(
    database: Database,
    storage: UUID,
    claimed: Claimed,
    phase: Phase,
    *,
    fault: str | None = None,
    message: str | None = None,
) -> bool:
    """End a job that brought no bytes to a node; False: it was taken away."""
    progress = claimed.progress
    return bool(
        await database.fetchval(
            _Sql.finish,
            storage,
            claimed.attempt,
            str(phase),
            fault,
            message,
            progress.bytes_done,
            progress.bytes_total,
        )
    )
