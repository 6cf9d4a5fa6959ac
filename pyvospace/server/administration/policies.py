"""Policies of containers: where bytes go, how many copies and older contents there are, how long the trash keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, StringConstraints

from pyvospace.db import administration, policies
from pyvospace.model.faults import InvalidArgument, NodeNotFound
from pyvospace.server.administration.quotas import path_of
from pyvospace.server.administration.routes import LIST, Body, Listed, Needs, Route, listed
from pyvospace.server.operations.paths import resolve
from pyvospace.server.policy import Right

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyvospace.model.stored import StoredNode
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context

_CONTAINER: Final = ("container",)
_OF_OWNERS: Final = frozenset({"versions", "trash_days"})
"""What the owner of a container decides himself: it costs nothing but his own quota."""


class PolicyChange(Body):
    """What is to be said, or with null left to the container above; what is not named stays."""

    label: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] | None = None
    replicas: Annotated[int, Field(ge=1, le=9)] | None = None
    versions: Annotated[int, Field(ge=0, le=10000)] | None = None
    trash_days: Annotated[int, Field(ge=0, le=36500)] | None = None
    tier_days: Annotated[int, Field(ge=0, le=36500)] | None = None


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """A container that has a policy of its own; what is null it leaves to the container above."""

    uri: str
    label: str | None
    replicas: int | None
    versions: int | None
    trash_days: int | None
    tier_days: int | None


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for a container."""

    value: str | int
    source: str
    """URI of the container that says so."""


@dataclass(frozen=True, slots=True)
class PolicyShown:
    """What a container says itself, and what holds for it."""

    own: OwnPolicy
    label: Setting
    replicas: Setting
    versions: Setting
    trash_days: Setting
    tier_days: Setting


async def _container(context: Context, asked: Asked, right: Right) -> tuple[tuple[str, ...], StoredNode]:
    if "container" not in asked.query:
        raise InvalidArgument("container: name it")
    path = path_of(context, asked.query["container"])
    node = context.policy.require(right, await resolve(context, path))
    if not node.is_container:
        raise NodeNotFound(f"{context.uri(path)}: there is no such container")
    return path, node


async def _shown(context: Context, path: tuple[str, ...], node: StoredNode) -> PolicyShown:
    own, above = await policies.above(context.database, node.id)
    found: dict[str, Setting] = {}
    for place, policy in above:
        said = {name: value for name, value in asdict(policy).items() if value is not None}
        found |= {name: Setting(value, str(context.uri(place))) for name, value in said.items()}
    if len(found) < len(policies.NAMES):
        raise NodeNotFound(f"{context.uri(path)}: there is no such container")
    return PolicyShown(OwnPolicy(str(context.uri(path)), **asdict(own)), **found)


async def list_policies(context: Context, asked: Asked) -> Listed[OwnPolicy]:
    """List containers that have a policy of their own."""
    found = await policies.policies(context.database, after=asked.after_number, limit=asked.limit)
    page = listed(found, asked.limit, lambda one: one.id)
    return Listed([OwnPolicy(str(context.uri(one.path)), **asdict(one.policy)) for one in page.items], page.next)


async def get_policy(context: Context, asked: Asked) -> PolicyShown:
    """Tell what holds for a container that the caller may read, and which container says so."""
    path, node = await _container(context, asked, Right.READ)
    return await _shown(context, path, node)


async def change_policy(context: Context, asked: Asked) -> PolicyShown:
    """Change the policy of a container; its owner may set versions and trash_days."""
    said = asked.body.model_dump(include=asked.body.model_fields_set)
    path, node = await _container(context, asked, _needed(said))
    await administration.change(
        context.database,
        context.caller,
        lambda connection: policies.change(connection, context.caller, node.id, said, free=context.caller.admin),
    )
    return await _shown(context, path, node)


async def remove_policy(context: Context, asked: Asked) -> None:
    """Take back all that a container says itself."""
    path, node = await _container(context, asked, Right.OWN)
    own, _ = await policies.above(context.database, node.id)
    said = {name: value for name, value in asdict(own).items() if value is not None}
    context.policy.require(_needed(said), await resolve(context, path))
    await administration.change(
        context.database,
        context.caller,
        lambda connection: policies.remove(connection, context.caller, node.id, free=context.caller.admin),
    )


def _needed(said: Mapping[str, Any]) -> Right:
    return Right.OWN if _OF_OWNERS.issuperset(said) else Right.ADMINISTER


ROUTES = (
    Route("GET", "/admin/policies", list_policies, Listed[OwnPolicy], query=LIST),
    Route("GET", "/policy", get_policy, PolicyShown, query=_CONTAINER, needs=Needs.ANY_TOKEN),
    Route("PATCH", "/policy", change_policy, PolicyShown, PolicyChange, query=_CONTAINER, needs=Needs.ANY_TOKEN),
    Route("DELETE", "/policy", remove_policy, query=_CONTAINER, needs=Needs.ANY_TOKEN),
)
