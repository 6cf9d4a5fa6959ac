"""Wrong credentials wait, and are refused in the end; nobody shuts out somebody else (T24)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from pyvospace.config.credentials import LoginSettings
from pyvospace.db import identities, logins
from pyvospace.db.bootstrap import add_user, create_token, set_up
from pyvospace.db.passwords import hash_password
from pyvospace.db.pool import Database
from pyvospace.model.faults import NotAuthenticated, TooManyAttempts
from pyvospace.service.auth import Authenticator, Presented

SETTINGS = LoginSettings(failures=5, failures_of_address=20, longest_delay=0)
HOME, OTHER = "192.0.2.1", "192.0.2.2"


@pytest.fixture
async def world(database: Database) -> AsyncIterator[Database]:
    await set_up(database, authority="localhost~space", group_prefixes=["ivo://localhost/space/gms?"])
    await add_user(database, "alice", password=hash_password("right"))
    return database  # type: ignore[return-value]


def process(database: Database, **changes: float) -> Authenticator:
    """Make the authenticator of a process, which remembers nobody."""
    return Authenticator(database, logins=SETTINGS.model_copy(update=changes))


def shown(name: str, password: str, remote: str = HOME) -> Presented:
    credential = base64.b64encode(f"{name}:{password}".encode()).decode()
    return Presented(f"Basic {credential}", remote=remote)


async def refusals(authenticator: Authenticator, *all_shown: Presented) -> list[type[Exception]]:
    """Give how each of these was refused."""
    found = await asyncio.gather(*map(authenticator.identify, all_shown), return_exceptions=True)
    return [type(one) for one in found if isinstance(one, Exception)]


@pytest.mark.clause("T24")
@pytest.mark.parametrize("name", ["alice", "admin", "nobody"])
async def test_repeated_failures_end_in_429_for_all_processes_together(world: Database, name: str) -> None:
    processes = [process(world), process(world)]
    for number in range(5):
        assert await refusals(processes[number % 2], shown(name, f"wrong {number}")) == [NotAuthenticated]
    for one in processes:
        with pytest.raises(TooManyAttempts) as caught:
            await one.identify(shown(name, "right"))
        assert 0 < caught.value.retry_after <= 120


async def test_many_at_once_are_no_more_than_one_after_the_other(world: Database) -> None:
    tried = await refusals(process(world), *(shown("alice", f"wrong {number}") for number in range(15)))
    assert (tried.count(NotAuthenticated), tried.count(TooManyAttempts)) == (5, 10)


async def test_a_stranger_elsewhere_shuts_nobody_out(world: Database) -> None:
    authenticator = process(world)
    for last in range(2, 12):
        await refusals(authenticator, *(shown("alice", f"{number}", f"192.0.2.{last}") for number in range(10)))
    assert (await authenticator.identify(shown("alice", "right"))).name == "alice"


async def test_one_address_tries_many_names(world: Database) -> None:
    authenticator = process(world)
    tried = await refusals(authenticator, *(shown(f"user{number}", "secret") for number in range(25)))
    assert (tried.count(NotAuthenticated), tried.count(TooManyAttempts)) == (20, 5)
    assert await refusals(authenticator, shown("alice", "right")) == [TooManyAttempts]
    assert await refusals(authenticator, shown("alice", "right", OTHER)) == []


async def test_addresses_of_one_network_are_one(world: Database) -> None:
    tried = await refusals(process(world), *(shown("alice", f"{number}", f"2001:db8::{number}") for number in range(8)))
    assert tried.count(TooManyAttempts) == 3


async def test_a_right_password_takes_its_failures_away(world: Database) -> None:
    authenticator = process(world)
    for _ in range(3):
        await refusals(authenticator, *(shown("alice", f"wrong {number}") for number in range(4)))
        authenticator.forget(shown("alice", "right"))
        assert (await authenticator.identify(shown("alice", "right"))).name == "alice"


async def test_failures_are_forgotten(world: Database) -> None:
    authenticator = process(world)
    await refusals(authenticator, *(shown("alice", f"wrong {number}") for number in range(9)))
    await world.fetch("update login_failures set counted = counted - interval '5 minutes'")
    assert await refusals(authenticator, shown("alice", "wrong"), shown("alice", "too")) == [NotAuthenticated] * 2
    assert await refusals(authenticator, shown("alice", "right")) == [TooManyAttempts]
    await world.fetch("update login_failures set until = now() - interval '1 second'")
    await logins.tidy(world, batch=100)
    assert await world.fetch("select from login_failures") == []
    assert await refusals(authenticator, shown("alice", "right")) == []


async def test_a_right_password_many_times_at_once_is_one_attempt(world: Database) -> None:
    authenticator = process(world)
    assert await refusals(authenticator, *(shown("alice", "right") for _ in range(30))) == []
    assert await world.fetch("select from login_failures where number > 0") == []


async def test_who_is_remembered_touches_no_table(world: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = process(world)
    await authenticator.identify(shown("alice", "right"))
    monkeypatch.setattr(logins, "count", None)
    assert (await authenticator.identify(shown("alice", "right"))).name == "alice"


async def test_wrong_tokens_and_certificates_count_for_their_address_but_never_stop_right_ones(world: Database) -> None:
    authenticator = process(world)
    token = await create_token(world, "alice", "test")
    await identities.add_identity(world, "alice", "x509", "", "CN=alice,C=xx")
    wrong = [Presented(f"Bearer {number}", remote=HOME) for number in range(15)]
    wrong += [Presented(certificate=f"CN={number},C=xx", remote=HOME) for number in range(15)]
    tried = await refusals(authenticator, *wrong)
    assert (tried.count(NotAuthenticated), tried.count(TooManyAttempts)) == (20, 10)
    for right in (Presented(f"Bearer {token}", remote=HOME), Presented(certificate="CN=alice,C=xx", remote=HOME)):
        assert (await authenticator.identify(right)).name == "alice"
    assert await refusals(authenticator, shown("alice", "right")) == [], "passwords are counted on their own"


async def test_answers_come_ever_later(world: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    authenticator = process(world, longest_delay=4.0)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    for number in range(6):
        with suppress(NotAuthenticated, TooManyAttempts):
            await authenticator.identify(shown("alice", f"wrong {number}"))
    assert len(delays) == 4
    assert delays == sorted(delays)
    assert delays[-1] <= 4.0


async def test_an_unlinked_certificate_tells_which_name_is_to_be_linked(world: Database) -> None:
    with pytest.raises(NotAuthenticated, match="CN=alice,O=vo,C=xx"):
        await process(world).identify(Presented(certificate="CN=alice,O=vo,C=xx"))
    await identities.add_identity(world, "alice", "x509", "", "CN=alice,O=vo,C=xx")
    caller = await process(world).identify(Presented(certificate="CN=alice,O=vo,C=xx"))
    assert (caller.name, caller.credential) == ("alice", "x509 CN=alice,O=vo,C=xx")
