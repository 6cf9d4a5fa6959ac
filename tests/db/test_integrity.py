"""The catalogue compared with itself: one damage each, found, mended, and gone. And what the sweep may take."""

from __future__ import annotations

from pyvospace.db.integrity import check_catalogue
from pyvospace.model.vocabulary import NodeType
from tests.db.world import Storage, World, obsolete, push
from tests.support.postgres import PostgresServer

MENDED = {
    "path": "update containers set path = '1.7777' where id = {box}",
    "place": "delete from containers where id = {box}",
    "unreachable": "insert into containers (id, path) values (888888, '1.888888')",
    "immutable": "update containers set immutable = true where id = {box}",
    "version": "insert into versions values "
    "(999999, 1, {storage}, 'old/one', 5, '\\x{md5}', '\\x{sha}', null, null, 1, now())",
    "segment": "insert into segments (partial_id, start, size, storage_id, location) values "
    "(repeat('a', 40), 0, 5, {storage}, 'seg/one')",
    "replica": "insert into replicas values ({storage}, 'gone/home', {other}, 'cop/one')",
    "kept": "update nodes set kept = kept + 3 where id = {node}",
    "job": "update jobs set phase = 'EXECUTING', kind = 'move', attempt = null where id = '{job}'",
    "lease": "insert into writers (parent_id, name, job_id, attempt, until) values "
    "({box}, 'x', 'none', 'fence', now() - interval '1 hour')",
    "quota": "insert into quotas (container_id, bytes) values (999999, 5); update space set limited = true",
    "policy": "insert into policies values (999999, 'x', 1, 0, 0, 0)",
    "limited": "update space set limited = true",
    "damage": "insert into damages values ({storage}, 'no/such', 'missing')",
    "usage": "insert into usage values (1, 7, 0) on conflict (container_id) do update set bytes = usage.bytes + 7",
}
"""Damages that are mended, as a superuser makes them."""

TOLD = {
    "facts": (
        "update nodes set owner_id = 999999 where id = {box}",
        "update nodes set owner_id = {owner} where id = {box}",
    ),
    "bytes": (
        "update nodes set size = size + 1 where id = {twin}",
        "update nodes set size = size - 1 where id = {twin}",
    ),
    "copies": (
        "update policies set replicas = 2; update nodes set modified = now() - interval '2 hours' where id = {node}",
        "update policies set replicas = 1",
    ),
    "storage": (
        "update storages set last_seen = now() - interval '1 hour' where id = {storage}",
        "update storages set last_seen = now() where id = {storage}",
    ),
}
"""Damages that nobody can mend from here, and how they end."""

AS_NOBODY_MAY = "set session_replication_role = replica; "


async def two_nodes_with_the_same_bytes(world: World, storage: Storage) -> dict[str, object]:
    """What there is to damage: names of the statements above."""
    box = await world.add("box")
    await world.add("box/inner")
    await world.add("box/data", NodeType.DATA)
    await world.add("box/twin", NodeType.DATA)
    claims = await push(world, "box/data", await world.caller("owner"))
    file = await storage.upload(claims)
    node, twin = await world.node("box/data"), await world.node("box/twin")
    await world.database.fetchrow(
        "update nodes t set (size, md5, sha256, storage_id, location, stored_by, modified) = "
        "(n.size, n.md5, n.sha256, n.storage_id, n.location, n.stored_by, n.modified) from nodes n "
        "where n.id = $1 and t.id = $2",
        node.id,
        twin.id,
    )
    number = await world.database.fetchval("select storage_id from nodes where id = $1", node.id)
    other = await world.database.fetchval(
        "insert into storages (uuid, name, url, role) values (gen_random_uuid(), 'b', 'http://b', 'x') returning id"
    )
    return {
        "box": box.id,
        "node": node.id,
        "twin": twin.id,
        "owner": node.owner_id,
        "storage": number,
        "other": other,
        "job": claims.job_id,
        "md5": file.md5.hex(),
        "sha": file.sha256.hex(),
    }


async def test_each_damage_is_found_and_mended(
    world: World, storage: Storage, database_name: str, postgres_server: PostgresServer
) -> None:
    """One at a time: exactly this is told, nothing is changed unless asked for, and the second run is clean."""
    names = await two_nodes_with_the_same_bytes(world, storage)

    async def kinds(*, repair: bool = False) -> list[str]:
        found = await check_catalogue(world.database, repair=repair, pause=0)
        assert all(bool(one.outcome) == repair for one in found if one.kind in MENDED)
        return [one.kind for one in found]

    await kinds(repair=True)  # what the test itself has left uncounted
    assert await kinds() == []
    for kind, damage in MENDED.items():
        postgres_server.execute(AS_NOBODY_MAY + damage.format(**names), database_name)
        found = await kinds()
        assert kind in found, kind
        assert set(found) <= {kind, "path", "usage"}, kind  # sums follow from places, and places from those above
        assert {kind} <= set(await kinds(repair=True)) <= set(found), kind
        assert await kinds() == [], kind
    for kind, (damage, end) in TOLD.items():
        postgres_server.execute(damage.format(**names), database_name)
        assert set(await kinds(repair=True)) == {kind}
        postgres_server.execute(end.format(**names), database_name)
        assert await kinds() == []
    written = await world.database.fetch("select details ->> 'kind' as kind from audit where action = 'repair'")
    assert {row["kind"] for row in written} >= MENDED.keys()
    assert {"old/one", "seg/one", "cop/one"} <= set(await obsolete(world))
