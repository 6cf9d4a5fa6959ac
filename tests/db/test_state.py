"""What the state of the service lets begin, and what may end."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import pytest

from pyvospace.db import jobs, state
from pyvospace.model.faults import ServiceBusy
from pyvospace.model.jobs import Kind
from pyvospace.model.vocabulary import Phase
from pyvospace.model.vosi import CLOSED_FOR, Standing, State
from tests.db.world import Storage, World, phase, push, stored_file


async def turn(world: World, wanted: State, note: str = "") -> None:
    assert await state.turn(world.database, Standing(wanted, note))


async def test_uploads(world: World, storage: Storage) -> None:
    """What had begun may renew its lease and store its bytes; nothing begins."""
    await world.add("box")
    caller = await world.caller("owner")
    first, second = await push(world, "box/first", caller), await push(world, "box/second", caller)
    claim = await storage.catalogue.claim_upload(first, size=5)
    for closed, words in ((State.READ_ONLY, "disks are moved"), (State.OFFLINE, "the service is offline")):
        await turn(world, closed, "" if closed is State.OFFLINE else words)
        with pytest.raises(ServiceBusy, match=words) as refused:
            await storage.catalogue.claim_upload(second, size=5)
        assert refused.value.retry_after == CLOSED_FOR
        assert await storage.catalogue.renew(claim)
    await storage.store(claim, stored_file())
    assert await phase(world, first.job_id) is Phase.COMPLETED
    await turn(world, State.READ_WRITE)
    await storage.upload(second)


async def test_jobs(world: World) -> None:
    """Jobs that change nodes wait for the service to be open; those that read do so only while it is offline."""

    async def queue(kind: Kind) -> None:
        made = await jobs.insert(
            world.database, secrets.token_hex(20), owner=jobs.Owner(1), list_="x", kind=kind, request={},
            phase=Phase.QUEUED, run_id=None, destruction=1000, waiting=10, duration=0,
        )  # fmt: skip
        assert made

    async def claimed(kinds: Sequence[Kind] = tuple(Kind)) -> str | None:
        job = await jobs.claim(world.database, kinds, attempt=secrets.token_hex(8), lease=10)
        return job.kind if job else None

    await queue(Kind.MOVE)
    await queue(Kind.SEARCH)
    await turn(world, State.OFFLINE)
    assert await claimed() is None
    await turn(world, State.READ_ONLY)
    assert [await claimed(), await claimed()] == [Kind.SEARCH, None]
    await turn(world, State.READ_WRITE)
    assert [await claimed(), await claimed()] == [Kind.MOVE, None]


async def test_each_change_makes_callers_strangers(world: World, storage: Storage) -> None:
    """That is how a process that has not heard of a change is found out."""
    before = await world.caller("owner")
    await turn(world, State.READ_ONLY)
    seen = await state.standing(storage.database)
    assert (seen.state, seen.epoch, seen.turned) == (State.READ_ONLY, before.epoch + 1, None)
    assert not await state.turn(world.database, Standing(State.OFFLINE), by=before)
    assert await state.turn(world.database, Standing(State.OFFLINE), by=await world.caller())
    assert (await state.standing(storage.database)).turned is not None
