"""Quotas, and containers that are given to somebody with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from pyvospace.db import administration, allocations, identities, nodes, usage
from pyvospace.db.allocations import QuotaRow
from pyvospace.db.usage import Subject, Usage
from pyvospace.model.faults import DuplicateNode, InvalidArgument, InvalidURI, NodeNotFound, ServiceBusy
from pyvospace.model.stored import Allowance, Changes
from pyvospace.model.uris import AUTO, NULL, NodeUri, decode_path
from pyvospace.model.vocabulary import NodeType
from pyvospace.server.administration.routes import LIST, Body, Count, Listed, Made, Name, Route, Text, listed
from pyvospace.server.operations.paths import resolve
from pyvospace.server.policy import Right

if TYPE_CHECKING:
    from pyvospace.model.stored import StoredNode
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context

_ATTEMPTS = 10
_SUBJECT = ("container", "user", "group")
Groups = Annotated[list[Name], Field(max_length=100)]


class QuotaChange(Body):
    """How much there may be; what is not said is not limited."""

    bytes: Count | None = None
    nodes: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bytes is None and self.nodes is None:
            raise ValueError("say bytes, nodes or both; DELETE takes a quota away")
        return self


class NewAllocation(Body):
    """A container that is to be somebody's; of one that is there, what is not said stays."""

    path: Text
    """Or its URI."""
    owner: Name | None = None
    """None: of a new one, the administrator."""
    bytes: Count | None = None
    nodes: Count | None = None
    group_read: Groups | None = None
    group_write: Groups | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for group in (*(self.group_read or ()), *(self.group_write or ())):
            if "://" not in group:
                raise ValueError(f"{group[:80]!r} is no URI of a group; /groups (pyvospace group list) shows the URIs")
        return self


@dataclass(frozen=True, slots=True)
class Quota:
    """How much there may be, and is."""

    bytes: int | None
    """None, as for the nodes: any number."""
    nodes: int | None
    used: Usage


@dataclass(frozen=True, slots=True)
class Allocation:
    """A container that is given to somebody."""

    uri: str
    owner: str
    group_read: list[str]
    group_write: list[str]
    quota: Quota


def path_of(context: Context, text: str) -> tuple[str, ...]:
    """Read a path, or a URI of this space."""
    if not text.startswith("vos:"):
        return decode_path(text)
    uri = NodeUri.parse(text)
    if uri.authority != context.service.authority:
        raise InvalidURI(f"{text[:300]} is not in this space")
    return uri.path


async def _container(context: Context, path: tuple[str, ...]) -> StoredNode:
    node = (await resolve(context, path)).node
    if node is None or not node.is_container:
        raise NodeNotFound(f"{context.uri(path)}: there is no such container")
    return node


async def _subject(context: Context, asked: Asked) -> Subject:
    """Find what a quota is for: exactly one of three parameters says it."""
    if len(asked.query) != 1:
        raise InvalidArgument(f"say whose quota it is, by one of the parameters {', '.join(_SUBJECT)}")
    ((kind, name),) = asked.query.items()
    if kind == "container":
        return Subject(container=(await _container(context, path_of(context, name))).id)
    if kind == "user":
        return Subject(user=await allocations.user_id(context.database, name))
    if not name:
        raise InvalidArgument("group: name its URI")
    return Subject(group=name)


async def _used(context: Context, subject: Subject) -> Usage:
    if subject.container is not None:
        return await usage.of_container(context.database, subject.container)
    if subject.user is not None:
        return await usage.of_user(context.database, subject.user)
    return await usage.of_group(context.database, subject.group or "")


async def _told(context: Context, subject: Subject) -> Quota:
    for one in await usage.quotas(context.database, subject):
        return Quota(one.bytes, one.nodes, one.used)
    return Quota(None, None, await _used(context, subject))


async def quota_of_user(context: Context, user: int) -> Quota:
    """Tell what a user owns, and how much that may be."""
    return await _told(context, Subject(user=user))


async def list_quotas(context: Context, asked: Asked) -> Listed[QuotaRow]:
    """List all quotas, with what is used."""
    found = await allocations.quotas(context.database, after=asked.after_number, limit=asked.limit)
    return listed(found, asked.limit, lambda one: one.id)


async def get_quota(context: Context, asked: Asked) -> Quota:
    """Tell what is used, and how much that may be."""
    return await _told(context, await _subject(context, asked))


async def put_quota(context: Context, asked: Asked) -> Quota:
    """Set the quota of a container, of a user or of a group."""
    subject, wanted = await _subject(context, asked), asked.body
    await administration.change(
        context.database,
        context.caller,
        lambda connection: usage.set_quota(connection, subject, bytes=wanted.bytes, nodes=wanted.nodes),
    )
    return await _told(context, subject)


async def remove_quota(context: Context, asked: Asked) -> None:
    """Let there be any number."""
    subject = await _subject(context, asked)
    await administration.change(
        context.database,
        context.caller,
        lambda connection: usage.set_quota(connection, subject, bytes=None, nodes=None),
    )


async def list_allocations(context: Context, asked: Asked) -> Listed[Allocation]:
    """List the homes, and all containers with a quota of their own."""
    homes = (await resolve(context, context.service.settings.homes.path)).node
    roots = [homes.id] if homes else []
    found = await allocations.allocations(context.database, roots=roots, after=asked.after_number, limit=asked.limit)
    page = listed(found, asked.limit, lambda one: one.id)
    return Listed(
        [
            Allocation(
                str(context.uri(one.path)),
                one.owner,
                list(one.group_read),
                list(one.group_write),
                Quota(one.bytes, one.nodes, one.used),
            )
            for one in page.items
        ],
        page.next,
    )


async def allocate(context: Context, asked: Asked) -> Made[Allocation] | Allocation:
    """Make a container with an owner and a quota, or give one that is there another owner or quota."""
    wanted: NewAllocation = asked.body
    path = path_of(context, wanted.path)
    if not path or {AUTO, NULL}.intersection(path):
        raise InvalidArgument("path: name a container below the root")
    if wanted.owner is not None and await identities.by_name(context.database, wanted.owner) is None:
        raise InvalidArgument(f"owner: there is no user {wanted.owner[:80]!r}, or he is disabled")
    for _ in range(_ATTEMPTS):
        found = await resolve(context, path)
        if found.node is None:
            context.policy.require(Right.CREATE, found)
            node, made = await _make(context, path, wanted), True
        else:
            context.policy.require(Right.ADMINISTER, found)
            node, made = await _change(context, found.node, wanted), False
        if node is not None:
            told = Allocation(
                str(context.uri(path)),
                node.owner,
                list(node.group_read),
                list(node.group_write),
                await _told(context, Subject(container=node.id)),
            )
            return Made(told) if made else told
    raise ServiceBusy("others keep changing the container; try again")


def _changes(wanted: NewAllocation, old: Quota | None) -> Changes:
    """Say what is to be changed; `old` is the quota of what is there, None: it is new."""
    quota = None
    if wanted.bytes is not None or wanted.nodes is not None:
        kept = old or Quota(None, None, Usage(0, 0))
        quota = Allowance(
            kept.bytes if wanted.bytes is None else wanted.bytes,
            kept.nodes if wanted.nodes is None else wanted.nodes,
        )
    return Changes(
        public=False if old is None else None,
        group_read=None if wanted.group_read is None else tuple(wanted.group_read),
        group_write=None if wanted.group_write is None else tuple(wanted.group_write),
        # What the members make together is to be for all of them.
        inherit=True if old is None and (wanted.group_read or wanted.group_write) else None,
        quota=quota,
        owner=wanted.owner,
    )


async def _make(context: Context, path: tuple[str, ...], wanted: NewAllocation) -> StoredNode | None:
    owner = None if wanted.owner is None else await allocations.user_id(context.database, wanted.owner)
    changes = _changes(wanted, None)
    try:
        return await nodes.insert(
            context.database, context.caller, path, kind=NodeType.CONTAINER, changes=changes, owner=owner
        )
    except DuplicateNode:
        return None


async def _change(context: Context, node: StoredNode, wanted: NewAllocation) -> StoredNode | None:
    if not node.is_container:
        raise DuplicateNode(f"{wanted.path} is there and is no container")
    changes = _changes(wanted, await _told(context, Subject(container=node.id)))
    return await nodes.update(context.database, context.caller, node, changes)


ROUTES = (
    Route("GET", "/admin/quotas", list_quotas, Listed[QuotaRow], query=LIST),
    Route("GET", "/admin/quota", get_quota, Quota, query=_SUBJECT),
    Route("PUT", "/admin/quota", put_quota, Quota, QuotaChange, query=_SUBJECT),
    Route("DELETE", "/admin/quota", remove_quota, query=_SUBJECT),
    Route("GET", "/admin/allocations", list_allocations, Listed[Allocation], query=LIST),
    Route("POST", "/admin/allocations", allocate, Allocation, NewAllocation),
)
