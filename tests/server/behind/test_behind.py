# ruff: noqa: F401 (tests that are collected here too)
"""What is tested elsewhere, of a service that does not reach PostgreSQL as the others do.

Some of everything: what reads and what changes at once, jobs and their notifications, bytes, rights that are taken
away, the audit log, races.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from pyvospace.model.vocabulary import CORE
from tests.server.conftest import STAFF
from tests.server.test_audit import test_a_change_has_its_row, test_bytes_are_told_of, tree
from tests.server.test_copy import test_tree as test_copy_of_a_tree
from tests.server.test_create import (
    test_simultaneous_creations_have_one_winner,
)
from tests.server.test_delete import (
    test_one_of_many_deletions_wins,
)
from tests.server.test_entries import test_what_bytes_add
from tests.server.test_get import (
    test_listing_by_name_length_and_date,
    test_pages_begin_with_the_child_that_is_named,
)
from tests.server.test_jobs import (
    test_abort_of_an_upload_under_way,
    test_node_is_busy_while_bytes_arrive,
    test_push_from_agreement_to_completion,
)
from tests.server.test_links import test_links_on_the_way_are_followed
from tests.server.test_move import test_job as test_job_of_a_move
from tests.server.test_permissions import test_everybody_finds_out_why
from tests.server.test_quotas import test_fifty_uploads_where_twenty_fit
from tests.server.test_rights import test_rights_that_are_given_and_taken_hold_at_once
from tests.server.test_set import test_changes_at_once_lose_nothing
from tests.support.agents import Agent, uri_of
from tests.support.pair import Pair
from tests.support.standby import Standby


async def test_whoever_is_asked_knows_what_the_other_process_did(alice: Agent, bea: Agent, shared: str) -> None:
    once = {"Connection": "close"}

    async def see(path: str) -> None:
        assert (await alice.send("GET", f"/nodes{path}", headers=once)).status == 200
        listing = await alice.send("GET", f"/entries{shared}", headers=once)
        assert f'"name":"{path.rpartition("/")[2]}"' in listing.text
        assert (await bea.send("GET", f"/nodes{path}", headers=once)).status == 200
        (await alice.post(path, properties={CORE + "groupread": ""})).assert_status(200)
        assert (await bea.send("GET", f"/nodes{path}", headers=once)).status == 403
        found = await alice.send("GET", f"/search?target={uri_of(shared)}", headers=once)
        assert path in found.text

    paths = [await alice.make(f"{shared}/{number}", properties={CORE + "groupread": STAFF}) for number in range(10)]
    for path in paths[:5]:
        await see(path)
    await asyncio.gather(*map(see, paths[5:]))


async def test_servers_reach_it_as_they_should(pair: Pair, alice: Agent) -> None:
    """Nothing of the above was done in another way."""
    metadata, both = pair.log("metadata"), pair.log("metadata") + pair.log("storage")
    assert "RECONNECT" not in both
    assert "the replica is not read from" not in metadata
    assert ("the replica is read from" in metadata) == ("PYVOSPACE_DATABASE__REPLICA_DSN" in pair.environment)


@pytest.mark.parametrize("pair", ["replica"], indirect=True)
async def test_nobody_hears_of_the_end_of_the_replica(pair: Pair, alice: Agent, shared: str, follower: Standby) -> None:
    """The last of this module."""
    done = asyncio.Event()

    async def work(number: int) -> None:
        while not done.is_set():
            path = await alice.make(f"{shared}/{number}")
            (await alice.send("GET", f"/nodes{path}", headers={"Connection": "close"})).assert_status(200)
            assert f'"name":"{number}"' in (await alice.send("GET", f"/entries{shared}")).text
            number += 10

    tasks = [asyncio.create_task(work(number)) for number in range(6)]
    await asyncio.sleep(0.3)
    follower.signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)
    follower.kill()
    await asyncio.sleep(0.5)
    done.set()
    await asyncio.gather(*tasks)
    assert "the replica is not read from" in pair.log("metadata")
