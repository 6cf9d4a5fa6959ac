"""Homes: a container of his own for each user, made by an administrator, by himself, or when he first comes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from pyvospace.db import bootstrap
from pyvospace.model.callers import TokenRight
from pyvospace.model.faults import Fault
from pyvospace.model.stored import Allowance
from pyvospace.model.vocabulary import NodeType
from pyvospace.server.operations.paths import resolve

if TYPE_CHECKING:
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import Changes
    from pyvospace.model.uris import NodeUri
    from pyvospace.server.context import Context

log = logging.getLogger(__name__)


def path_of(context: Context, name: str) -> tuple[str, ...]:
    """Give the path of a user's home."""
    return (*context.service.settings.homes.path, name)


async def find(context: Context, name: str) -> NodeUri | None:
    """Give the URI of a user's home; None: he has none."""
    path = path_of(context, name)
    found = await resolve(context, path)
    return context.uri(path) if found.node is not None else None


async def make(context: Context, name: str) -> bool:
    """Make the home of a user, private to him; False: it is there already.

    Raises
    ------
    NotFound
        There is no such user.
    """
    context.policy.require_writable()
    homes = context.service.settings.homes
    return await bootstrap.make_home(context.database, name, parent=homes.path, quota=homes.quota, by=context.caller)


def may_make(context: Context, path: tuple[str, ...]) -> bool:
    """Say whether the node at a path would be the caller's own home, which he may make himself."""
    caller, homes = context.caller, context.service.settings.homes
    return (
        homes.self_service
        and not caller.anonymous
        and path == path_of(context, caller.name)
        and (homes.group is None or homes.group in caller.groups)
    )


def maker(context: Context, path: tuple[str, ...], kind: NodeType, changes: Changes) -> tuple[Caller, Changes]:
    """Give who makes a node, and how: his home a user may make though its container does not allow it."""
    if kind is not NodeType.CONTAINER or not may_make(context, path):
        return context.caller, changes
    quota = context.service.settings.homes.quota
    limited = changes if quota is None or changes.quota else replace(changes, quota=Allowance(quota))
    return replace(context.caller, admin=True), limited


class FirstLogins:
    """Makes homes for those who come for the first time, as far as this process remembers."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    async def welcome(self, context: Context) -> None:
        """Make the caller's home if he has none and may make it himself; whatever he asks for goes on anyway."""
        caller, path = context.caller, path_of(context, context.caller.name)
        if caller.id in self._seen or not may_make(context, path):
            return
        if caller.scope is not None and not (TokenRight.WRITE in caller.scope.rights and caller.scope.covers(path)):
            return
        try:
            if await make(context, caller.name):
                log.info("made the home of %s, who came for the first time", caller.name)
        except Fault as fault:
            log.warning("the home of %s could not be made: %s", caller.name, fault)
        else:
            self._seen.add(caller.id)
