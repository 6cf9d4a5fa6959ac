"""A store beside its catalogue: what fsck finds in it, what the scrubber finds, and what the sweep must leave alone."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.faults import Fault, InternalFault, NodeNotFound
from pyvospace.storage.backend import Listed, StorageBackend
from pyvospace.storage.backends.posix_directory import Staged
from pyvospace.storage.checking import Remedy, clear
from pyvospace.storage.scrub import LostRange
from pyvospace.storage.suspicions import suspicions
from tests.db.world import age, obsolete, pull
from tests.support.store import Store, store


@pytest.fixture
async def shop(database: Database, storage_dsn: str, tmp_path: Path) -> AsyncIterator[Store]:
    async with store(database, storage_dsn, tmp_path / "store") as made:
        yield made


async def nothing_more(shop: Store) -> None:
    """Read until there is nothing to read: a whole pass."""
    scrubber = shop.scrubber(interval=3600)
    while await scrubber.read_range():
        pass


# fsck


async def test_damage_in_the_store_is_found_entered_and_told_once(shop: Store) -> None:
    good, missing, short = [await shop.put(name, b"x" * 5000) for name in ("good", "missing", "short")]
    assert await shop.check() == []
    claims = await pull(shop.world, "short", await shop.world.caller("owner"))
    shop.file(missing).unlink()
    os.truncate(shop.file(short), 4999)
    assert sorted(await shop.check()) == sorted([("missing", missing), ("size", short)])
    assert await shop.damages() == {}
    assert len(await shop.check(Remedy.REPAIR)) == 2
    assert await shop.damages() == {missing: "missing", short: "size"}
    assert await shop.check(Remedy.REPAIR) == []
    with pytest.raises(InternalFault, match="no other copy"):
        await shop.storage.catalogue.claim_download(claims)
    # The operator brings one of them back, a user stores the other one again.
    os.truncate(shop.file(short), 0)
    shop.file(short).write_bytes(b"x" * 5000)
    again = await shop.put("missing", b"y")
    assert [one.kind async for one in clear(shop.backend, shop.records, shop.workers.quick)] == []
    await shop.sweeper().sweep()
    assert await shop.damages() == {}
    assert sorted([one.location async for one in shop.backend.listing()]) == sorted([good, short, again])
    actions = await shop.world.database.fetch("select action from audit where action like '%Damage'")
    assert sorted(row[0] for row in actions) == ["clearDamage", "findDamage", "findDamage"]


@pytest.mark.parametrize("remedy", [Remedy.QUARANTINE, Remedy.REPAIR])
async def test_what_nobody_names_goes_after_a_second_look(shop: Store, remedy: Remedy) -> None:
    await shop.put("good", b"x")
    stray = f"abc/{'0' * 32}"
    shop.file(stray).parent.mkdir(exist_ok=True)
    shop.file(stray).write_bytes(b"?")
    assert await shop.check(remedy, grace=3600) == []  # too young
    os.utime(shop.file(stray))
    assert await shop.check() == [("unknown", stray)]
    assert shop.file(stray).exists()
    assert await shop.check(remedy) == [("unknown", stray)]
    assert not shop.file(stray).exists()
    assert (shop.root / "quarantine" / ("0" * 32)).exists() == (remedy is Remedy.QUARANTINE)
    assert await shop.check(remedy) == []


async def test_what_is_overdue_is_swept(shop: Store) -> None:
    old = await shop.put("node", b"1")
    await shop.put("node", b"2")
    await age(shop.world, "obsolete", "since", 3600)
    assert await shop.check() == [("overdue", old)]
    assert await shop.check(Remedy.REPAIR) == [("overdue", old)]
    assert not shop.file(old).exists()
    assert await shop.check() == []


async def test_a_backend_whose_listing_tells_no_sizes(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await shop.put("node", b"abc")
    monkeypatch.setattr(type(shop.backend), "listing", StorageBackend.listing)

    async def locations(_: object) -> AsyncIterator[tuple[str, datetime]]:
        yield place, datetime.now(UTC)

    monkeypatch.setattr(type(shop.backend), "locations", locations)
    assert await shop.check() == []
    os.truncate(shop.file(place), 2)
    assert await shop.check() == [("size", place)]


async def test_a_listing_that_breaks_off_accuses_nobody(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [await shop.put(f"node{number}", b"x") for number in range(2)]
    shop.file(places[0]).unlink()

    async def broken(_: object) -> AsyncIterator[Listed]:
        yield Listed(places[1], datetime.now(UTC), 1)
        raise RuntimeError("the plugin lost its way")

    monkeypatch.setattr(type(shop.backend), "listing", broken)
    assert await shop.check(Remedy.REPAIR) == [("listing", "store")]


async def test_what_cannot_be_deleted_is_tried_again(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [await shop.put("node", bytes([number])) for number in range(4)][:3]
    delete = shop.backend.delete

    async def failing(location: str) -> None:
        if location == old[1]:
            raise OSError(30, "read-only")
        await delete(location)

    monkeypatch.setattr(shop.backend, "delete", failing)
    assert (await shop.sweeper().sweep()).obsolete == 2
    assert await obsolete(shop.world) == [old[1]]
    monkeypatch.undo()
    assert (await shop.sweeper().sweep()).obsolete == 1
    assert [shop.file(place).exists() for place in old] == [False] * 3


async def test_a_wrong_database_costs_nothing(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another catalogue every file is unknown; a directory that is away lacks every file."""
    monkeypatch.setattr("pyvospace.storage.checking._BATCH", 10)
    places = [await shop.put(f"node{number}", b"x") for number in range(10)]
    await shop.world.database.fetchrow("update nodes set location = 'aaa/' || location where location is not null")
    found = await shop.check(Remedy.REPAIR)
    assert {kind for kind, _ in found} == {"unknown", "missing"}
    assert all(shop.file(place).exists() for place in places)


async def test_no_false_findings_under_load(shop: Store) -> None:
    """Uploads, replacements, deletions and sweeps go on all the time."""
    for number in range(20):
        await shop.put(f"node{number}", b"x" * number)
    over = asyncio.Event()

    async def churn(first: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            with suppress(Fault):
                await shop.put(f"node{first + number % 10}", os.urandom(100))
            if number % 7 == 0:
                await shop.world.remove(f"node{first + number % 10}")
            if number % 5 == 0:
                await shop.sweeper(grace=3600).sweep()

    load = [asyncio.create_task(churn(first)) for first in (0, 10)]
    for _ in range(5):
        assert await shop.check(grace=3600) == []
    over.set()
    await asyncio.gather(*load)
    await shop.sweeper(grace=3600).sweep()
    assert await shop.check() == []


# The scrubber


async def test_every_kind_of_damage_is_found_and_goes(shop: Store) -> None:
    names = {"flipped": "digest", "short": "size", "missing": "missing", "folder": "unreadable"}
    places = {name: await shop.put(name, bytes(70_000)) for name in (*names, "good")}
    await nothing_more(shop)
    assert await shop.damages() == {}
    with shop.file(places["flipped"]).open("r+b") as file:
        file.seek(69_999)
        file.write(b"!")
    os.truncate(shop.file(places["short"]), 5)
    shop.file(places["missing"]).unlink()
    shop.file(places["folder"]).unlink()
    shop.file(places["folder"]).symlink_to("/dev/null")
    await age(shop.world, "scrubs", "began", 7200)
    await nothing_more(shop)
    await nothing_more(shop)  # the pass is not due: nothing is read
    found = await shop.damages()
    assert {name: found.get(place) for name, place in places.items() if name != "folder"} == {
        "flipped": "digest",
        "short": "size",
        "missing": "missing",
        "good": None,
    }
    assert places["folder"] in found
    with shop.file(places["flipped"]).open("r+b") as file:
        file.seek(69_999)
        file.write(b"\0")
    await age(shop.world, "scrubs", "began", 7200)
    await nothing_more(shop)
    assert places["flipped"] not in await shop.damages()


async def test_the_node_says_that_its_bytes_are_damaged(shop: Store) -> None:
    place = await shop.put("node", b"abc")
    claims = await pull(shop.world, "node", await shop.world.caller("owner"))
    assert (await shop.world.node("node")).integrity == ""
    await nothing_more(shop)
    checked = await shop.world.node("node")
    assert checked.integrity.startswith("good ")
    shop.file(place).write_bytes(b"abd")
    await age(shop.world, "scrubs", "began", 7200)
    await nothing_more(shop)
    assert (await shop.world.node("node")).integrity.startswith("damaged digest ")
    await shop.world.database.fetchrow(
        "with s as (insert into storages (uuid, name, url, role) values (gen_random_uuid(), 'b', 'http://b', 'x') "
        "returning id) insert into replicas select n.storage_id, n.location, s.id, 'copy' from nodes n, s "
        "where n.location is not null"
    )
    assert (await shop.world.node("node")).integrity.startswith("degraded digest ")
    with pytest.raises(NodeNotFound, match="negotiate again"):
        await shop.storage.catalogue.claim_download(claims)


async def test_a_pass_goes_on_where_a_dead_process_was(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges are shared, none is read twice at the same time, and none is left out."""
    monkeypatch.setattr("pyvospace.storage.scrub._RANGE", 2)
    places = sorted([await shop.put(f"node{number}", b"x") for number in range(7)])
    read: list[str] = []
    size = shop.backend.size

    async def watched(location: str) -> int:
        read.append(location)
        return await size(location)

    monkeypatch.setattr(shop.backend, "size", watched)
    dead = await shop.records.claim_scrub("dead", interval=3600, lease=60, limit=2)
    assert await shop.scrubber(interval=3600).read_range()
    assert [one.location for one in dead] + read == places[:4]
    await nothing_more(shop)
    assert sorted(read) == places[2:]
    assert await shop.world.database.fetchval("select ended from scrubs") is None
    await age(shop.world, "scrub_ranges", "until", 120)
    await nothing_more(shop)
    assert sorted(read) == places
    assert await shop.world.database.fetchval("select ended from scrubs") is not None
    assert not await shop.records.renew_scrub("dead", 60)


async def test_who_loses_his_range_stops(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.put("node", b"x")
    monkeypatch.setattr("pyvospace.storage.scrub._RENEWED", -1.0)
    monkeypatch.setattr(shop.records, "renew_scrub", _lost)
    assert await shop.scrubber().read_range()
    assert await shop.world.database.fetchval("select count(*) from scrub_ranges") == 1
    assert issubclass(LostRange, Exception)


async def _lost(*_: object) -> bool:
    return False


async def test_what_cannot_be_served_is_looked_at(shop: Store) -> None:
    """Also with the scrubber turned off."""
    place = await shop.put("node", b"abc")
    os.truncate(shop.file(place), 1)
    running = asyncio.create_task(shop.scrubber(rate=0).run())
    suspicions(shop.backend).add(place)
    while not await shop.damages():
        await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait([running])
    assert await shop.damages() == {place: "size"}


# The sweep cannot race a commit


async def test_a_clock_that_is_wrong_deletes_nothing_that_is_being_committed(
    shop: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store whose clock is far behind says that all is old: also what is published and not yet committed."""

    async def old(_: object) -> AsyncIterator[Listed]:
        for file in sorted(shop.root.glob("data/*/*")):
            yield Listed(f"{file.parent.name}/{file.name}", datetime.now(UTC) - timedelta(days=9000))

    monkeypatch.setattr(type(shop.backend), "listing", old)
    publish = shop.backend._publish
    sweeper, loop = shop.sweeper(grace=3600), asyncio.get_running_loop()

    def published(files: Sequence[tuple[Staged, str]]) -> list[BaseException | None]:
        """Runs in a thread, before the node has its bytes."""
        outcomes = publish(files)
        swept = Context().run(asyncio.run_coroutine_threadsafe, sweeper.sweep(), loop).result()
        assert swept.unknown == 0
        return outcomes

    monkeypatch.setattr(shop.backend, "_publish", published)
    place = await shop.put("node", b"abc")
    assert shop.file(place).exists()
    monkeypatch.undo()
    monkeypatch.setattr(type(shop.backend), "listing", old)
    # Suspected before it had a name: that is forgotten as soon as it has one.
    assert await shop.world.database.fetchval("select count(*) from suspects") == 1
    await age(shop.world, "suspects", "since", 7200)
    assert (await sweeper.sweep()).unknown == 0
    assert await shop.world.database.fetchval("select count(*) from suspects") == 0
    # What never gets one goes when it has been without for long enough.
    stray = shop.file(place).with_name("1" * 32)
    stray.write_bytes(b"?")
    assert (await sweeper.sweep()).unknown == 0
    await age(shop.world, "suspects", "since", 3601)
    assert (await sweeper.sweep()).unknown == 1
    assert shop.file(place).exists()
    assert not stray.exists()
