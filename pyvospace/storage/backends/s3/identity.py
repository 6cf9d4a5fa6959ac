"""Which storage this is: an object that is written once, however many processes start at the same time."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from pyvospace.storage.backends.s3.store import Store, UnconditionalError

_IDENTITY: Final = "pyvospace/storage.json"
_CANDIDATES: Final = "pyvospace/candidates/"
_PROBES: Final = "pyvospace/probes/"
_SETTLED: Final = 3.0
"""Seconds after which everybody sees every candidate that the store dated before, wherever the request came in."""
_TRIES: Final = 5


async def identity(store: Store) -> UUID:
    """Read which storage this is; make a name for a new one.

    Raises
    ------
    OSError
        It cannot be told.
    """
    for _ in range(_TRIES):
        try:
            return UUID(json.loads(await store.get(_IDENTITY))["id"])
        except FileNotFoundError:
            await _name(store)
    raise OSError(f"{_IDENTITY} was written and cannot be read")


async def _name(store: Store) -> None:
    draft = json.dumps({"id": str(uuid4()), "made": datetime.now(UTC).isoformat()}).encode()
    if await _knows_conditions(store):
        await store.put_new(_IDENTITY, draft)
    else:
        await _elect(store, draft)


async def _knows_conditions(store: Store) -> bool:
    """Tell whether a conditional PUT is refused when it should be; some stores only pretend."""
    probe = _PROBES + uuid4().hex
    try:
        return await store.put_new(probe, b"1") and not await store.put_new(probe, b"2")
    except UnconditionalError:
        return False
    finally:
        await store.delete(probe)


async def _elect(store: Store, draft: bytes) -> None:
    """Let all that start now agree: the candidate that the store dates first wins, and everybody writes its name.

    Candidates stay. Somebody who slept through the election meets the old ones and writes the same name once more.
    """
    await store.put(_CANDIDATES + uuid4().hex, draft)
    await asyncio.sleep(_SETTLED)
    candidates = [one async for batch in store.listing(_CANDIDATES) for one in batch]
    first = min(candidates, key=lambda one: (one.modified, one.key))
    await store.put(_IDENTITY, await store.get(first.key))


async def require_consistent(store: Store) -> None:
    """Write, read, list and delete an object.

    Raises
    ------
    OSError
        The store does not show at once what was written last. Nobody's bytes would be safe there.
    """
    probe, content = _PROBES + uuid4().hex, uuid4().bytes
    try:
        await store.put(probe, content)
        seen = await store.get(probe) == content
        seen = seen and [one.key async for batch in store.listing(probe) for one in batch] == [probe]
    finally:
        await store.delete(probe)
    try:
        await store.head(probe)
    except FileNotFoundError:
        if seen:
            return
    raise OSError("the store does not show at once what was written last: it cannot be used")


async def probe_writing(store: Store) -> None:
    """Write an object and delete it."""
    probe = _PROBES + uuid4().hex
    await store.put(probe, b"probe")
    await store.delete(probe)


async def sweep_probes(store: Store, older_than: datetime) -> None:
    """Delete what died processes left of their probes."""
    async for batch in store.listing(_PROBES):
        for one in batch:
            if one.modified < older_than:
                await store.delete(one.key)
