from __future__ import annotations

import asyncio
import hashlib

import pytest

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import administration, bootstrap, identities, nodes
from pyvospace.db.bootstrap import Bootstrap, WrongSpaceError
from pyvospace.db.pool import Database
from pyvospace.model.callers import ANONYMOUS
from pyvospace.model.faults import InvalidArgument, InvalidURI
from pyvospace.model.stored import Changes
from tests.support.tree_check import damages

SETTINGS = DatabaseSettings(check_durability=False)
PREFIXES = ["ivo://example.org/gms?"]


async def start(dsn: str, *, authority: str = "example.org~space", user: str | None = "ann") -> Bootstrap:
    return await bootstrap.bootstrap(dsn, settings=SETTINGS, authority=authority, group_prefixes=PREFIXES, user=user)


async def test_first_start_makes_a_space(database_dsn: str, database: Database) -> None:
    made = await start(database_dsn)
    assert made.user == "ann"
    assert made.token is not None
    ann = await identities.by_token(database, hashlib.sha256(made.token.encode()).digest())
    assert ann is not None
    assert (ann.name, ann.admin) == ("ann", False)
    assert [row.name for row in await administration.users(database, after="", limit=9)] == ["admin", "ann"]
    home = await nodes.resolve(database, ann, ("home", "ann"))
    assert home.node is not None
    assert (home.node.owner, home.node.public, home.node.writable) == ("ann", False, True)
    for path in ((), ("home",)):
        found = (await nodes.resolve(database, ANONYMOUS, path)).node
        assert found is not None
        assert (found.owner, found.public, found.writable) == ("admin", True, False)
    assert not (await nodes.resolve(database, ANONYMOUS, ("home", "ann"))).last.readable
    assert await damages(database) == []


async def test_further_starts_change_nothing(database_dsn: str, database: Database) -> None:
    await start(database_dsn)
    before = await database.fetch("select * from nodes order by id")
    assert await start(database_dsn) == Bootstrap("ann", None)
    assert await start(database_dsn, user=None) == Bootstrap("", None)
    assert await database.fetch("select * from nodes order by id") == before
    assert len(await identities.tokens(database, "ann")) == 1


async def test_start_after_a_crash_makes_what_is_missing(database_dsn: str, database: Database) -> None:
    await bootstrap.set_up(database, authority="example.org~space", group_prefixes=PREFIXES)
    await bootstrap.add_user(database, "ann", home=False)
    made = await start(database_dsn)
    assert made == Bootstrap("ann", None)
    admin = await identities.by_name(database, "admin")
    assert admin is not None
    assert (await nodes.resolve(database, admin[0], ("home", "ann"))).node is not None


async def test_start_does_not_need_people_who_were_disabled(database_dsn: str, database: Database) -> None:
    await start(database_dsn)
    for name in ("admin", "ann"):
        await identities.change_user(database, name, disabled=True)
    assert await start(database_dsn) == Bootstrap("ann", None)
    await bootstrap.add_user(database, "bob")
    bob = await identities.by_name(database, "bob")
    assert bob is not None
    home = await nodes.resolve(database, bob[0], ("home", "bob"))
    assert home.node is not None
    assert (home.node.owner, home.node.public) == ("bob", False)


async def test_home_needs_its_place(database_dsn: str, database: Database) -> None:
    await start(database_dsn)
    admin = await identities.by_name(database, "admin")
    assert admin is not None
    home = (await nodes.resolve(database, admin[0], ("home",))).node
    assert home is not None
    await nodes.update(database, admin[0], home, Changes(locked=True))
    with pytest.raises(InvalidArgument, match="/home/bob cannot be made"):
        await bootstrap.add_user(database, "bob")


async def test_authority_never_changes(database_dsn: str) -> None:
    await start(database_dsn)
    await start(database_dsn, authority="EXAMPLE.org!space")  # the same, spelt otherwise
    with pytest.raises(WrongSpaceError, match=r"belongs to the space 'example\.org~space', not 'other~space'"):
        await start(database_dsn, authority="other~space")


async def test_several_may_start_at_once(database_dsn: str, database: Database) -> None:
    results = await asyncio.gather(*(start(database_dsn, user=None) for _ in range(5)))
    assert results == [Bootstrap("", None)] * 5
    assert await damages(database) == []


@pytest.mark.parametrize("name", ["..", "a/b", "a b", ""])
async def test_user_needs_a_name_that_a_home_can_have(database_dsn: str, database: Database, name: str) -> None:
    await start(database_dsn)
    with pytest.raises((InvalidArgument, InvalidURI)):
        await bootstrap.add_user(database, name)
    assert [row.name for row in await administration.users(database, after="", limit=9)] == ["admin", "ann"]
