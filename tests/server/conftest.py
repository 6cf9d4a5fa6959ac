"""People who talk to the pair, and a folder for each test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import pytest

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent
from tests.support.pair import PREFIXES, Pair, running_pair
from tests.support.postgres import PostgresServer

STAFF = PREFIXES[0] + "staff"
"""The group of bea."""
READERS = PREFIXES[0] + "readers"
"""The group of carl."""
MAKERS = PREFIXES[0] + "makers"
"""The group of alice."""


@dataclass(frozen=True)
class People:
    """Tokens by the name of the user."""

    tokens: dict[str, str | None]

    @classmethod
    def of(cls, pair: Pair) -> People:
        """Add bea and carl, who have homes, and a group for each user."""
        tokens: dict[str, str | None] = {"alice": pair.token, "admin": pair.admin_token, "nobody": None}
        for name in ("bea", "carl"):
            tokens[name] = pair.add_user(name)
        asyncio.run(cls._add_groups(pair))
        return cls(tokens)

    @staticmethod
    async def _add_groups(pair: Pair) -> None:
        database = await Database.connect(pair.dsn, pair.database)
        for group, member in (("staff", "bea"), ("readers", "carl"), ("makers", "alice")):
            await identities.add_group(database, group)
            await identities.change_member(database, group, member, add=True)
        await database.close()


@dataclass(frozen=True)
class Space:
    """A pair with its people."""

    pair: Pair
    session: aiohttp.ClientSession
    people: People

    def agent(self, name: str) -> Agent:
        """Give somebody by name; "nobody" has no credential."""
        return Agent(self.session, self.pair, self.people.tokens[name])


@pytest.fixture(scope="session")
def people(pair: Pair) -> People:
    return People.of(pair)


@pytest.fixture(scope="session")
def opencadc_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both servers with interop = opencadc."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_INTEROP": "opencadc"}
        folder = tmp_path_factory.mktemp("opencadc")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


@pytest.fixture
def space(pair: Pair, session: aiohttp.ClientSession, people: People) -> Space:
    return Space(pair, session, people)


@pytest.fixture
def alice(space: Space) -> Agent:
    """The owner of most of what the tests make."""
    return space.agent("alice")


@pytest.fixture
def bea(space: Space) -> Agent:
    """Member of the group staff."""
    return space.agent("bea")


@pytest.fixture
def carl(space: Space) -> Agent:
    """Member of the group readers."""
    return space.agent("carl")


@pytest.fixture
def admin(space: Space) -> Agent:
    return space.agent("admin")


@pytest.fixture
def nobody(space: Space) -> Agent:
    """An anonymous caller."""
    return space.agent("nobody")


@pytest.fixture
async def catalogue(pair: Pair) -> AsyncIterator[Database]:
    """The database of the pair, for what no client can do."""
    connected = await Database.connect(pair.dsn, pair.database)
    yield connected
    await connected.close()


@pytest.fixture
async def folder(alice: Agent) -> str:
    """Path of a fresh container in the home of alice: private to her."""
    return await alice.make(f"{alice.pair.home}/{uuid.uuid4().hex}", "ContainerNode")


@pytest.fixture
async def shared(admin: Agent) -> str:
    """Path of a fresh container below the root: the administrator's, public, and alice may write to it."""
    rights = {CORE + "ispublic": "true", CORE + "groupwrite": MAKERS}
    return await admin.make(f"/{uuid.uuid4().hex}", "ContainerNode", properties=rights)


def encoded(name: str) -> str:
    """Percent-encode a name as documents do."""
    return quote(name, safe="-._~!$'()*+,;=:@")
