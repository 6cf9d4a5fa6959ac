"""Local groups: administrators have all of them, owners their own, and members see that they are in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvospace.db import administration, groups, identities
from pyvospace.db.groups import Group as Row
from pyvospace.model.faults import NotFound, PermissionDenied
from pyvospace.server.administration.routes import LIST, Body, Listed, Made, Name, Needs, Route, listed

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context


class GroupChanges(Body):
    """Whose a group is to be."""

    owner: Name | None = None
    """None: of a new group whoever makes it (an administrator: nobody); of one that is there: as it is."""


@dataclass(frozen=True, slots=True)
class Group:
    """A local group."""

    name: str
    uri: str
    """By which nodes name it."""
    owner: str | None
    members: int | None
    """How many; None: not for members to know."""
    member: bool
    """Whoever asks is in it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A user in a group."""

    user: str


def _told(context: Context, row: Row) -> Group:
    knows = row.owned or context.caller.admin
    uri = context.service.settings.group_prefixes[0] + row.name
    return Group(row.name, uri, row.owner, row.members if knows else None, row.joined)


async def list_all(context: Context, asked: Asked) -> Listed[Group]:
    """List all local groups."""
    return await _list(context, asked, every=True)


async def list_own(context: Context, asked: Asked) -> Listed[Group]:
    """List the local groups that the caller owns or is in."""
    return await _list(context, asked, every=False)


async def _list(context: Context, asked: Asked, *, every: bool) -> Listed[Group]:
    found = await groups.groups(
        context.database, after=asked.after, limit=asked.limit, user=context.caller.id, every=every
    )
    return listed([_told(context, row) for row in found], asked.limit, lambda one: one.name)


async def _visible(context: Context, name: str) -> Row:
    """Give a group to its owner, its members and administrators; for others there is none."""
    row = await groups.group(context.database, name, user=context.caller.id)
    if row is None or not (row.owned or row.joined or context.caller.admin):
        raise NotFound(f"there is no group {name!r}, or you are not in it")
    return row


async def _own(context: Context, name: str) -> Row:
    """Give a group to its owner and administrators."""
    row = await _visible(context, name)
    if not (row.owned or context.caller.admin):
        raise PermissionDenied(f"the group {name!r} is not yours")
    return row


async def get_group(context: Context, asked: Asked) -> Group:
    """Tell of a group that the caller owns or is in."""
    return _told(context, await _visible(context, asked.names["group"]))


async def put_group(context: Context, asked: Asked) -> Made[Group] | Group:
    """Make a group, or hand on one that is there."""
    name, owner = asked.names["group"], asked.body.owner
    row = await groups.group(context.database, name, user=context.caller.id)
    if row is not None:
        await _own(context, name)
        if owner not in {None, row.owner}:
            await _hand_on(context, name, owner or "")
        return await _after(context, name)
    await _make(context, name, owner)
    return Made(await _after(context, name))


async def _after(context: Context, name: str) -> Group:
    row = await groups.group(context.database, name, user=context.caller.id)
    if row is None:
        raise NotFound(f"there is no group {name!r} any more")
    return _told(context, row)


async def _make(context: Context, name: str, owner: str | None) -> None:
    caller = context.caller
    if not caller.admin:
        if not context.service.settings.groups.self_service:
            raise PermissionDenied("only administrators make groups here")
        if owner not in {None, caller.name}:
            raise PermissionDenied("only administrators make groups for others")
        owner = caller.name

    async def work(connection: Connection) -> None:
        if not caller.admin:
            await _require_room(context, connection, caller.name)
            if await groups.was_of_another(connection, name, caller.name):
                raise PermissionDenied(f"nodes may still name a group {name!r} that was: only administrators make it")
        await identities.add_group(connection, name, owner=owner)

    await administration.change(context.database, caller, work)


async def _hand_on(context: Context, name: str, owner: str) -> None:
    async def work(connection: Connection) -> None:
        if not context.caller.admin:
            await _require_room(context, connection, owner)
        await groups.hand_on(connection, name, owner)

    await administration.change(context.database, context.caller, work)


async def _require_room(context: Context, connection: Connection, owner: str) -> None:
    most = context.service.settings.groups.most
    if await groups.owned(connection, owner) >= most:
        raise PermissionDenied(f"{owner!r} has {most} groups, which is as many as one may have")


async def remove_group(context: Context, asked: Asked) -> None:
    """Remove a group; what it was allowed nobody is allowed by it any more."""
    name = asked.names["group"]
    await _own(context, name)
    await administration.change(
        context.database, context.caller, lambda connection: identities.remove_group(connection, name)
    )


async def list_members(context: Context, asked: Asked) -> Listed[Member]:
    """Name the members of a group, to its owner and administrators."""
    await _own(context, asked.names["group"])
    found = await groups.members(context.database, asked.names["group"], after=asked.after, limit=asked.limit)
    return listed([Member(name) for name in found], asked.limit, lambda one: one.user)


async def add_member(context: Context, asked: Asked) -> Made[Member] | Member:
    """Let a user be in a group."""
    member = Member(asked.names["user"])
    return Made(member) if await _change_member(context, asked, add=True) else member


async def remove_member(context: Context, asked: Asked) -> None:
    """Take a user out of a group; he may leave by himself."""
    await _change_member(context, asked, add=False)


async def _change_member(context: Context, asked: Asked, *, add: bool) -> bool:
    name, user = asked.names["group"], asked.names["user"]
    leaves = not add and user == context.caller.name
    await (_visible if leaves else _own)(context, name)
    return await administration.change(
        context.database,
        context.caller,
        lambda connection: identities.change_member(connection, name, user, add=add),
    )


ROUTES = (
    Route("GET", "/admin/groups", list_all, Listed[Group], query=LIST),
    Route("GET", "/groups", list_own, Listed[Group], query=LIST, needs=Needs.USER),
    Route("GET", "/groups/{group}", get_group, Group, needs=Needs.USER),
    Route("PUT", "/groups/{group}", put_group, Group, GroupChanges, needs=Needs.USER),
    Route("DELETE", "/groups/{group}", remove_group, needs=Needs.USER),
    Route("GET", "/groups/{group}/members", list_members, Listed[Member], query=LIST, needs=Needs.USER),
    Route("PUT", "/groups/{group}/members/{user}", add_member, Member, needs=Needs.USER),
    Route("DELETE", "/groups/{group}/members/{user}", remove_member, needs=Needs.USER),
)
