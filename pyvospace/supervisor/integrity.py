"""The store of a storage server beside its catalogue, for the operator of its machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal

from pyvospace.config import load
from pyvospace.db.integrity import StoreRecords
from pyvospace.db.pool import Database
from pyvospace.model.callers import Caller
from pyvospace.storage.app import load_backend
from pyvospace.storage.checking import Remedy, StoreCheck, clear
from pyvospace.supervisor.data import STORAGE_ROLE, DataDirectory, directory_of
from pyvospace.supervisor.errors import SupervisorError

if TYPE_CHECKING:
    from pathlib import Path

    from pyvospace.config import Settings
    from pyvospace.model.integrity import Finding

Task = Literal["none", "quarantine", "repair", "clear"]

_SWEEPS: Final = 2
"""What is obsolete is overdue after so many sweeps."""


async def check_store(
    config: Path | None, data: Path | None, *, task: Task, acting: Caller, pause: float = 1.0
) -> AsyncIterator[Finding]:
    """Compare the store that the settings of a storage server name with the catalogue; the server may run.

    Parameters
    ----------
    task
        What is to be done: a remedy, or, to `clear`, to read again all that is damaged.

    Raises
    ------
    SupervisorError
        The settings name no database, or a backend that there is not.
    """
    settings, dsn = _reach(config, data)
    storage = settings.storage
    try:
        backend = load_backend(settings)
    except ValueError as error:
        raise SupervisorError(str(error)) from error
    database = await Database.connect(dsn, settings.database, name="pyvospace fsck", acting=acting)
    try:
        records = StoreRecords(database, await backend.start())
        if task == "clear":
            with ThreadPoolExecutor(1) as pool:
                async for finding in clear(backend, records, pool):
                    yield finding
            return
        overdue = storage.obsolete_grace + _SWEEPS * storage.sweep_interval
        check = StoreCheck(
            backend, records, grace=storage.sweep_grace, overdue=overdue, remedy=Remedy(task), pause=pause
        )
        async for finding in check.run():
            yield finding
    finally:
        await database.close()
        await backend.close()


def _reach(config: Path | None, data: Path | None) -> tuple[Settings, str]:
    """Give the settings of the storage server, and a DSN of its role, past a pooler."""
    settings = load(config)
    dsn, direct = settings.database.of_storage
    dsn = direct or dsn
    if dsn is not None:
        return settings, dsn.get_secret_value()
    directory = DataDirectory(directory_of(data))
    cluster = directory.cluster()
    if cluster is None or not cluster.socket:
        raise SupervisorError(
            f"no pyvospace up runs on {directory.path}, and the setting database.storage_dsn is not given"
        )
    if "path" not in settings.storage.model_fields_set:
        settings = load(config, {"storage": {"path": directory.storage}})
    return settings, cluster.dsn(STORAGE_ROLE)
