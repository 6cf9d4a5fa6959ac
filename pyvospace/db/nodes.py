"""Rows of nodes: the tree.

Every statement that changes something checks the caller's rights and his epoch itself and changes nothing if they do
not hold any more; the function then says so by giving None, and the operation starts over.

How concurrent changes stay apart: who creates a node shares the row of its container in ``containers`` (the foreign
key does as much for uploads); who deletes or moves a tree locks these rows, in the order of their ids, and waits for
whom he finds there. Deletes and moves of containers take turns by an advisory lock, so that no two of them can
disagree about who is below whom.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db import bundles, usage
from pyvospace.db.gathering import Question
from pyvospace.db.pool import tell_who_acts
from pyvospace.db.statements import QueryFile
from pyvospace.db.stored import stored_node
from pyvospace.db.usage import Subject
from pyvospace.model.audit import audited
from pyvospace.model.faults import DuplicateNode, InvalidArgument, NodeLocked, PermissionDenied
from pyvospace.model.stored import ROOT_ID, Changes, Resolution, Rights, StoredNode
from pyvospace.model.uris import MAX_DEPTH
from pyvospace.model.vocabulary import IMMUTABLE, LOCKS, NodeType

if TYPE_CHECKING:
    import asyncpg

    from pyvospace.db.pool import Connection, Database, Reader
    from pyvospace.model.callers import Caller

    Then = Callable[[Connection], Awaitable[None]]
    """What belongs to the transaction of a change: the last phase of a job."""


class _Sql(QueryFile, file="nodes.sql"):
    resolve: ClassVar[str]
    resolve_several: ClassVar[str]
    children: ClassVar[str]
    insert: ClassVar[str]
    insert_several: ClassVar[str]
    update: ClassVar[str]
    mark_tree: ClassVar[str]
    delete_leaf: ClassVar[str]
    lock_trees: ClassVar[str]
    path: ClassVar[str]
    lock_tree: ClassVar[str]
    obstacle: ClassVar[str]
    removable: ClassVar[str]
    enterable: ClassVar[str]
    fixed_below: ClassVar[str]
    too_deep: ClassVar[str]
    has_children: ClassVar[str]
    delete_tree: ClassVar[str]
    days_of_tree: ClassVar[str]
    bin_tree: ClassVar[str]
    names: ClassVar[str]
    share_containers: ClassVar[str]
    turn_tree: ClassVar[str]
    rename: ClassVar[str]
    names_in_use: ClassVar[str]


_TRASH = "0"
"""Where the trash stands: in no container."""


_RESOLVE = Question(_Sql.resolve, _Sql.resolve_several, bundles.resolutions)
_INSERT = Question(_Sql.insert, _Sql.insert_several, bundles.creations)


async def resolve(reader: Reader, caller: Caller, names: tuple[str, ...]) -> Resolution:
    """Walk down a path as far as it leads; with others who do at the same time."""
    row = await reader.gathering.ask(_RESOLVE, names, caller.id, caller.groups, caller.admin)
    if row is None:
        raise InvalidArgument("the space has no root: it was never set up")
    return Resolution(
        names=names,
        depth=row["depth"],
        last=stored_node(row),
        way_readable=row["visible"],
        parent=_rights_above(row),
        epoch=row["epoch"],
        limited=row["limited"],
    )


def _rights_above(row: asyncpg.Record) -> Rights | None:
    if not row["depth"]:
        return None
    return Rights(
        owner_id=row["parent_owner_id"],
        public=row["parent_public"],
        group_read=tuple(row["parent_group_read"]),
        group_write=tuple(row["parent_group_write"]),
        locked=row["parent_locked"],
        immutable=row["parent_immutable"],
    )


async def children(
    reader: Reader, caller: Caller, container: StoredNode, *, start: str, inclusive: bool, limit: int
) -> list[StoredNode]:
    """Give a page of the children of a container, in byte order of their names.

    Parameters
    ----------
    start
        Name at which the page begins; empty: at the beginning.
    inclusive
        The page may begin with `start` itself.
    """
    rows = await reader.fetch(
        _Sql.children, container.id, caller.id, caller.groups, caller.admin, limit, start, inclusive
    )
    return [stored_node(row) for row in rows]


async def all_children(
    reader: Reader, caller: Caller, container: StoredNode, *, start: str, limit: int | None, page: int
) -> AsyncIterator[list[StoredNode]]:
    """Give the children of a container page by page, from `start` on (itself included), `limit` in all.

    No connection is held between two pages. What does not change meanwhile comes exactly once.
    """
    left = limit
    inclusive = True
    while left is None or left > 0:
        size = page if left is None else min(page, left)
        found = await children(reader, caller, container, start=start, inclusive=inclusive, limit=size)
        if found:
            yield found
            start, inclusive = found[-1].name, False
        if len(found) < size:
            return
        left = None if left is None else left - len(found)


async def insert(
    database: Database,
    caller: Caller,
    path: tuple[str, ...],
    *,
    kind: NodeType,
    changes: Changes,
    owner: int | None = None,
) -> StoredNode | None:
    """Make a node at the end of a path; it belongs to the caller, or to `owner`.

    Finding the container, judging the caller's rights and making the node are one statement. None: the container is
    not there or may not be written to, which `resolve` explains, or something has just changed.

    Raises
    ------
    DuplicateNode
        There is one of that name.
    """
    arguments = (
        path[:-1],
        caller.id,
        caller.groups,
        caller.admin,
        caller.epoch,
        path[-1],
        str(kind),
        changes.public,
        changes.group_read,
        changes.group_write,
        changes.inherit,
        changes.locked or False,
        json.dumps(dict(changes.properties)),
        changes.target,
        caller.id if owner is None else owner,
        changes.immutable or False,
        caller.who,
    )
    if changes.quota is None:
        return await _insert(database, arguments, path[-1])

    async def work(connection: Connection) -> StoredNode | None:
        row = await connection.fetchrow(_Sql.insert, *arguments)
        return await _allow(connection, caller, stored_node(row), changes) if row else None

    return await database.transact(work, subject=path[-1])


async def _insert(database: Database, arguments: tuple[object, ...], name: str) -> StoredNode | None:
    """Make a node; with others that are being made at the same time, unless something stands in its way."""
    try:
        row = await database.gathering.ask(_INSERT, *arguments)
    except DuplicateNode:
        raise DuplicateNode(name) from None
    if row is not None and row.get("apart"):
        row = await database.fetchrow(_Sql.insert, *arguments, subject=name)
    return stored_node(row) if row is not None and row["id"] is not None else None


async def _allow(connection: Connection, caller: Caller, node: StoredNode, changes: Changes) -> StoredNode:
    """Give a container its quota; what else is limited there stays so."""
    if changes.quota is None:
        return node
    await tell_who_acts(connection, caller)
    subject, most = Subject(container=node.id), changes.quota
    if most.nodes is None:
        await usage.set_bytes(connection, subject, most.bytes)
    else:
        await usage.set_quota(connection, subject, bytes=most.bytes, nodes=most.nodes)
    return replace(node, quota=changes.quota.bytes, quota_state=None)


async def update(database: Database, caller: Caller, node: StoredNode, changes: Changes) -> StoredNode | None:
    """Change a node; None: it, or the caller's rights, are not any more what they were.

    What makes a container immutable, or not any more, does so to all that is below it.
    """
    if changes.immutable is None and changes.quota is None:
        return await _update(database, caller, node, changes)

    async def work(connection: Connection) -> StoredNode | None:
        change = _update if changes.immutable is None else _mark
        changed = await change(connection, caller, node, changes)
        return await _allow(connection, caller, changed, changes) if changed else None

    return await database.transact(work, tree=node.is_container, subject=node.name)


async def _mark(connection: Connection, caller: Caller, node: StoredNode, changes: Changes) -> StoredNode | None:
    """Change what may be done to a node; nobody adds to the tree or takes from it meanwhile."""
    if not node.is_container:
        await connection.fetch(_Sql.share_containers, [node.parent_id])
        return await _update(connection, caller, node, changes)
    await connection.execute(_Sql.lock_trees)
    path = await connection.fetchval(_Sql.path, node.id)
    if path is None:
        return None
    await lock_tree(connection, path)
    changed = await _update(connection, caller, node, changes)
    if changed is not None:
        await connection.execute(_Sql.mark_tree, path, changes.immutable)
    return changed


async def _update(
    connection: Connection | Database, caller: Caller, node: StoredNode, changes: Changes
) -> StoredNode | None:
    row = await connection.fetchrow(
        _Sql.update,
        node.id,
        node.parent_id,
        node.name,
        caller.id,
        caller.groups,
        caller.admin,
        caller.epoch,
        list(changes.removed),
        json.dumps(dict(changes.properties)),
        changes.public,
        changes.group_read,
        changes.group_write,
        changes.inherit,
        changes.locked,
        changes.target,
        changes.of_rights,
        changes.immutable,
        caller.who,
        audited(changes),
        changes.owner,
    )
    return stored_node(row) if row else None


async def delete(
    database: Database, caller: Caller, node: StoredNode, *, only_empty: bool = False, then: Then | None = None
) -> bool:
    """Delete a node with all that is below it, or nothing; False: something is not any more what it was.

    Policies of containers decide whether it goes into the trash. That takes as long as a move.

    Parameters
    ----------
    only_empty
        Not a container with something in it.
    then
        What belongs to the same transaction.

    Raises
    ------
    InvalidArgument
        The container is not empty, and should be.
    NodeLocked
        A node of the tree is locked.
    PermissionDenied
        A node of the tree is immutable, or the caller may not write to a container in it that is not empty.
    """
    if then is None and not node.is_container:
        return await _delete_leaf(database, caller, node)

    async def work(connection: Connection) -> bool:
        if node.is_container:
            gone = await _delete_tree(connection, caller, node, only_empty=only_empty)
        else:
            gone = await _delete_leaf(connection, caller, node)
        if gone and then is not None:
            await then(connection)
        return gone

    return await database.transact(work, tree=True)


async def _delete_leaf(connection: Connection | Database, caller: Caller, node: StoredNode) -> bool:
    gone = await connection.fetchval(
        _Sql.delete_leaf,
        node.id,
        node.parent_id,
        node.name,
        caller.id,
        caller.groups,
        caller.admin,
        caller.epoch,
        caller.who,
    )
    return gone is not None


async def _delete_tree(connection: Connection, caller: Caller, node: StoredNode, *, only_empty: bool) -> bool:
    path = await _lock_for_deletion(connection, caller, node)
    if path is None:
        return False
    if only_empty and await connection.fetchval(_Sql.has_children, node.id):
        raise InvalidArgument(f"container node '{node.name}' is not empty")
    _raise_obstacle(await connection.fetchval(_Sql.obstacle, path, caller.id, caller.groups, caller.admin))
    return bool(await _remove_tree(connection, caller, node, path))


async def _remove_tree(connection: Connection, caller: Caller, node: StoredNode, path: str) -> int:
    """Delete a tree that is locked, or put it into the trash, as policies say; give the number of nodes."""
    days = await connection.fetchval(_Sql.days_of_tree, node.id)
    if not days:
        return int(await connection.fetchval(_Sql.delete_tree, node.id, path, caller.id, caller.who))
    names = await connection.fetchval(_Sql.names, node.id)
    await connection.execute(_Sql.turn_tree, path, _TRASH)
    return int(await connection.fetchval(_Sql.bin_tree, node.id, days, caller.id, caller.who, names))


async def goes_to_trash(database: Database, node: StoredNode) -> bool:
    """Say whether a container would be put into the trash, if it were deleted now."""
    return bool(await database.fetchval(_Sql.days_of_tree, node.id))


async def delete_free_tree(connection: Connection, caller: Caller, node: StoredNode) -> int:
    """Delete a container with all that is below it, unless something forbids it; give the number of nodes."""
    path = await _lock_for_deletion(connection, caller, node)
    if path is None or await connection.fetchval(_Sql.obstacle, path, caller.id, caller.groups, caller.admin):
        return 0
    return await _remove_tree(connection, caller, node, path)


async def free_tree(connection: Connection, caller: Caller, node: StoredNode) -> str | None:
    """Give where a container stands that could be deleted with all that is below it; None: something forbids it."""
    path: str | None = await connection.fetchval(_Sql.path, node.id)
    if path is None or not await is_removable(connection, caller, node):
        return None
    obstacle = await connection.fetchval(_Sql.obstacle, path, caller.id, caller.groups, caller.admin)
    return None if obstacle else path


async def _lock_for_deletion(connection: Connection, caller: Caller, node: StoredNode) -> str | None:
    """Lock a tree and give its path; None: it is not any more where it was, or may not be taken from there."""
    await connection.execute(_Sql.lock_trees)
    path: str | None = await connection.fetchval(_Sql.path, node.id)
    if path is None or not await is_removable(connection, caller, node):
        return None
    await lock_tree(connection, path)
    return path


async def is_removable(connection: Connection, caller: Caller, node: StoredNode) -> bool:
    """Say whether the node is where it was, in a container that the caller may write to."""
    row = await connection.fetchrow(_Sql.removable, node.id, caller.id, caller.groups, caller.admin)
    return (
        row is not None
        and (row["parent_id"], row["name"], row["epoch"]) == (node.parent_id, node.name, caller.epoch)
        and row["removable"]
    )


async def lock_tree(connection: Connection, path: str) -> None:
    """Lock all containers of a tree, those included that others were just creating in it."""
    seen = -1
    while (count := await connection.fetchval(_Sql.lock_tree, path)) != seen:
        seen = count


def _raise_obstacle(obstacle: str | None) -> None:
    if obstacle == "immutable":
        raise PermissionDenied("a node in there is immutable")
    if obstacle == NodeLocked.code:
        raise NodeLocked("a node in there is locked")
    if obstacle == PermissionDenied.code:
        raise PermissionDenied("you may not write to a container in there")


async def move(
    database: Database,
    caller: Caller,
    source: StoredNode,
    container: StoredNode,
    name: str,
    *,
    replaced: StoredNode | None = None,
    then: Then | None = None,
) -> StoredNode | None:
    """Put a node, with all that is below it, into a container under a name; the owner stays.

    Every reader sees the tree at the old or at the new place. Within one container the cost does not depend on what
    is below; between containers it is a row for each container below.

    Parameters
    ----------
    replaced
        What has that name now, and is deleted as `delete` would: no container with something in it.
    then
        What belongs to the same transaction: of a job, which may wait for others as long as whole trees take.

    Raises
    ------
    DuplicateNode
        The name is taken there.
    InvalidArgument
        The container is the node itself or below it; or what is to be replaced is not empty.
    NodeLocked
        The node, or something below it, is locked.
    PermissionDenied
        Something below it is immutable.
    QuotaExceeded
        It does not fit into a quota that it was not under before.

    Returns
    -------
    StoredNode or None
        The node as it is now; None: something is not any more what it was.
    """

    async def work(connection: Connection) -> StoredNode | None:
        if source.is_container:
            await connection.execute(_Sql.lock_trees)
        if replaced is not None and not await _give_way(connection, caller, source, replaced):
            return None
        moved = await _move(connection, caller, source, container, name)
        if moved is not None and then is not None:
            await then(connection)
        return moved

    return await database.transact(work, tree=source.is_container or then is not None, subject=name)


async def _give_way(connection: Connection, caller: Caller, source: StoredNode, replaced: StoredNode) -> bool:
    """Delete what a node is to be put in the place of; False: something is not any more what it was."""
    if replaced.is_container:
        return await _delete_tree(connection, caller, replaced, only_empty=True)
    parents = {source.parent_id, replaced.parent_id}
    if len(await connection.fetch(_Sql.share_containers, list(parents))) != len(parents):
        return False
    # In the order of their ids: somebody else may be putting the one in the place of the other.
    for one in sorted((source, replaced), key=lambda node: node.id):
        if not await is_removable(connection, caller, one):
            return False
    return await _delete_leaf(connection, caller, replaced)


async def _move(
    connection: Connection, caller: Caller, source: StoredNode, container: StoredNode, name: str
) -> StoredNode | None:
    if source.id == ROOT_ID:
        raise PermissionDenied("the root cannot be moved")
    parents = {source.parent_id, container.id}
    held = await connection.fetch(_Sql.share_containers, list(parents))
    if len(held) != len(parents) or not await is_removable(connection, caller, source):
        return None
    if not await is_enterable(connection, caller, container):
        return None
    if source.is_container:
        await turn(connection, source.id, source.parent_id, container)
    row = await connection.fetchrow(
        _Sql.rename,
        source.id,
        container.id,
        name,
        caller.id,
        caller.groups,
        caller.admin,
        caller.who,
        source.parent_id,
        source.name,
    )
    return stored_node(row) if row else None


async def is_enterable(connection: Connection, caller: Caller, container: StoredNode) -> bool:
    """Say whether the container is where it was, and the caller may write to it."""
    row = await connection.fetchrow(_Sql.enterable, container.id, caller.id, caller.groups, caller.admin)
    return (
        row is not None
        and (row["parent_id"], row["name"]) == (container.parent_id, container.name)
        and row["enterable"]
    )


async def turn(connection: Connection, source: int, parent: int | None, container: StoredNode) -> None:
    """Give all containers of a tree, the top of which is in `parent`, their places in another container.

    Raises
    ------
    InvalidArgument
        That one is in the tree, or something would be too deep there.
    NodeLocked, PermissionDenied
        As `move`.
    """
    old = await connection.fetchval(_Sql.path, source)
    new = await connection.fetchval(_Sql.path, container.id)
    if new == old or new.startswith(f"{old}."):
        raise InvalidArgument("Cannot move container node into its descendants")
    if parent != container.id:
        await lock_tree(connection, old)
    _raise_obstacle(await connection.fetchval(_Sql.fixed_below, old))
    if parent == container.id:
        return
    if await connection.fetchval(_Sql.too_deep, old, new.count(".") - old.count(".") + 1):
        raise InvalidArgument(f"Paths in there would have more than {MAX_DEPTH} names")
    await connection.execute(_Sql.turn_tree, old, new)


async def take_turn(connection: Connection) -> None:
    """Keep everybody else from deleting and moving trees until the transaction ends."""
    await connection.execute(_Sql.lock_trees)


async def share(connection: Connection, container: int) -> bool:
    """Hold a container against deletion and removal; False: it is gone."""
    return bool(await connection.fetch(_Sql.share_containers, [container]))


async def place_of(connection: Connection, container: int) -> str | None:
    """Give where a container stands; None: there is none."""
    found: str | None = await connection.fetchval(_Sql.path, container)
    return found


async def names_in_use(reader: Reader, caller: Caller, *, limit: int) -> tuple[int, list[str]]:
    """Give the epoch, and property URIs of nodes that the caller may read: up to `limit`, and those of flags.

    Only the newest 10,000 nodes are looked at, so that the cost does not grow with the space.
    """
    row = await reader.fetchrow(_Sql.names_in_use, caller.id, caller.groups, caller.admin, limit)
    if row is None:
        return 0, []
    return row["epoch"], [*row["names"], *(LOCKS if row["locked"] else ()), *([IMMUTABLE] if row["immutable"] else ())]
