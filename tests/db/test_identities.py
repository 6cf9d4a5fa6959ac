from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import administration, groups, identities
from pyvospace.db.identities import Space
from pyvospace.db.pool import Database
from pyvospace.model.faults import AlreadyExists, InvalidArgument, NotFound, ServiceBusy
from tests.db.world import PREFIX, World

NOW = datetime.now(UTC)


async def test_token_tells_who_calls(world: World) -> None:
    expires = NOW + timedelta(hours=1)
    await identities.add_token(world.database, "writer", "laptop", b"1" * 32, expires)
    caller = await identities.by_token(world.database, b"1" * 32)
    assert caller is not None
    assert (caller.name, caller.admin, caller.groups, caller.expires) == (
        "writer",
        False,
        (PREFIX + "writers",),
        expires,
    )
    assert caller.id == (await world.caller("writer")).id


async def test_tokens_end(world: World) -> None:
    await identities.add_token(world.database, "writer", "old", b"1" * 32, NOW - timedelta(seconds=1))
    number = await identities.add_token(world.database, "writer", "new", b"2" * 32, None)
    assert await identities.by_token(world.database, b"1" * 32) is None
    assert await identities.by_token(world.database, b"3" * 32) is None
    assert await identities.by_token(world.database, b"2" * 32) is not None
    with pytest.raises(NotFound, match=f"'owner' has no token {number}"):
        await identities.revoke_token(world.database, "owner", number)
    assert [row.name for row in await identities.tokens(world.database, "writer")] == ["old", "new"]
    await identities.revoke_token(world.database, "writer", number)
    assert await identities.by_token(world.database, b"2" * 32) is None


async def test_disabled_user_is_nobody(world: World) -> None:
    await identities.add_token(world.database, "writer", "laptop", b"1" * 32, None)
    await identities.change_user(world.database, "writer", disabled=True)
    assert await identities.by_token(world.database, b"1" * 32) is None
    assert await identities.by_name(world.database, "writer") is None
    with pytest.raises(NotFound, match="no user 'writer' who could have a token"):
        await identities.add_token(world.database, "writer", "laptop", b"2" * 32, None)
    await identities.change_user(world.database, "writer", disabled=False)
    assert await identities.by_token(world.database, b"1" * 32) is not None


async def test_password_is_found_by_name(world: World) -> None:
    await identities.change_user(world.database, "writer", password="hash", admin=True)
    found = await identities.by_name(world.database, "writer")
    assert found is not None
    caller, password = found
    assert (caller.name, caller.admin, password) == ("writer", True, "hash")
    assert await identities.by_name(world.database, "nobody") is None


async def test_people_are_listed(world: World) -> None:
    await identities.add_token(world.database, "writer", "laptop", b"1" * 32, None)
    await identities.change_user(world.database, "writer", disabled=True, password="hash")
    rows = await administration.users(world.database, after="", limit=10)
    assert [row.name for row in rows] == ["admin", "owner", "reader", "stranger", "writer"]
    assert [(row.admin, row.disabled, row.has_password, row.tokens) for row in (rows[0], rows[-1])] == [
        (True, False, False, 0),
        (False, True, True, 1),
    ]


async def _groups(world: World) -> dict[str, list[str]]:
    found = await groups.groups(world.database, after="", limit=10, user=0, every=True)
    members = {one.name: await groups.members(world.database, one.name, after="", limit=10) for one in found}
    assert [one.members for one in found] == [len(names) for names in members.values()]
    return members


async def test_groups_are_listed(world: World) -> None:
    await identities.add_group(world.database, "empty")
    assert await _groups(world) == {"empty": [], "readers": ["reader"], "writers": ["writer"]}
    await identities.change_member(world.database, "writers", "reader", add=True)
    await identities.change_member(world.database, "writers", "reader", add=True)
    assert set((await world.caller("reader")).groups) == {PREFIX + "readers", PREFIX + "writers"}
    await identities.change_member(world.database, "writers", "writer", add=False)
    await identities.remove_group(world.database, "readers")
    assert await _groups(world) == {"empty": [], "writers": ["reader"]}


async def test_each_prefix_names_a_group(world: World) -> None:
    prefixes = (PREFIX, "ivo://cadc.nrc.ca/gms?")
    await identities.make_space(world.database, Space("other", prefixes))
    assert await identities.space(world.database) == Space("example.org~space", prefixes)
    assert set((await world.caller("writer")).groups) == {f"{prefix}writers" for prefix in prefixes}


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "é", "a/b", "a\n"])
async def test_odd_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be the name of a user"):
        await identities.add_user(world.database, name, password=None, admin=False)
    with pytest.raises(InvalidArgument, match="cannot be the name of a group"):
        await identities.add_group(world.database, name)


async def test_mistakes_are_told(world: World) -> None:
    database = world.database
    with pytest.raises(AlreadyExists, match="there is a user 'owner' already"):
        await identities.add_user(database, "owner", password=None, admin=False)
    with pytest.raises(AlreadyExists, match="there is a group 'writers' already"):
        await identities.add_group(database, "writers")
    with pytest.raises(NotFound, match="no group 'none'"):
        await identities.remove_group(database, "none")
    with pytest.raises(NotFound, match="no group 'none'"):
        await identities.change_member(database, "none", "owner", add=True)
    with pytest.raises(NotFound, match="no user 'none'"):
        await identities.change_member(database, "writers", "none", add=True)
    with pytest.raises(NotFound, match="no user 'none'"):
        await identities.change_user(database, "none", disabled=True)


async def test_wait_for_others_is_bounded_here_too(database_dsn: str, world: World) -> None:
    other = await Database.connect(database_dsn, DatabaseSettings(check_durability=False, lock_timeout=0.1))
    blocker = await asyncpg.connect(database_dsn)
    async with blocker.transaction():
        await blocker.execute("lock table users, groups")
        with pytest.raises(ServiceBusy):
            await identities.add_user(other, "new", password=None, admin=False)
        with pytest.raises(ServiceBusy):
            await identities.add_group(other, "new")
    await blocker.close()
    await other.close()
