"""A small space for tests: its root, /home, some people, one storage."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import bootstrap, identities, jobs, nodes
from pyvospace.db.pool import Database
from pyvospace.db.storage import StorageCatalogue
from pyvospace.model.callers import ANONYMOUS, Caller
from pyvospace.model.claims import EndpointClaims, StorageState, StoredFile, UploadClaim
from pyvospace.model.stored import Changes, Resolution, StoredNode
from pyvospace.model.vocabulary import NodeType, Phase

PREFIX = "ivo://example.org/gms?"
READERS, WRITERS = PREFIX + "readers", PREFIX + "writers"
PEOPLE = ("admin", "owner", "reader", "writer", "stranger", "anonymous")
OPEN = Changes(public=True)


def path(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("/")))


@dataclass
class World:
    """The catalogue with some people in it."""

    database: Database

    @classmethod
    async def make(cls, database: Database) -> World:
        await bootstrap.set_up(database, authority="example.org~space", group_prefixes=[PREFIX])
        for name in ("owner", "reader", "writer", "stranger"):
            await identities.add_user(database, name, password=None, admin=False)
        for group, member in (("readers", "reader"), ("writers", "writer")):
            await identities.add_group(database, group)
            await identities.change_member(database, group, member, add=True)
        return cls(database)

    async def caller(self, name: str = "admin") -> Caller:
        """Identify somebody, now."""
        if name == "anonymous":
            return ANONYMOUS
        found = await identities.by_name(self.database, name)
        assert found is not None
        return found[0]

    async def resolve(self, where: str | Sequence[str], caller: Caller | None = None) -> Resolution:
        names = path(where) if isinstance(where, str) else tuple(where)
        return await nodes.resolve(self.database, caller or await self.caller(), names)

    async def node(self, where: str | Sequence[str], caller: Caller | None = None) -> StoredNode:
        found = (await self.resolve(where, caller)).node
        assert found is not None, where
        return found

    async def add(
        self,
        where: str | Sequence[str],
        kind: NodeType = NodeType.CONTAINER,
        changes: Changes = OPEN,
        *,
        owner: str = "owner",
    ) -> StoredNode:
        """Make a node, as an administrator, for somebody."""
        admin = await self.caller()
        names = path(where) if isinstance(where, str) else tuple(where)
        made = await nodes.insert(
            self.database,
            admin,
            names,
            kind=kind,
            changes=changes,
            owner=(await self.caller(owner)).id,
        )
        assert made is not None
        return made

    async def change(self, where: str, changes: Changes) -> StoredNode:
        """Change a node, as an administrator."""
        admin = await self.caller()
        changed = await nodes.update(self.database, admin, await self.node(where, admin), changes)
        assert changed is not None
        return changed

    async def remove(self, where: str) -> None:
        """Delete a node, as an administrator."""
        admin = await self.caller()
        assert await nodes.delete(self.database, admin, await self.node(where, admin))

    async def move(self, source: str, container: str, name: str) -> StoredNode | None:
        """Move a node, as an administrator."""
        admin = await self.caller()
        return await nodes.move(
            self.database, admin, await self.node(source, admin), await self.node(container, admin), name
        )

    async def listing(
        self, where: str | Sequence[str], caller: Caller | None = None, *, page: int = 1000
    ) -> list[StoredNode]:
        """Give all children of a container."""
        caller = caller or await self.caller()
        container = await self.node(where, caller)
        pages = nodes.all_children(self.database, caller, container, start="", limit=None, page=page)
        return [child async for children in pages for child in children]


@dataclass
class Storage:
    """A storage, seen from its catalogue."""

    catalogue: StorageCatalogue
    database: Database
    id: UUID = field(default_factory=uuid4)

    @classmethod
    async def open(
        cls, dsn: str, stack: AsyncExitStack, *, repeat_window: float = 60.0, free: int | None = None
    ) -> Storage:
        settings = DatabaseSettings(check_durability=False)
        database = await Database.connect(dsn, settings, name="storage")
        stack.push_async_callback(database.close)
        made = cls(StorageCatalogue(database, upload_wait=10.0, repeat_window=repeat_window), database)
        await made.announce(free=free)
        return made

    async def announce(self, *, free: int | None = None) -> None:
        await self.catalogue.announce(StorageState(id=self.id, name="test", url="http://storage", free=free))

    async def store(self, claim: UploadClaim, file: StoredFile) -> None:
        async with self.catalogue.transaction(claim) as transaction:
            await transaction.store(file, shared=True)

    async def upload(self, claims: EndpointClaims, data: bytes = b"bytes") -> StoredFile:
        """Claim and store at once."""
        stored = stored_file(data)
        await self.store(await self.catalogue.claim_upload(claims, size=len(data)), stored)
        return stored


def stored_file(data: bytes = b"bytes", content_type: str | None = None) -> StoredFile:
    return StoredFile(
        location=f"aaa/{secrets.token_hex(8)}",
        size=len(data),
        md5=hashlib.md5(data, usedforsecurity=False).digest(),
        sha256=hashlib.sha256(data).digest(),
        content_type=content_type,
    )


async def push(
    world: World,
    where: str,
    caller: Caller,
    *,
    life: float = 3600,
    discard: bool = False,
    keep_properties: bool = False,
    size_limit: int | None = None,
    announced: int | None = None,
) -> EndpointClaims:
    """Negotiate a push without asking whether the caller may: that is asked when the endpoint is used."""
    found = await world.resolve(where)
    container = await world.resolve(path(where)[:-1])
    assert container.node is not None
    job = secrets.token_hex(20)
    placed = await jobs.insert_push(
        world.database,
        job,
        owner=jobs.Owner(caller.id or None),
        request={},
        node=found.node.id if found.node else None,
        parent=container.node.id,
        name=path(where)[-1],
        node_uri="vos://example.org~space/" + where,
        discard=discard,
        keep_properties=keep_properties,
        size_limit=size_limit,
        announced=announced,
        life=life,
        destruction=86400,
    )
    assert placed is not None
    return EndpointClaims(
        operation="put",
        node_id=found.node.id if found.node else None,
        job_id=job,
        user_id=caller.id or None,
        expires=datetime.now(UTC) + timedelta(seconds=life),
    )


async def pull(
    world: World, where: str, caller: Caller, *, life: float = 3600, with_job: bool = True
) -> EndpointClaims:
    """Negotiate a pull without asking whether the caller may."""
    node = await world.node(where)
    job = secrets.token_hex(20) if with_job else None
    if job:
        placed = await jobs.insert_pull(
            world.database,
            job,
            owner=jobs.Owner(caller.id or None),
            request={},
            node=node.id,
            storage=node.storage,
            node_uri="vos://example.org~space/" + where,
            life=life,
            destruction=86400,
        )
        assert placed is not None
    return EndpointClaims(
        operation="get",
        node_id=node.id,
        job_id=job,
        user_id=caller.id or None,
        expires=datetime.now(UTC) + timedelta(seconds=life),
    )


async def phase(world: World, job: str | None) -> Phase:
    row = await jobs.select(world.database, job or "")
    assert row is not None
    return row.phase


async def obsolete(world: World) -> list[str]:
    return [row[0] for row in await world.database.fetch("select location from obsolete order by since, location")]


async def age(world: World, table: str, column: str, seconds: float) -> None:
    """Let time pass for a table."""
    await world.database.fetchrow(f"update {table} set {column} = {column} - make_interval(secs => $1)", seconds)
