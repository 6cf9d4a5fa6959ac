"""Where bytes go, where they are read, and how copies follow policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from pyvospace.db import placement
from pyvospace.db.replications import PostgresReplications
from pyvospace.model.claims import EndpointClaims, StorageState, UploadClaim
from pyvospace.model.faults import Fault, InvalidData, NodeBusy, NodeNotFound, PermissionDenied
from pyvospace.model.stored import Changes
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.db.world import Storage, World, age, obsolete, pull, push, stored_file
from tests.support.postgres import PostgresServer

LOST = 3600.0


class Site:
    """Three places and those who speak for them."""

    def __init__(self, world: World, storages: list[Storage]) -> None:
        self.world = world
        self.storages = dict(zip("abc", storages, strict=True))

    async def announce(
        self, name: str, *, free: int | None = None, labels: str = "", cold: bool = False, site: str = "", busy: int = 0
    ) -> None:
        one = self.storages[name]
        await one.catalogue.announce(
            StorageState(
                id=one.id,
                name=name,
                url=f"http://{name}",
                free=free,
                labels=tuple(labels.split()),
                cold=cold,
                site=site,
                busy=busy,
            )
        )

    async def execute(self, text: str, *values: object) -> None:
        await self.world.database.fetch(text, *values)

    async def policy(self, **columns: object) -> None:
        """Set the policy of the root."""
        for column, value in columns.items():
            await self.execute(f"update policies set {column} = $1 where container_id = 1", value)

    async def silence(self, name: str, seconds: float = 31) -> None:
        await self.execute(
            "update storages set last_seen = now() - make_interval(secs => $2) where name = $1", name, seconds
        )

    async def state(self, name: str, state: str) -> None:
        await self.execute("update storages set state = $2 where name = $1", name, state)

    async def offered(self, number: int = 1, *, announced: int | None = None, near: str = "") -> Counter[str]:
        rows = [
            await self.world.database.fetchrow("select url from place_for_upload(1, $1, $2)", announced, near)
            for _ in range(number)
        ]
        return Counter(str(row["url"]).removeprefix("http://") if row["url"] else "" for row in rows if row)

    async def readers(self, where: str = "data", *, near: str = "") -> list[str]:
        node = await self.world.node(where)
        found = await placement.to_read(self.world.database, node.id, near=near)
        return [one.url.removeprefix("http://") for one in found]

    async def upload(self, name: str = "a", where: str = "data", content: bytes = b"bytes") -> str:
        """Bring bytes to a place of our choice; give their location."""
        claims = await push(self.world, where, await self.world.caller())
        one = self.storages[name]
        await self.execute("update jobs set storage_id = (select id from storages where name = $1)", name)
        return (await one.upload(claims, content)).location

    def copier(self, name: str) -> PostgresReplications:
        one = self.storages[name]
        return PostgresReplications(one.database, one.id, upload_wait=10.0)

    async def copy(self, name: str, content: bytes = b"bytes") -> str | None:
        """Have a place make one copy; give its location."""
        copier = self.copier(name)
        task = await copier.claim()
        if task is None:
            return None
        stored = stored_file(content)
        async with copier.transaction(UploadClaim(id=task.id, lease=task.lease)) as transaction:
            await transaction.store(stored)
        return stored.location

    async def copy_somewhere(self) -> str:
        """Have the one place make a copy that is to have one."""
        (name,) = [name for name in self.storages if await self.copy(name)]
        return name

    async def tasks(self) -> list[str]:
        rows = await self.world.database.fetch(
            "select s.name from replications r join storages s on s.id = r.at_storage order by s.name"
        )
        return [row["name"] for row in rows]

    async def keep(self) -> None:
        """Look at the bytes of all places once."""
        for row in await self.world.database.fetch("select id from storages order by id"):
            page = await placement.keep_page(self.world.database, row["id"], behind="", limit=100, lost_after=LOST)
            if page.homes:
                await placement.move_homes(self.world.database, page, lost_after=LOST)

    async def places(self, where: str = "data") -> list[str]:
        """Names of the places that have the bytes of a node, its home first."""
        rows = await self.world.database.fetch(
            "select s.name from nodes n cross join lateral copies_of(n.storage_id, n.location, 3600) c"
            "  join storages s on s.id = c.storage where n.id = $1 order by c.at_home desc, s.name",
            (await self.world.node(where)).id,
        )
        return [row["name"] for row in rows]


@pytest.fixture
async def site(world: World, postgres_server: PostgresServer, database_name: str) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        dsn = postgres_server.dsn(database_name, STORAGE_ROLE)
        made = Site(world, [await Storage.open(dsn, stack) for _ in range(3)])
        for name, storage in made.storages.items():
            await storage.catalogue.leave("http://storage")
            await made.announce(name)
        yield made


# -------------------------------------------------------------------------------------------------------- uploads


async def test_uploads_go_where_they_may(site: Site) -> None:
    assert set(await site.offered(60)) == {"a", "b", "c"}
    await site.state("a", "draining")
    await site.announce("b", cold=True)
    assert set(await site.offered(20)) == {"c"}
    await site.silence("c")
    assert set(await site.offered()) == {""}
    await site.announce("c", free=100)
    assert set(await site.offered(announced=99)) == {"c"}
    assert set(await site.offered(announced=100)) == {""}


async def test_room_and_load_and_site_weigh(site: Site) -> None:
    await site.announce("a", free=1000)
    await site.announce("b", free=20, site="north")
    await site.announce("c", free=1000, busy=99)
    drawn = await site.offered(200)
    assert drawn["a"] > 150
    assert set(await site.offered(20, near="north")) == {"b"}
    assert set(await site.offered(announced=500, near="north")) <= {"a", "c"}


async def test_labels_of_policies_are_minded(site: Site) -> None:
    await site.announce("b", labels="ssd archive")
    await site.policy(label="ssd")
    assert set(await site.offered(20)) == {"b"}
    box = await site.world.add("box")
    await site.execute("insert into policies (container_id, label) values ($1, '')", box.id)
    rows = [
        await site.world.database.fetchval("select url from place_for_upload($1, 1, '')", box.id) for _ in range(60)
    ]
    assert len(set(rows)) == 3


async def test_who_leaves_gets_nothing_at_once(site: Site) -> None:
    one = site.storages["a"]
    await one.catalogue.announce(StorageState(id=one.id, name="a", url="http://a2", free=None))
    await one.catalogue.leave("http://a")
    await site.state("b", "retired")
    await site.silence("c")
    assert set(await site.offered(10)) == {"a2"}
    await one.catalogue.leave("http://a2")
    assert set(await site.offered()) == {""}
    await site.announce("a")
    assert set(await site.offered()) == {"a"}


# ---------------------------------------------------------------------------------------------------------- reads


async def test_reads_go_to_any_good_copy(site: Site) -> None:
    await site.policy(replicas=2)
    location = await site.upload()
    other = await site.copy_somewhere()
    third = ({"b", "c"} - {other}).pop()
    assert set(await site.readers()) == {"a", other}
    await site.announce(other, site="south")
    assert await site.readers(near="south") == [other, "a"]
    reading = await pull(site.world, "data", await site.world.caller())
    for name in ("a", other):
        assert (await site.storages[name].catalogue.claim_download(reading)).size == 5
    with pytest.raises(NodeNotFound):
        await site.storages[third].catalogue.claim_download(reading)
    await site.execute(
        "insert into damages (storage_id, location, kind) select id, $1, 'digest' from storages where name = 'a'",
        location,
    )
    assert await site.readers() == [other]
    with pytest.raises(Fault):
        await site.storages["a"].catalogue.claim_download(reading)
    await site.silence(other)
    assert await site.readers() == []


# --------------------------------------------------------------------------------------------------------- copies


async def test_copies_are_made_as_policies_want_and_spare_ones_go(site: Site) -> None:
    await site.upload()
    assert await site.tasks() == []
    await site.policy(replicas=3)
    await site.upload()
    assert await site.tasks() == ["b", "c"]
    await site.keep()
    assert await site.tasks() == ["b", "c"]
    assert await site.copy("b")
    assert await site.copy("b") is None
    assert await site.copy("c")
    assert await site.places() == ["a", "b", "c"]
    await site.policy(replicas=2)
    before = len(await obsolete(site.world))
    await site.keep()
    assert len(await site.places()) == 2
    assert len(await obsolete(site.world)) == before + 1
    await site.silence((await site.places())[1])
    await site.policy(replicas=1)
    await site.keep()
    assert len(await site.places()) == 2, "nobody else can be read for certain"


async def test_a_copy_is_fenced_and_checked(site: Site) -> None:
    await site.policy(replicas=3)
    await site.upload()
    copier = site.copier("b")
    task = await copier.claim()
    assert task is not None
    assert await copier.claim() is None
    claim = UploadClaim(id=task.id, lease=task.lease)
    asked = EndpointClaims(operation="replica", node_id=None, job_id=task.id, user_id=None, expires=datetime.now(UTC))
    assert (await site.storages["a"].catalogue.claim_replica(asked)).size == 5
    with pytest.raises(PermissionDenied):
        await site.storages["c"].catalogue.claim_replica(asked)
    with pytest.raises(InvalidData):
        async with copier.transaction(claim) as transaction:
            await transaction.store(stored_file(b"other"))
    assert await copier.renew(claim)
    await age(site.world, "replications", "until", 60)
    await age(site.world, "replications", "due", 60)
    again = await copier.claim()
    assert again is not None
    assert not await copier.renew(claim)
    with pytest.raises(NodeBusy):
        async with copier.transaction(claim) as transaction:
            await transaction.store(stored_file())
    await site.world.remove("data")
    with pytest.raises(NodeBusy):
        async with copier.transaction(UploadClaim(id=again.id, lease=1)) as transaction:
            await transaction.store(stored_file())
    assert await site.copy("c") is None
    assert await site.tasks() == ["b"]


async def test_copies_go_with_their_home(site: Site) -> None:
    await site.policy(replicas=2)
    await site.upload()
    other = await site.copy_somewhere()
    await site.world.remove("data")
    assert len(await site.storages["a"].catalogue.take_obsolete(grace=0, limit=10)) == 1
    assert len(await site.storages[other].catalogue.take_obsolete(grace=0, limit=10)) == 1
    assert await site.world.database.fetchval("select count(*) from replicas") == 0


async def test_lost_and_draining_and_damaged_homes_move(site: Site) -> None:
    await site.policy(replicas=2)
    await site.upload()
    node = await site.world.change("data", Changes(immutable=True))
    other = await site.copy_somewhere()
    third = ({"b", "c"} - {other}).pop()
    await site.silence("a", LOST + 1)
    await site.keep()
    assert await site.places() == [other]
    assert await site.copy(third)
    await site.announce("a")
    assert len(await site.storages["a"].catalogue.take_obsolete(grace=0, limit=10)) == 1
    await site.state(other, "draining")
    await site.keep()
    assert (await site.places())[0] == third
    assert await site.copy("a")
    await site.keep()
    assert await site.places() == [third, "a"]
    location = await site.world.database.fetchval("select location from nodes where id = $1", node.id)
    await site.execute(
        "insert into damages (storage_id, location, kind)"
        " select storage_id, location, 'digest' from nodes where location = $1",
        location,
    )
    await site.keep()
    assert await site.places() == ["a"]
    after = await site.world.node("data")
    assert (after.modified, after.changed, after.md5) == (node.modified, node.changed, node.md5)


async def test_a_storage_that_stays_the_only_place_keeps_its_bytes(site: Site) -> None:
    await site.upload()
    await site.silence("b")
    await site.silence("c")
    await site.state("a", "draining")
    await site.keep()
    assert (await site.places(), await site.readers(), await site.tasks()) == (["a"], ["a"], [])
    await site.announce("b")
    await site.keep()
    assert await site.copy("b")
    await site.keep()
    assert await site.places() == ["b"]
    assert len(await obsolete(site.world)) == 1


async def test_older_contents_are_looked_after_too(site: Site) -> None:
    await site.policy(replicas=2, versions=5)
    await site.upload()
    await site.copy_somewhere()
    await site.upload("a", content=b"newer")
    await site.state("a", "draining")
    await site.keep()
    rows = await site.world.database.fetch("select s.name from versions v join storages s on s.id = v.storage_id")
    assert [row["name"] for row in rows] != ["a"]


# ---------------------------------------------------------------------------------------------------------- tiers


async def test_what_nobody_writes_gets_cold_and_comes_back(site: Site) -> None:
    await site.announce("c", cold=True)
    await site.policy(tier_days=10)
    await site.upload()
    await site.keep()
    assert await site.tasks() == []
    await site.execute("update nodes set modified = modified - interval '11 days' where location is not null")
    await site.keep()
    assert await site.tasks() == ["c"]
    assert await site.copy("c")
    await site.keep()
    assert await site.places() == ["c"]
    assert await site.readers() == []
