from __future__ import annotations

import asyncio

from pyvospace.db import keys
from tests.db.world import Storage, World

LIFE = {"rotation": 1000.0, "life": 500.0}


async def age(world: World, seconds: float) -> None:
    await world.database.fetchrow("update endpoint_keys set created = created - make_interval(secs => $1)", seconds)


async def test_many_processes_make_one_key(world: World, storage: Storage) -> None:
    found = await asyncio.gather(*(keys.signing_key(world.database, **LIFE) for _ in range(8)))
    assert len(set(found)) == 1
    name, secret = found[0]
    assert len(secret) == 32
    assert await keys.verification_keys(storage.database) == {name: secret}


async def test_keys_rotate_and_are_kept_while_endpoints_live(world: World, storage: Storage) -> None:
    first = await keys.signing_key(world.database, **LIFE)
    await age(world, 900)
    assert await keys.signing_key(world.database, **LIFE) == first
    await age(world, 200)
    second = await keys.signing_key(world.database, **LIFE)
    assert second != first
    assert await keys.verification_keys(storage.database) == dict((first, second))
    await age(world, 4100)
    third = await keys.signing_key(world.database, **LIFE)
    # The first signed last when it was 1,000 s old; nothing that it signed lives any more.
    assert await keys.verification_keys(storage.database) == dict((second, third))
    assert await keys.signing_key(world.database, **LIFE) == third
