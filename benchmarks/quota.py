"""What a quota costs: many uploads into one folder, and many nodes made there, with a quota and without one."""

from __future__ import annotations

from dataclasses import replace

import asyncpg

from benchmarks.http import Connection, request
from benchmarks.measures import Series, Setting, SmallFiles, asker, container, timed

AT_ONCE = 50
UPLOADS, FREE_UPLOADS = "50 uploads at once, with a quota", "50 uploads at once, without"
CREATED, FREE_CREATED = "createNode, 50 at once, with a quota", "createNode, 50 at once, without"


async def quota(setting: Setting) -> list[Series]:
    """Measure in turn: a space that has the quota, and one that has none."""
    many = replace(setting, concurrency=AT_ONCE)
    found = {name: Series(name, "1/s") for name in (UPLOADS, FREE_UPLOADS, CREATED, FREE_CREATED)}
    for turn in range(setting.rounds):
        for limited in (True, False) if turn % 2 else (False, True):
            path = await container(many)
            await _limit(setting, path if limited else None)
            await _uploads(many, found[UPLOADS if limited else FREE_UPLOADS], path)
            await _creations(many, found[CREATED if limited else FREE_CREATED], path)
    await _limit(setting, None)
    return list(found.values())


async def _limit(setting: Setting, path: str | None) -> None:
    """Let one container, and no other, have a quota that nobody comes near to."""
    connection = await asyncpg.connect(setting.space.dsn)
    await connection.execute("delete from quotas")
    if path is not None:
        await connection.execute(
            "insert into quotas (container_id, bytes, nodes) select id, 1e15, 1e12 from nodes where name = $1",
            path.rsplit("/", 1)[-1],
        )
    await connection.close()


async def _uploads(setting: Setting, series: Series, path: str) -> None:
    files = SmallFiles(setting, path)
    pairs = list(
        zip(setting.connections(setting.space.port), setting.connections(setting.space.storage_port), strict=True)
    )
    await timed(setting, series, [files.push(*pair) for pair in pairs])
    _close([one for pair in pairs for one in pair])


async def _creations(setting: Setting, series: Series, path: str) -> None:
    connections = setting.connections(setting.space.port)

    def create(number: int) -> bytes:
        name = f"{path}/node {number}".replace(" ", "%20")
        return request("PUT", f"/nodes{name}", token=setting.space.token, body=setting.node(name, "DataNode"))

    await timed(setting, series, [asker(one, create, 201) for one in connections])
    _close(connections)


def _close(connections: list[Connection]) -> None:
    for one in connections:
        one.close()
