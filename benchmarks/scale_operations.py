"""What is done to a filled space, once with each number: `benchmarks.scale` measures it at two sizes in turn."""

from __future__ import annotations

import os
import random
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from benchmarks.http import Connection, request
from benchmarks.scale_fill import DEPTH, FILES, IN_WIDE, PROJECTS, RUNS, TOP, WIDE
from benchmarks.systems import Space
from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import copies, identities, nodes, usage
from pyvospace.db.pool import Database
from pyvospace.model.callers import Caller
from pyvospace.model.stored import Changes, StoredNode
from pyvospace.model.vocabulary import NodeType

Act = Callable[[], Awaitable[object]]
"""What is timed."""

_NODE = (
    "<vos:node xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"
    " xsi:type='vos:DataNode' uri='vos://{authority}{path}'><vos:properties>"
    "<vos:property uri='ivo://ivoa.net/vospace/core#title'>{title}</vos:property></vos:properties></vos:node>"
)
_TRANSFER = (
    "<vos:transfer xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' version='2.1'>"
    "<vos:target>vos://{authority}{path}</vos:target><vos:direction>{direction}</vos:direction>"
    "<vos:protocol uri='ivo://ivoa.net/vospace/core#{protocol}'/></vos:transfer>"
)
_ENDPOINT = re.compile(rb"<vos:endpoint>([^<]+)</vos:endpoint>")
_BOX = ("boxes", "others")
"""Containers for what is made and moved."""
_CREATED, _OK, _SEE_OTHER, _NO_CONTENT, _TEMPORARY = 201, 200, 303, 204, 307


@dataclass(slots=True)
class Target:
    """A filled space, and what has been made in it."""

    space: Space
    units: int
    database: Database
    caller: Caller
    boxes: tuple[StoredNode, StoredNode]
    meta: Connection
    storage: Connection
    chance: random.Random
    made: list[str] = field(default_factory=list)
    """Paths of nodes that may be deleted."""
    trees: list[str] = field(default_factory=list)
    """Names of trees that were copied, moved, renamed: each operation takes them from the front."""
    content: bytes = field(default_factory=lambda: os.urandom(1024))

    @classmethod
    async def open(cls, space: Space, units: int, user: str, stack: AsyncExitStack) -> Self:
        """Connect to a space that is filled with so many units."""
        database = await Database.connect(space.dsn, DatabaseSettings(check_durability=False))
        stack.push_async_callback(database.close)
        found = await identities.by_name(database, user)
        assert found
        boxes = [await _box(database, found[0], name) for name in _BOX]
        meta, storage = Connection("127.0.0.1", space.port), Connection("127.0.0.1", space.storage_port)
        stack.callback(meta.close)
        stack.callback(storage.close)
        return cls(space, units, database, found[0], (boxes[0], boxes[1]), meta, storage, random.Random(7))

    def run(self) -> tuple[str, ...]:
        """Choose a folder of files."""
        return (*self.project(), f"run {self.chance.randint(1, RUNS):02}")

    def project(self) -> tuple[str, ...]:
        """Choose a folder of such folders."""
        return (*self.unit(), f"project {self.chance.randint(1, PROJECTS):02}")

    def unit(self) -> tuple[str, ...]:
        """Choose a user's folder."""
        return (TOP, f"unit {self.chance.randint(1, self.units):06}")

    def file(self) -> str:
        """Choose a file, no link; give its path."""
        return path_of(*self.run(), f"observation {self.chance.randrange(1, FILES):07}.fits")

    def deepest(self) -> str:
        """Choose a file at the end of a chain."""
        chain = (f"level {level:03}" for level in range(1, DEPTH + 1))
        return path_of(*self.unit(), "deep", *chain, "observation 0000001.fits")

    def wide(self, *, part: float = 1.0) -> str:
        """Choose a child of the wide container among the first of them."""
        return f"observation {self.chance.randint(1, int(self.units * IN_WIDE * part)):07}.fits"

    def new(self, *folder: str) -> str:
        """Name a node that is not there yet, of such a length."""
        return path_of(*folder, f"new {secrets.token_hex(8)}.fits")

    async def ask(self, method: str, path: str, expected: int, body: bytes = b"", **query: str) -> bytes:
        """Ask the metadata server; give the Location of an answer that has one."""
        target = f"{path}?{urlencode(query)}" if query else path
        answer = await self.meta.ask(request(method, target, token=self.space.token, body=body))
        _expect(answer.status, expected, answer.body)
        return answer.headers.get("location", "").encode() if expected in {_SEE_OTHER, _TEMPORARY} else answer.body

    def asking(self, method: str, path: str, expected: int, body: bytes = b"", **query: str) -> Act:
        """Ask when it is time."""
        return lambda: self.ask(method, path, expected, body, **query)

    def node(self, path: str) -> bytes:
        """Write the document of a node."""
        title = f"title {secrets.token_hex(8)}"
        return _NODE.format(authority=self.space.authority, path=path, title=title).encode()

    async def stored(self, path: tuple[str, ...]) -> StoredNode:
        """Find a node in the database."""
        found = await nodes.resolve(self.database, self.caller, path)
        assert found.node
        assert found.depth == len(path)
        return found.node

    async def negotiate(self, path: str, direction: str, protocol: str) -> str:
        """Negotiate by document; give the path of the endpoint."""
        document = _TRANSFER.format(
            authority=self.space.authority, path=path, direction=direction, protocol=protocol
        ).encode()
        location = await self.ask("POST", "/synctrans", _SEE_OTHER, document)
        match = _ENDPOINT.search(await self.ask("GET", urlsplit(location.decode()).path, _OK))
        assert match
        return urlsplit(match[1].decode()).path

    async def send(self, endpoint: str) -> None:
        """Bring a file of 1 KiB."""
        message = request("PUT", endpoint, body=self.content, kind="application/fits")
        answer = await self.storage.ask(message)
        _expect(answer.status, _CREATED, answer.body)


def path_of(*names: str) -> str:
    """Write a path."""
    return "/" + "/".join(quote(name) for name in names)


def _expect(status: int, expected: int, body: bytes) -> None:
    if status != expected:
        raise RuntimeError(f"{status} instead of {expected}: {body[:300]!r}")


async def _box(database: Database, caller: Caller, name: str) -> StoredNode:
    """Find a container for what is made, or make it."""
    found = await nodes.resolve(database, caller, (TOP, name))
    if found.depth == len((TOP, name)) and found.node:
        return found.node
    made = await nodes.insert(database, caller, (TOP, name), kind=NodeType.CONTAINER, changes=Changes(inherit=True))
    assert made
    return made


async def get_node(at: Target) -> Act:
    """Get a file, five names down."""
    return at.asking("GET", f"/nodes{at.file()}", _OK, limit="0")


async def get_deep_node(at: Target) -> Act:
    """Get a file that is 104 names down."""
    return at.asking("GET", f"/nodes{at.deepest()}", _OK, limit="0")


async def get_top(at: Target) -> Act:
    """Get the container of everything, with its sum."""
    return at.asking("GET", f"/nodes{path_of(TOP)}", _OK, limit="0")


async def create_node(at: Target) -> Act:
    """Make a node in a folder of a hundred."""
    path = at.new(*at.run())
    at.made.append(path)
    return at.asking("PUT", f"/nodes{path}", _CREATED, at.node(path))


async def create_in_wide(at: Target) -> Act:
    """Make a node in the wide container."""
    path = path_of(TOP, WIDE, f"{at.wide()}.{secrets.token_hex(8)}")
    at.made.append(path)
    return at.asking("PUT", f"/nodes{path}", _CREATED, at.node(path))


async def set_node(at: Target) -> Act:
    """Change a property of a file."""
    path = at.file()
    return at.asking("POST", f"/nodes{path}", _OK, at.node(path))


async def delete_node(at: Target) -> Act:
    """Delete one of the nodes that were made."""
    return at.asking("DELETE", f"/nodes{at.made.pop()}", _NO_CONTENT)


async def list_folder(at: Target) -> Act:
    """List a folder of a hundred."""
    return at.asking("GET", f"/nodes{path_of(*at.run())}", _OK)


async def list_first(at: Target) -> Act:
    """List the first children of the wide container."""
    return at.asking("GET", f"/nodes{path_of(TOP, WIDE)}", _OK, limit="200")


async def list_deep(at: Target) -> Act:
    """List the last children of the wide container but a few."""
    uri = f"vos://{at.space.authority}{path_of(TOP, WIDE, _late(at))}"
    return at.asking("GET", f"/nodes{path_of(TOP, WIDE)}", _OK, limit="200", uri=uri)


async def list_backwards(at: Target) -> Act:
    """List the same backwards."""
    uri = f"vos://{at.space.authority}{path_of(TOP, WIDE, _late(at))}"
    return at.asking("GET", f"/nodes{path_of(TOP, WIDE)}", _OK, limit="200", uri=uri, order="desc")


def _late(at: Target) -> str:
    """Name a child of the wide container that has nearly all others before it, and a page behind it."""
    last = at.units * IN_WIDE
    return f"observation {last - 200 - at.chance.randrange(50):07}.fits"


async def entries_deep(at: Target) -> Act:
    """List the same as lines of JSON."""
    return at.asking("GET", f"/entries{path_of(TOP, WIDE)}", _OK, limit="200", after=_late(at))


async def sort_folder(at: Target) -> Act:
    """List a folder of a hundred by length."""
    return at.asking("GET", f"/nodes{path_of(*at.run())}", _OK, limit="50", sort="length")


async def sort_wide(at: Target) -> Act:
    """List the longest children of the wide container, which has a look at all of them."""
    return at.asking("GET", f"/nodes{path_of(TOP, WIDE)}", _OK, limit="50", sort="length", order="desc")


async def search_project(at: Target) -> Act:
    """Search a project of a thousand nodes by name."""
    target = f"vos://{at.space.authority}{path_of(*at.project())}"
    return at.asking("GET", "/search", _OK, target=target, name="*7.fits", limit="100")


async def search_unit(at: Target) -> Act:
    """Search a user's folder, 9,000 nodes, for what is not there."""
    target = f"vos://{at.space.authority}{path_of(*at.unit())}"
    return at.asking("GET", "/search", _OK, target=target, name="*nothing*", limit="100")


async def negotiate_push(at: Target) -> Act:
    """Negotiate a push of a new file by document."""
    path = at.new(*at.run())
    return lambda: at.negotiate(path, "pushToVoSpace", "httpput")


async def negotiate_pull(at: Target) -> Act:
    """Negotiate a pull by document."""
    path = at.file()
    return lambda: at.negotiate(path, "pullFromVoSpace", "httpget")


async def pull_by_path(at: Target) -> Act:
    """Ask for a file by its path."""
    return at.asking("GET", f"/files{at.file()}", _SEE_OTHER)


async def push(at: Target) -> Act:
    """Bring a new file of 1 KiB by its path: negotiation, claim, store."""
    path = at.new(*at.run())
    at.made.append(path)

    async def work() -> None:
        location = await at.ask("PUT", f"/files{path}", _TEMPORARY)
        await at.send(urlsplit(location.decode()).path)

    return work


async def store(at: Target) -> Act:
    """Bring new bytes of a file that is there: claim and store alone."""
    endpoint = await at.negotiate(at.file(), "pushToVoSpace", "httpput")
    return lambda: at.send(endpoint)


async def move_leaf(at: Target) -> Act:
    """Move a file from one folder to another one."""
    path = at.new(*at.run())
    await at.ask("PUT", f"/nodes{path}", _CREATED, at.node(path))
    *_, name = path.rsplit("/", 1)
    above = tuple(name.replace("%20", " ") for name in path.split("/")[1:])
    source, container = await at.stored(above), await at.stored(at.run())
    return lambda: nodes.move(at.database, at.caller, source, container, name)


async def copy_leaf(at: Target) -> Act:
    """Copy a file."""
    folder = at.run()
    source = await at.stored((*folder, f"observation {at.chance.randrange(1, FILES):07}.fits"))
    container, name = await at.stored(folder), f"copy {secrets.token_hex(8)}"
    return lambda: copies.copy(at.database, at.caller, source, container, name)


async def copy_tree(at: Target) -> Act:
    """Copy a project: a thousand nodes."""
    source, name = await at.stored(at.project()), f"tree {secrets.token_hex(8)}"
    at.trees.append(name)
    return lambda: copies.copy(at.database, at.caller, source, at.boxes[0], name)


async def move_tree(at: Target) -> Act:
    """Move such a copy to another container."""
    name = at.trees.pop(0)
    at.trees.append(name)
    source = await at.stored((TOP, _BOX[0], name))
    return lambda: nodes.move(at.database, at.caller, source, at.boxes[1], name)


async def rename_tree(at: Target) -> Act:
    """Give such a copy another name."""
    name = at.trees.pop(0)
    at.trees.append(f"{name}!")
    source = await at.stored((TOP, _BOX[1], name))
    return lambda: nodes.move(at.database, at.caller, source, at.boxes[1], f"{name}!")


async def delete_tree(at: Target) -> Act:
    """Delete such a copy."""
    source = await at.stored((TOP, _BOX[1], at.trees.pop(0)))
    return lambda: nodes.delete(at.database, at.caller, source)


async def fold(at: Target) -> Act:
    """Take the changes of a hundred creations, in one user's folder, into the sums."""
    unit = at.unit()
    for _ in range(100):
        path = (*unit, f"project {at.chance.randint(1, PROJECTS):02}", f"run {at.chance.randint(1, RUNS):02}")
        name = f"new {secrets.token_hex(8)}"
        await nodes.insert(at.database, at.caller, (*path, name), kind=NodeType.DATA, changes=Changes())
    return lambda: usage.fold(at.database, limit=1000, wait=True)


async def usage_of_top(at: Target) -> Act:
    """Ask what is below the container of everything."""
    top = await at.stored((TOP,))
    return lambda: usage.of_container(at.database, top.id)


async def audit_of_me(at: Target) -> Act:
    """Read the newest of one's own rows of the audit log."""
    return at.asking("GET", "/audit", _OK, user=at.caller.name, limit="100")


async def audit_of_file(at: Target) -> Act:
    """Read what was done to a file."""
    return at.asking("GET", "/audit", _OK, target=f"vos://{at.space.authority}{at.file()}", limit="100")


async def job_list(at: Target) -> Act:
    """List one's own jobs, the newest."""
    return at.asking("GET", "/transfers", _OK, last="50")


async def explain(at: Target) -> Act:
    """Ask who may do what to a file."""
    return at.asking("GET", "/permissions", _OK, target=f"vos://{at.space.authority}{at.file()}")


@dataclass(frozen=True, slots=True)
class Operation:
    """What is measured."""

    name: str
    begin: Callable[[Target], Awaitable[Act]]
    share: float = 1.0
    """How often, in relation to the others."""


PLAIN = (
    Operation("getNode", get_node),
    Operation("getNode, 104 names down", get_deep_node),
    Operation("getNode of the container of everything", get_top),
    Operation("createNode", create_node),
    Operation("createNode in the wide container", create_in_wide),
    Operation("deleteNode", delete_node, 2.0),
    Operation("setNode", set_node),
    Operation("listing of a folder of 100", list_folder),
    Operation("wide container: first 200", list_first),
    Operation("wide container: 200 near its end", list_deep),
    Operation("wide container: 200 backwards from there", list_backwards),
    Operation("wide container: 200 /entries from there", entries_deep),
    Operation("a folder of 100 by length", sort_folder),
    Operation("wide container: the 50 longest", sort_wide, 0.05),
    Operation("search of a project", search_project),
    Operation("search of 9,000 nodes", search_unit, 0.5),
    Operation("negotiation of a push", negotiate_push),
    Operation("negotiation of a pull", negotiate_pull),
    Operation("pull by path: the redirect", pull_by_path),
    Operation("push of 1 KiB by path, stored", push),
    Operation("overwriting: claim and store", store),
    Operation("move of a file", move_leaf),
    Operation("copy of a file", copy_leaf),
    Operation("fold of 100 changes", fold, 0.2),
    Operation("usage of everything", usage_of_top),
    Operation("audit log: one's own rows", audit_of_me),
    Operation("audit log: of one file", audit_of_file),
    Operation("list of jobs", job_list),
    Operation("permissions explained", explain),
)
"""One node, or one page."""
TREES = (
    Operation("copy of a tree of 1,011 nodes", copy_tree, 0.2),
    Operation("move of this tree", move_tree, 0.2),
    Operation("rename of this tree", rename_tree, 0.2),
    Operation("deletion of this tree", delete_tree, 0.2),
)
"""One after the other, on the same trees."""
LIMITED = (
    Operation("createNode under quotas", create_node),
    Operation("push of 1 KiB under quotas", push),
)
"""With a quota of the container of everything."""
