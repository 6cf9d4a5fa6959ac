"""The full matrix: everybody, every state of a node, every operation, against a live pair (see `matrix`)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import asyncpg
import pytest

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.server import matrix
from tests.server.matrix import ABSENT, BYTES, GOAL, NAME, OPERATIONS, PEOPLE, SECRET, STATES, USERS, Cell, Outcome
from tests.support.agents import Agent, properties_of
from tests.support.pair import PREFIXES, Pair, running_pair
from tests.support.postgres import PostgresServer

TOP = "/mx"
READERS, WRITERS = PREFIXES[0] + "mx-readers", PREFIXES[0] + "mx-writers"
_AT_ONCE = 8
_CHANGING = {
    *("put bytes", "push", "push by parameters", "set", "share", "create", "delete", "move", "copy"),
    *("delete job", "set job"),
}
"""Operations that leave something else behind when they are allowed."""
_OF_BOX = {"list", "list entries", "search", "search for", "search job", "pack", "create"}
"""Operations on the container, whose list of names is for whoever may read it."""
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T[0-9:.]+Z?|[0-9a-f]{40}")
"""What differs between two answers that say the same: times, and ids of jobs."""


@pytest.fixture(scope="module")
def mx_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair of its own: thousands of nodes would be in the way of other tests."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path_factory.mktemp("matrix"), storage_dsn=storage_dsn) as running:
            yield running


@pytest.fixture(scope="module")
def tokens(mx_pair: Pair) -> dict[str, str | None]:
    """Add the people, and two tokens of the owner that may less."""
    made: dict[str, str | None] = {"admin": mx_pair.admin_token, "nobody": None, "url": None}
    for name in ("owner", "reader", "writer", "stranger"):
        made[name] = mx_pair.add_user(f"mx-{name}")
    scopes = {
        "limited": Scope.parse([f"{TOP}/limited"], ["read"]),
        "elsewhere": Scope.parse(["/home/mx-owner"], ["read", "write", "share"]),
    }

    async def work() -> None:
        database = await Database.connect(mx_pair.dsn, mx_pair.database)
        for group, member in (("mx-readers", "mx-reader"), ("mx-writers", "mx-writer")):
            await identities.add_group(database, group)
            await identities.change_member(database, group, member, add=True)
        for name, scope in scopes.items():
            digest = hashlib.sha256(f"token-{name}".encode()).digest()
            await identities.add_token(database, "mx-owner", name, digest, None, scope=scope)
            made[name] = f"token-{name}"
        await database.close()

    asyncio.run(work())
    return made


@dataclass
class Playground:
    """The nodes of all cells."""

    pair: Pair
    session: aiohttp.ClientSession
    tokens: dict[str, str | None]
    connection: asyncpg.Connection[asyncpg.Record]
    cells: list[Cell]
    urls: dict[Cell, str] = field(default_factory=dict)
    next_id: int = 1_000_000
    bytes_of: tuple[object, ...] = ()
    users: dict[str, int] = field(default_factory=dict)
    ids: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Of containers by their paths: the id, and the path of ids."""
    nodes: list[tuple[object, ...]] = field(default_factory=list)
    places: list[tuple[int, str]] = field(default_factory=list)

    def agent(self, user: str) -> Agent:
        return Agent(self.session, self.pair, self.tokens[user])

    async def plant(self) -> None:
        """Make all nodes: by SQL, and those that inherit as their owner would."""
        rows = await self.connection.fetch("select id, name from users")
        self.users = {row["name"]: row["id"] for row in rows}
        await self._store()
        self.ids[""] = (1, "1")
        for cell in self.cells:
            for path in (TOP, f"{TOP}/{cell.user}", cell.box.rpartition("/")[0]):
                self._container(path, "admin", "public")
            self._plant(cell)
        columns = ["id", "parent_id", "name", "type", "owner_id", "public", "group_read", "group_write", "inherit"]
        columns += ["locked", "properties", "target", "size", "md5", "sha256", "storage_id", "location", "stored_by"]
        await self.connection.executemany("insert into containers (id, path) values ($1, $2::text::ltree)", self.places)
        await self.connection.copy_records_to_table("nodes", records=self.nodes, columns=[*columns, "modified"])
        await self._inherit()
        await self._fix()

    async def _store(self) -> None:
        """Bring the bytes that all nodes share."""
        owner = self.agent("owner")
        await owner.push("/home/mx-owner/bytes", BYTES)
        row = await self.connection.fetchrow(
            "select size, md5, sha256, storage_id, location, stored_by from nodes where name = 'bytes'"
        )
        assert row is not None
        self.bytes_of = tuple(row.values())

    def _container(self, path: str, owner: str, rights: str, *, inherit: bool = False, locked: bool = False) -> None:
        if path in self.ids:
            return
        above, _, name = path.rpartition("/")
        parent, place = self.ids[above]
        made = self._node(parent, _decoded(name), "ContainerNode", owner, rights, inherit=inherit, locked=locked)
        self.ids[path] = (made, f"{place}.{made}")
        self.places.append(self.ids[path])

    def _plant(self, cell: Cell) -> None:
        of = STATES[cell.state]
        self._container(cell.box, "mx-owner", of.box, inherit=of.inherited, locked=of.box_locked)
        box, _ = self.ids[cell.box]
        title = {CORE + "title": SECRET, f"urn:state:{cell.state.replace(' ', '-')}": "x"}
        if of.goal is not None:
            target = f"vos://{self.pair.authority}{cell.box}/{GOAL}"
            self._node(box, NAME, "LinkNode", "mx-owner", of.node, title=title, target=target)
            self._node(box, GOAL, "DataNode", "mx-owner", of.goal, title={CORE + "title": matrix.GOAL_SECRET})
        elif not of.inherited:
            self._node(box, NAME, "DataNode", "mx-owner", of.node, title=title, locked=of.locked)

    def _node(
        self,
        parent: int,
        name: str,
        kind: str,
        owner: str,
        rights: str,
        *,
        title: dict[str, str] | None = None,
        inherit: bool = False,
        locked: bool = False,
        target: str | None = None,
    ) -> int:
        self.next_id += 1
        named = rights != "private"
        stored = (*self.bytes_of, datetime.now(UTC)) if kind == "DataNode" else (None,) * 7
        self.nodes.append(
            (
                *(self.next_id, parent, name, kind, self.users[owner], rights == "public"),
                *([READERS] if named else [], [WRITERS] if named else [], inherit, locked),
                *(_json(title or {}), target, *stored),
            )
        )
        return self.next_id

    async def _inherit(self) -> None:
        """Let the owner make the nodes that inherit: nothing is said of their rights."""
        owner, cells = self.agent("owner"), [cell for cell in self.cells if STATES[cell.state].inherited]
        limit = asyncio.Semaphore(_AT_ONCE)

        async def make(cell: Cell) -> None:
            async with limit:
                await owner.make(cell.path, properties={CORE + "title": SECRET, "urn:state:inherited": "x"})

        await asyncio.gather(*map(make, cells))
        await self.connection.execute(
            "update nodes n set size = $1, md5 = $2, sha256 = $3, storage_id = $4, location = $5, stored_by = $6,"
            " modified = now() from nodes b where b.id = n.parent_id and b.inherit and n.name = $7",
            *self.bytes_of,
            NAME,
        )

    async def _fix(self) -> None:
        """Make immutable what is to be so."""
        boxes = [self.ids[cell.box][0] for cell in self.cells if STATES[cell.state].fixed]
        marked = [self.ids[cell.box][0] for cell in self.cells if STATES[cell.state].box_fixed]
        await self.connection.execute("update containers set immutable = true where id = any ($1)", marked)
        await self.connection.execute("update nodes set immutable = true where parent_id = any ($1)", boxes)
        await self.connection.execute("update nodes set immutable = true where id = any ($1)", marked)

    async def agree(self) -> None:
        """Let the owner agree on the URLs."""
        owner = self.agent("owner")
        for cell in self.cells:
            if cell.user == "url":
                _, self.urls[cell] = await owner.negotiate(cell.path, matrix.BY_URL[cell.operation])

    async def snapshot(self) -> dict[int, str]:
        """Give what is in each container, in one word."""
        rows = await self.connection.fetch(
            "select b.id, (select string_agg(n::text, ';' order by n.id) from nodes n where n.parent_id = b.id) as told"
            " from nodes b where b.id = any ($1)",
            [self.ids[cell.box][0] for cell in self.cells],
        )
        return {row["id"]: row["told"] or "" for row in rows}

    async def do(self, cell: Cell, path: str) -> Outcome:
        """Do what a cell is about."""
        agent = self.agent(cell.user)
        if cell.user != "url":
            return await OPERATIONS[cell.operation](agent, path)
        method = {"get bytes": "GET", "head bytes": "HEAD", "put bytes": "PUT"}[cell.operation]
        answer = await agent.send(method, self.urls[cell], b"new" if method == "PUT" else None)
        return Outcome("ok" if answer.status < 400 else answer.text, answer.body.decode("latin-1"))


def _json(properties: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": "{value}"' for name, value in properties.items()) + "}"


def _decoded(name: str) -> str:
    return name.replace("%20", " ")


@pytest.fixture
async def playground(mx_pair: Pair, tokens: dict[str, str | None]) -> AsyncIterator[Playground]:
    connection = await asyncpg.connect(mx_pair.dsn)
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        made = Playground(mx_pair, session, tokens, connection, list(matrix.cells(TOP)))
        await made.plant()
        await made.agree()
        yield made
    await connection.close()


_SIZE = f">{len(BYTES)}<"
_OF_BYTES = (
    "the-secret-bytes",
    hashlib.md5(BYTES).hexdigest(),
    base64.b64encode(hashlib.md5(BYTES).digest()).decode(),
    _SIZE,
)
"""What tells of the bytes."""


def leaks(cell: Cell, told: str) -> list[str]:
    """Give what somebody was told that he must not know."""
    of = STATES[cell.state]
    secrets: list[str] = []
    if not matrix.sees(cell.user, cell.state):
        secrets += [SECRET, *([] if of.goal or cell.operation in _OF_BOX else [GOAL])]
    if not matrix.sees_goal(cell.user, cell.state):
        secrets += [*_OF_BYTES, matrix.GOAL_SECRET]
    if cell.operation in {"list", "list entries"} and matrix.writes(matrix.person(cell.user), of.box):
        secrets = [one for one in secrets if one != _SIZE]  # how much is in a container is for those who fill it
    return [one for one in secrets if one in told]


async def test_matrix(playground: Playground) -> None:
    before, limit, problems = await playground.snapshot(), asyncio.Semaphore(_AT_ONCE), list[str]()
    alike: list[tuple[Cell, str, str]] = []
    problems += await _listings(playground)

    async def look(cell: Cell) -> None:
        async with limit:
            found = await playground.do(cell, cell.path)
            wanted = matrix.expected(cell.user, cell.state, cell.operation)
            if found.verdict != wanted:
                problems.append(f"{cell}: {found.verdict} instead of {wanted}: {found.told[-300:]}")
            problems.extend(f"{cell}: tells {one!r}" for one in leaks(cell, found.told))
            if STATES[cell.state].box == "private" and not matrix.sees(cell.user, cell.state):
                other = await playground.do(cell, f"{cell.box}/{ABSENT}")
                alike.append((cell, f"{found.verdict} {found.told}", f"{other.verdict} {other.told}"))

    await asyncio.gather(*map(look, playground.cells))
    after = await playground.snapshot()
    for cell in playground.cells:
        box, _ = playground.ids[cell.box]
        allowed = matrix.expected(cell.user, cell.state, cell.operation) == "ok" and cell.operation in _CHANGING
        refused = matrix.expected(cell.user, cell.state, cell.operation) != "ok"
        if (refused and before[box] != after.get(box)) or (allowed and before[box] == after.get(box)):
            problems.append(f"{cell}: {'changed something' if refused else 'changed nothing'}")
    for cell, hidden, absent in alike:
        if _MOMENT.sub("", hidden.replace(NAME, "X")) != _MOMENT.sub("", absent.replace(ABSENT, "X")):
            problems.append(f"{cell}: tells what is there from what is not:\n{hidden}\n{absent}")
    problems += await _names_in_use(playground)
    problems += await _lists_of_jobs(playground)
    problems += await _audit(playground)
    assert not problems, f"{len(problems)} of {len(playground.cells)}\n" + "\n".join(sorted(problems)[:40])


async def _names_in_use(playground: Playground) -> list[str]:
    """Ask everybody which properties nodes use."""
    problems: list[str] = []
    for user in PEOPLE:
        told = (await playground.agent(user).send("GET", "/properties")).assert_status(200).text
        problems += [
            f"{user}: the properties tell of the state {state}, or do not"
            for state in STATES
            if (f"urn:state:{state.replace(' ', '-')}" in told) is not matrix.sees(user, state)
        ]
    for user in ("limited", "elsewhere"):
        (await playground.agent(user).send("GET", "/properties")).assert_fault(403, "PermissionDenied")
    return problems


async def _lists_of_jobs(playground: Playground) -> list[str]:
    """Everybody sees his own jobs; a limited token those that it has made."""
    problems = []
    for list_ in ("transfers", "async-delete", "async-setprops", "searches"):
        seen: dict[str, str] = {}
        for user in USERS:
            answer = await playground.agent(user).send("GET", f"/{list_}")
            if playground.tokens[user] is None:
                answer.assert_fault(401, "NotAuthenticated")
                continue
            for job in set(re.findall(r"/([0-9a-f]{40})\"", answer.assert_status(200).text)):
                other = seen.setdefault(job, user)
                if {other, user} not in ({user}, {"owner", "limited"}, {"owner", "elsewhere"}):
                    problems.append(f"{list_}: {other} and {user} see the job {job}")
    return problems


async def _audit(playground: Playground) -> list[str]:
    """Ask everybody for the audit log: each has done something to his own copies of the nodes only."""
    (await playground.agent("nobody").send("GET", "/audit")).assert_fault(401, "NotAuthenticated")
    problems: list[str] = []
    for user in ("reader", "writer", "stranger"):
        told = (await playground.agent(user).send("GET", "/audit?limit=1000")).assert_status(200).text
        doers = {json.loads(line)["user"] for line in told.splitlines()}
        if not doers <= {f"mx-{user}", None} or SECRET in told:
            problems.append(f"{user}: the audit log tells of {doers}")
    return problems


async def _listings(playground: Playground) -> list[str]:
    """The properties of a node stand in the listing for whoever may read it; URI and type for the others."""
    problems: list[str] = []
    for user in PEOPLE:
        for state in ("private", "public", "locked", "link to private"):
            cell = Cell(user, state, "get", TOP)
            listing = await playground.agent(user).node(cell.box, detail="max")
            (child,) = [one for one in listing.iter() if (one.get("uri") or "").endswith(f"/{NAME}")]
            told, sees = set(properties_of(child)), matrix.sees(user, state)
            if (CORE + "title" in told) is not sees or (not sees and told > {CORE + "date"}):
                problems.append(f"{cell}: the listing tells {told}")
    return problems
