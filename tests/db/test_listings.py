"""Listings by length and date, and backwards: in pieces of any size, against a sorted list; and what they say."""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvospace.db import listings
from pyvospace.model.callers import Caller
from pyvospace.model.faults import InvalidURI
from pyvospace.model.stored import Page, StoredNode
from pyvospace.model.uris import NodeUri, decode_name
from pyvospace.model.vocabulary import CORE, FILE_TIME, Detail, NodeType, SortKey
from pyvospace.server.describe import describe_child
from pyvospace.wire.nodes import render_children
from pyvospace.wire.shorthand import Children
from tests.db.world import OPEN, READERS, WRITERS, Storage, World
from tests.support.strategies import examples, names

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


BOX = NodeUri("example.org~space", ("box",))


async def read(world: World, caller: Caller, page: Page, *, at_once: int) -> list[list[str]]:
    """Give the names that come, piece by piece."""
    box = await world.node("box", caller)
    pieces = listings.children(world.database, caller, box, page, Detail.MIN, at_once=at_once, leaves_seen=False)
    return [names_in(piece) async for piece in pieces]


def names_in(piece: bytes) -> list[str]:
    return [decode_name(name) for name in re.findall(f'uri="{BOX}/([^"]*)"', Children(BOX).render(piece).decode())]


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
        assert [name for piece in pieces for name in piece] == whole[first:][:limit]
        assert max(map(len, pieces)) <= at_once


async def test_what_changes_meanwhile(crowd: World) -> None:
    """What stays comes exactly once; what goes, comes or changes may come or not."""
    admin = await crowd.caller()
    page = Page(sort=SortKey.LENGTH)
    box, before = await crowd.node("box", admin), await crowd.listing("box")
    pieces = listings.children(crowd.database, admin, box, page, Detail.MIN, at_once=4, leaves_seen=False)
    found = names_in(await anext(pieces))
    ahead = [name for name in in_order(before, page) if name not in found]
    await crowd.remove(f"box/{ahead[0]}")
    await crowd.remove(f"box/{ahead[-1]}")
    await crowd.add("box/new", NodeType.DATA, OPEN)
    async for piece in pieces:
        found += names_in(piece)
    assert [name for name in found if name != "new"] == [
        name for name in in_order(before, page) if name not in {ahead[0], ahead[-1]}
    ]


@pytest.mark.parametrize("sort", [SortKey.LENGTH, SortKey.DATE])
async def test_start_that_is_gone(crowd: World, sort: SortKey) -> None:
    with pytest.raises(InvalidURI):
        await read(crowd, await crowd.caller(), Page(start="gone", sort=sort), at_once=10)


# What they say

INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda instant: instant.isoformat()
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
"""What the database can hold, more than XML can."""
STRANGE = st.sampled_from(
    [*(f"a{one}b" for one in "&<>\"'\\\t\n\r\x01\x0b\x18\x1f\x7f\x85\ufffe\uffff{}%é\U0001f52d"), ": ", ", "]
)
URIS = st.sampled_from([CORE + "title", CORE + "type", FILE_TIME]) | STRANGE | TEXTS.filter(bool)
GROUPS = st.lists(st.sampled_from([READERS, WRITERS]) | STRANGE, max_size=2)
FACTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(list(NodeType)),
        "owner": st.sampled_from(["owner", "writer", "admin"]),
        "public": st.booleans(),
        "group_read": GROUPS,
        "group_write": GROUPS,
        "inherit": st.booleans(),
        "locked": st.booleans(),
        "immutable": st.booleans(),
        "properties": st.dictionaries(URIS, st.sampled_from(["image/fits", ""]) | STRANGE | TEXTS, max_size=3),
        "target": st.sampled_from(["vos://example.org~space/a%20b", "https://e.org/?a=b&c", ""]) | STRANGE,
        "size": st.none() | st.integers(0, 1 << 62),
        "created": INSTANTS,
        "changed": st.none() | INSTANTS,
        "modified": INSTANTS,
        "lease": st.sampled_from([None, None, "1 hour", "-1 hour"]),
        "quota": st.none() | st.integers(0, 1 << 40),
        "warned": st.sampled_from([None, 0, 80]),
        "used": st.integers(0, 1 << 40),
    }
)
"""Of a child; those that its type has not are passed over."""
FILL = """
    with given as (
        select x.*, x.type like '%DataNode' and x.size is not null as stored
          from jsonb_to_recordset($2) as x (
                   name text, type text, owner text, public boolean, group_read jsonb, group_write jsonb,
                   inherit boolean, locked boolean, immutable boolean, properties jsonb, target text, size bigint,
                   created timestamptz, changed timestamptz, modified timestamptz, lease interval, quota bigint,
                   warned integer, used bigint)
    ), made as (
        insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, inherit, locked, immutable,
                           properties, target, created, changed, size, md5, sha256, storage_id, location, stored_by,
                           modified)
        select $1, name, type, (select u.id from users u where u.name = owner), public,
               array(select jsonb_array_elements_text(group_read)),
               array(select jsonb_array_elements_text(group_write)), inherit, locked, immutable, properties,
               case when type = 'LinkNode' then target end, created, coalesce(changed, created),
               case when stored then size end, case when stored then decode(md5(name), 'hex') end,
               case when stored then sha256(convert_to(name, 'UTF8')) end,
               case when stored then (select id from storages) end, case when stored then gen_random_uuid()::text end,
               case when stored then 1 end, case when stored then modified end
          from given
        returning id, name, type
    ), containers as (
        insert into containers (id, path)
        select m.id, c.path || m.id::text from made m, containers c where c.id = $1 and m.type = 'ContainerNode'
    ), used as (
        insert into usage (container_id, bytes, nodes)
        select m.id, g.used, 0 from made m join given g using (name) where m.type = 'ContainerNode'
    ), limited as (
        insert into quotas (container_id, bytes, warned)
        select m.id, g.quota, g.warned from made m join given g using (name)
         where m.type = 'ContainerNode' and g.quota is not null
    )
    insert into writers (parent_id, name, job_id, attempt, until)
    select $1, name, 'job', gen_random_uuid()::text, now() + lease from given where lease is not null"""


@given(st.dictionaries(st.sampled_from(["plain-name_1.fits", "a b", "é"]) | names, FACTS, max_size=12))
@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_same_as_the_plain_rendering(
    world: World, storage: Storage, children: dict[str, dict[str, object]]
) -> None:
    """Byte for byte, whatever there is, whoever asks, and however much he wants to be told."""
    await storage.announce(free=1 << 41)
    name = secrets.token_hex(8)
    box = await world.add(name)
    given_children = [{"name": name, **facts} for name, facts in children.items()]
    await world.database.fetch(FILL, box.id, json.dumps(given_children))
    uri = NodeUri("example.org~space", (name,))
    for person in ("admin", "owner", "reader", "writer", "anonymous"):
        caller = await world.caller(person)
        told = await world.listing(name, caller)
        assert len(told) == len(children)
        for detail in Detail:
            for leaves_seen in (False, True):
                plain = render_children(
                    describe_child(
                        child,
                        uri.child(child.name),
                        detail,
                        seen=child.readable or (leaves_seen and not child.is_container),
                    )
                    for child in told
                )
                pieces = listings.children(
                    world.database, caller, box, Page(), detail, at_once=5, leaves_seen=leaves_seen
                )
                assert b"".join([Children(uri).render(piece) async for piece in pieces]) == plain
