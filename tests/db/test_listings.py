"""Listings by length and date, and backwards: in pieces of any size, against a sorted list."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pyvospace.db import listings
from pyvospace.model.callers import Caller
from pyvospace.model.faults import InvalidURI
from pyvospace.model.stored import Page, StoredNode
from pyvospace.model.vocabulary import NodeType, SortKey
from tests.db.world import OPEN, Storage, World

KEYS: dict[SortKey, Callable[[StoredNode], Any]] = {
    SortKey.NAME: lambda _: 0,
    SortKey.LENGTH: lambda node: node.size or 0,
    SortKey.DATE: lambda node: node.modified or node.changed,
}


@pytest.fixture
async def crowd(world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> World:
    """Fifty children of a container, few sizes and few dates among them."""
    del storage  # their bytes need a place
    monkeypatch.setattr(listings, "_SORTED_AT_ONCE", 7)
    await world.add("box")
    for number in random.Random(1).sample(range(100), 50):
        await world.add(f"box/{number}", NodeType.DATA if number % 3 else NodeType.CONTAINER, OPEN)
    await world.database.fetchrow("""
        update nodes
           set size = id % 5, md5 = decode(repeat('00', 16), 'hex'), sha256 = decode(repeat('00', 32), 'hex'),
               storage_id = (select id from storages), location = id::text, stored_by = 1,
               modified = now() - make_interval(days => (id % 4)::int)
         where type = 'DataNode' and id % 7 > 0""")
    return world


async def read(world: World, caller: Caller, page: Page, *, at_once: int) -> list[list[StoredNode]]:
    box = await world.node("box", caller)
    pieces = listings.children(world.database, caller, box, page, at_once=at_once, leaves_seen=False)
    return [piece async for piece in pieces]


def in_order(children: list[StoredNode], page: Page) -> list[str]:
    """Give the names as they must come: those of the same length or date in the order of their names."""
    found = sorted(children, key=lambda node: node.name.encode(), reverse=page.descending and page.sort is SortKey.NAME)
    return [node.name for node in sorted(found, key=KEYS[page.sort], reverse=page.descending)]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SortKey)
@pytest.mark.parametrize("at_once", [3, 1000])
async def test_every_order(crowd: World, sort: SortKey, at_once: int, descending: bool) -> None:
    admin, everything = await crowd.caller(), await crowd.listing("box")
    whole = in_order(everything, Page(sort=sort, descending=descending))
    assert len(whole) == 50
    for start, limit in (("", None), (whole[0], 1), (whole[20], None), (whole[20], 8), (whole[-1], None), ("", 14)):
        page = Page(start=start, limit=limit, sort=sort, descending=descending)
        pieces = await read(crowd, admin, page, at_once=at_once)
        first = whole.index(start) if start else 0
        assert [node.name for piece in pieces for node in piece] == whole[first:][:limit]
        assert max(map(len, pieces)) <= at_once


async def test_what_changes_meanwhile(crowd: World) -> None:
    """What stays comes exactly once; what goes, comes or changes may come or not."""
    admin = await crowd.caller()
    page = Page(sort=SortKey.LENGTH)
    box, before = await crowd.node("box", admin), await crowd.listing("box")
    pieces = listings.children(crowd.database, admin, box, page, at_once=4, leaves_seen=False)
    names = [node.name for node in await anext(pieces)]
    ahead = [name for name in in_order(before, page) if name not in names]
    await crowd.remove(f"box/{ahead[0]}")
    await crowd.remove(f"box/{ahead[-1]}")
    await crowd.add("box/new", NodeType.DATA, OPEN)
    async for piece in pieces:
        names += [node.name for node in piece]
    assert [name for name in names if name != "new"] == [
        name for name in in_order(before, page) if name not in {ahead[0], ahead[-1]}
    ]


@pytest.mark.parametrize("sort", [SortKey.LENGTH, SortKey.DATE])
async def test_start_that_is_gone(crowd: World, sort: SortKey) -> None:
    with pytest.raises(InvalidURI):
        await read(crowd, await crowd.caller(), Page(start="gone", sort=sort), at_once=10)
