"""The tree against a plain dict: whatever is done to both, they stay the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import copies, nodes, trash, usage
from pyvospace.db.pool import Database
from pyvospace.model.callers import Caller
from pyvospace.model.faults import DuplicateNode, Fault, InvalidArgument, NodeLocked, PermissionDenied
from pyvospace.model.stored import Changes, StoredNode
from pyvospace.model.vocabulary import NodeType
from tests.db.world import READERS, WRITERS, World
from tests.support.postgres import PostgresServer
from tests.support.strategies import names, texts
from tests.support.tree_check import damages

T = TypeVar("T")
Path = tuple[str, ...]

some_names = st.sampled_from(["a", "b", "c", "A", "é", "%", "\\"]) | names
kinds = st.sampled_from([NodeType.CONTAINER, NodeType.CONTAINER, NodeType.DATA, NodeType.LINK])
property_uris = st.sampled_from(["urn:a", "urn:b", "urn:c"]) | texts.filter(bool)
changes = st.builds(
    Changes,
    removed=st.lists(property_uris, max_size=2).map(tuple),
    properties=st.dictionaries(property_uris, texts, max_size=3),
    public=st.none() | st.booleans(),
    group_read=st.none() | st.just((READERS,)),
    group_write=st.none() | st.lists(st.sampled_from([READERS, WRITERS])).map(tuple),
    inherit=st.none() | st.booleans(),
    locked=st.sampled_from([None, None, None, False, False, False, True]),
    immutable=st.sampled_from([None, None, None, None, False, False, True]),
)


START = [tuple(path.split("/")) for path in ("a", "a/b", "a/b/c", "a/b/c/data", "a/data", "b", "b/data", "é")]
"""What is there at the beginning."""
_MOST = 40
"""Nodes, about: copies of copies would grow without end."""


@dataclass(frozen=True)
class Entry:
    """A node in the dict."""

    kind: NodeType
    properties: dict[str, str] = field(default_factory=dict)
    public: bool = False
    group_read: tuple[str, ...] = ()
    group_write: tuple[str, ...] = ()
    inherit: bool = False
    locked: bool = False
    immutable: bool = False

    @classmethod
    def of(cls, node: StoredNode) -> Entry:
        return cls(
            node.type,
            dict(node.properties),
            node.public,
            node.group_read,
            node.group_write,
            node.inherit,
            node.locked,
            node.immutable,
        )

    def changed(self, by: Changes) -> Entry:
        kept = {uri: value for uri, value in self.properties.items() if uri not in by.removed}
        given: dict[str, Any] = {
            name: value
            for name in ("public", "group_read", "group_write", "inherit", "locked", "immutable")
            if (value := getattr(by, name)) is not None
        }
        return replace(self, properties={**kept, **by.properties}, **given)

    def child(self, kind: NodeType, by: Changes) -> Entry:
        """Give what a new child is like."""
        made = Entry(kind)
        if self.inherit:
            made = replace(self, kind=kind, inherit=kind is NodeType.CONTAINER, locked=False, immutable=False)
        return replace(made, properties={}).changed(by)


class Tree(RuleBasedStateMachine):
    """One container of the space, and a dict of all that is below it."""

    numbers = itertools.count()
    runner: asyncio.Runner
    world: World
    admin: Caller

    def __init__(self) -> None:
        super().__init__()
        self.top: Path = (f"case {next(self.numbers)}",)
        self.entries: dict[Path, Entry] = {self.top: Entry(NodeType.CONTAINER)}
        self.run(self.world.add(self.top, NodeType.CONTAINER, Changes()))
        self.kept = False
        """What is deleted goes into the trash."""
        self.trash: dict[Path, dict[Path, Entry]] = {}
        """What can be restored, by the path that it had."""
        for path in START:
            self.make((*self.top, *path), NodeType.DATA if path[-1] == "data" else NodeType.CONTAINER, Changes())

    @initialize(kept=st.booleans())
    def keep(self, kept: bool) -> None:
        if kept:
            statement = "insert into policies (container_id, trash_days) select id, 7 from nodes where name = $1"
            self.run(self.world.database.fetch(statement, self.top[0]))
        self.kept = kept

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def some(self, data: st.DataObject, *, container: bool = False) -> Path:
        """Draw a node that is there, the shallow ones more often."""
        found = [one for one in self.entries if self.is_container(one) or not container]
        return data.draw(st.sampled_from(sorted(found)))

    def perhaps(self, data: st.DataObject) -> Path:
        """Draw a path that may lead nowhere."""
        return (*self.some(data), *data.draw(st.lists(some_names, max_size=2)))

    def below(self, path: Path) -> list[Path]:
        return [one for one in self.entries if one[: len(path)] == path]

    def is_container(self, path: Path) -> bool:
        return path in self.entries and self.entries[path].kind is NodeType.CONTAINER

    def closed(self, path: Path) -> bool:
        """Say whether a node cannot be taken from its place."""
        container = self.entries.get(path[:-1])
        node = self.entries[path]
        return node.locked or node.immutable or (container is not None and container.locked)

    def full(self, path: Path) -> bool:
        """Say whether a container takes nothing new."""
        return self.entries[path].locked or self.entries[path].immutable

    def obstacle(self, path: Path) -> type[Fault] | None:
        """Give what keeps a tree as a whole in its place."""
        below = [self.entries[one] for one in self.below(path)]
        if any(one.immutable for one in below):
            return PermissionDenied
        return NodeLocked if any(one.locked for one in below) else None

    @rule(data=st.data(), name=some_names, kind=kinds, by=changes)
    def create(self, data: st.DataObject, name: str, kind: NodeType, by: Changes) -> None:
        self.make((*self.some(data, container=True), name), kind, replace(by, removed=()))

    @rule(data=st.data(), kind=kinds)
    def create_somewhere(self, data: st.DataObject, kind: NodeType) -> None:
        if len(path := self.perhaps(data)) > 1:
            self.make(path, kind, Changes())

    def make(self, path: Path, kind: NodeType, by: Changes) -> None:
        container = path[:-1]
        by = replace(by, target="urn:target" if kind is NodeType.LINK else None)
        making = nodes.insert(self.world.database, self.admin, path, kind=kind, changes=by)
        if not self.is_container(container) or self.full(container):
            assert self.run(making) is None
        elif path in self.entries:
            with pytest.raises(DuplicateNode):
                self.run(making)
        else:
            made = self.run(making)
            assert made is not None
            self.entries[path] = self.entries[container].child(kind, by)
            assert Entry.of(made) == self.entries[path]

    @rule(data=st.data(), by=changes)
    def change(self, data: st.DataObject, by: Changes) -> None:
        path = self.perhaps(data)
        found = self.run(self.world.resolve(path, self.admin))
        assert (found.node is not None) is (path in self.entries)
        if found.node is None:
            return
        changed = self.run(nodes.update(self.world.database, self.admin, found.node, by))
        container = self.entries.get(path[:-1])
        if by.immutable is False and container is not None and container.immutable:
            assert changed is None
            return
        assert changed is not None
        self.entries[path] = self.entries[path].changed(by)
        for one in self.below(path):
            self.entries[one] = self.entries[one].changed(Changes(immutable=by.immutable))
        assert Entry.of(changed) == self.entries[path]

    @rule(data=st.data())
    def resolve(self, data: st.DataObject) -> None:
        path = self.perhaps(data)
        found = self.run(self.world.resolve(path, self.admin))
        deepest = max((one for one in self.entries if path[: len(one)] == one), key=len, default=())
        assert found.depth == len(deepest)
        assert found.last.name == (deepest[-1] if deepest else "")
        if deepest:
            assert Entry.of(found.last) == self.entries[deepest]

    @rule(data=st.data(), page=st.integers(1, 4), start=st.just("") | some_names)
    def listing(self, data: st.DataObject, page: int, start: str) -> None:
        path = self.some(data, container=True)

        async def read() -> list[StoredNode]:
            caller, container = self.admin, await self.world.node(path, self.admin)
            pages = nodes.all_children(self.world.database, caller, container, start=start, limit=None, page=page)
            return [one async for found in pages for one in found]

        expected = {one[-1]: self.entries[one] for one in self.entries if one[:-1] == path}
        order = sorted((name for name in expected if name.encode() >= start.encode()), key=str.encode)
        assert [(one.name, Entry.of(one)) for one in self.run(read())] == [(name, expected[name]) for name in order]

    @rule(data=st.data(), name=some_names)
    def move(self, data: st.DataObject, name: str) -> None:
        source, container = self.some(data), self.some(data, container=True)
        if source == self.top:
            return
        target = (*container, name)

        async def moving() -> StoredNode | None:
            found, into = await self.world.node(source, self.admin), await self.world.node(container, self.admin)
            return await nodes.move(self.world.database, self.admin, found, into, name)

        below = self.below(source)
        if self.closed(source) or self.full(container):
            assert self.run(moving()) is None
        elif self.is_container(source) and container[: len(source)] == source:
            with pytest.raises(InvalidArgument):
                self.run(moving())
        elif obstacle := self.obstacle(source):
            with pytest.raises(obstacle):
                self.run(moving())
        elif target in self.entries and target != source:
            with pytest.raises(DuplicateNode):
                self.run(moving())
        else:
            moved = self.run(moving())
            assert moved is not None
            entries = {one: self.entries.pop(one) for one in below}
            self.entries |= {target + one[len(source) :]: entry for one, entry in entries.items()}
            assert Entry.of(moved) == self.entries[target]

    @rule(data=st.data(), name=some_names)
    def copy(self, data: st.DataObject, name: str) -> None:
        source, container = self.some(data), self.some(data, container=True)
        target = (*container, name)

        async def copying() -> int | None:
            found, into = await self.world.node(source, self.admin), await self.world.node(container, self.admin)
            return await copies.copy(self.world.database, self.admin, found, into, name)

        below = {one[len(source) :]: self.entries[one] for one in self.below(source)}
        if len(self.entries) + len(below) > _MOST:
            return
        if self.full(container):
            assert self.run(copying()) is None
        elif target in self.entries:
            with pytest.raises(DuplicateNode):
                self.run(copying())
        else:
            assert self.run(copying()) == len(below)
            for one, entry in sorted(below.items()):
                made = self.entries[(*target, *one)[:-1]].child(entry.kind, Changes())
                self.entries[*target, *one] = replace(made, properties=entry.properties)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = self.some(data)
        if path == self.top:
            return

        async def deleting() -> bool:
            return await nodes.delete(self.world.database, self.admin, await self.world.node(path, self.admin))

        below = self.below(path)
        if self.closed(path):
            assert not self.run(deleting())
        elif obstacle := self.obstacle(path):
            with pytest.raises(obstacle):
                self.run(deleting())
        else:
            assert self.run(deleting())
            gone = {one[len(path) :]: self.entries.pop(one) for one in below}
            if self.kept:
                self.trash[path] = gone

    @rule(data=st.data(), name=some_names)
    def restore(self, data: st.DataObject, name: str) -> None:
        """Bring the latest node back that was deleted there."""
        if not self.trash:
            return
        source, container = data.draw(st.sampled_from(sorted(self.trash))), self.some(data, container=True)
        target = (*container, name)

        async def restoring() -> bool:
            found = await trash.entries(self.world.database, self.admin, before=1 << 60, limit=1000)
            entry = next(one for one in found if one.names == source)
            into = await self.world.node(container, self.admin)
            return await trash.restore(self.world.database, self.admin, entry, into, name)

        if self.full(container):
            assert not self.run(restoring())
        elif target in self.entries:
            with pytest.raises(DuplicateNode):
                self.run(restoring())
        else:
            assert self.run(restoring())
            self.entries |= {(*target, *one): entry for one, entry in self.trash.pop(source).items()}

    @rule(limit=st.sampled_from([1, 3, 1000]))
    def fold(self, limit: int) -> None:
        assert self.run(usage.fold(self.world.database, limit=limit)) is not None

    def teardown(self) -> None:
        assert self.run(self.everything(self.top)) == self.entries
        assert self.run(damages(self.world.database)) == []

    async def everything(self, path: Path) -> dict[Path, Entry]:
        """Read the whole tree."""
        node = await self.world.node(path, self.admin)
        found = {path: Entry.of(node)}
        if node.is_container:
            for child in await self.world.listing(path, self.admin):
                found |= await self.everything((*path, child.name))
        return found


def test_tree_is_a_dict(postgres_server: PostgresServer) -> None:
    with postgres_server.clone() as name, asyncio.Runner() as runner:
        database = runner.run(Database.connect(postgres_server.dsn(name), DatabaseSettings(check_durability=False)))
        Tree.runner = runner
        Tree.world = runner.run(World.make(database))
        Tree.admin = runner.run(Tree.world.caller())
        run_state_machine_as_test(
            Tree,
            settings=settings(
                max_examples=30,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
        runner.run(database.close())
