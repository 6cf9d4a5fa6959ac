"""Why somebody may do something, or may not: decided by the policy that decides when he does it.

Everybody may ask about himself. What he is told of nodes that he may not see is what he is told of nodes that are not
there. About others only administrators may ask, and whoever may say who may do what with the node; by which groups is
told to him of his own nodes alone, and only groups count that he is in, or that are his: else he could find out who is
in any group by naming it on a node. About callers who are not logged in everybody may ask who sees the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pyvospace.db import identities, permissions
from pyvospace.model.callers import ANONYMOUS, Caller
from pyvospace.model.faults import NotAuthenticated, NotFound, PermissionDenied
from pyvospace.model.permissions import Permission, Permissions, Step
from pyvospace.server.operations.paths import approach, follow
from pyvospace.server.policy import Right

if TYPE_CHECKING:
    from pyvospace.model.stored import Resolution, Rights, StoredNode
    from pyvospace.server.context import Context
    from pyvospace.server.policy import Decision

_IN_CONTAINER: Final = {Right.CREATE, Right.DELETE}
"""Rights to change what is in the container."""
_BY_GROUP: Final = {"group-read", "group-write"}
_UNTOLD: Final = "granted"
"""The rule that is told in place of one that would tell of which groups somebody is a member."""
_UNKNOWN_GROUP: Final = "unknown-group"
"""The rule that is told where a group may decide of which the asker may not know who is in it."""
_HIDDEN: Final = Permission("", allowed=False, rule="way", words="a container above may not be read", trail=("way",))
_UNKNOWN: Final = -1
"""Id of users who are not there: they own nothing, and are in no group."""


async def explain(context: Context, path: tuple[str, ...], rights: Sequence[Right], user: str | None) -> Permissions:
    """Say what somebody may do to a node, and why.

    Parameters
    ----------
    user
        Name of a user; empty: whoever is not logged in; None: the caller himself.

    Raises
    ------
    PermissionDenied, NotAuthenticated
        The caller may not ask about others here.
    NodeNotFound, ContainerNotFound
        He asks about others, and there is nothing.
    NotFound
        There is no such user (told to administrators).
    """
    context.policy.require_place(path)
    itself = user is None or user == context.caller.name
    about = context if itself else replace(context, caller=await _other(context, path, user or ""))
    told = _Telling(context, about, own=itself, groups=frozenset() if itself else await _known_groups(context))
    if not told.knows_all:
        seen = tuple(group for group in about.caller.groups if group in told.groups)
        told = replace(told, about=replace(about, caller=replace(about.caller, groups=seen)))
    decided = [await told.decide(path, right) for right in rights]
    return Permissions(
        target=str(context.uri(path)),
        user=about.caller.name or None,
        permissions=tuple(decided),
        way=await told.way(path),
    )


async def _known_groups(context: Context) -> frozenset[str]:
    """Give the groups of which the caller may know who is in them, if he is no administrator."""
    owned = await permissions.owned_groups(context.reader, context.caller.id)
    return frozenset([*context.caller.groups, *owned])


async def _other(context: Context, path: tuple[str, ...], user: str) -> Caller:
    """Identify somebody else, if the caller may ask about him here."""
    found = await follow(context, path, last=False, reading=True)
    context.policy.require_way(found)
    if found.node is not None or found.container is None:
        context.policy.require(Right.SEE, found)
    if not user:
        return ANONYMOUS
    context.policy.require_owner(found)
    known = await identities.by_name(context.database, user)
    if known is not None:
        return known[0]
    if context.caller.admin:
        raise NotFound(f"there is no user {user[:80]!r}, or he is disabled")
    return Caller(id=_UNKNOWN, name=user, epoch=found.epoch)


@dataclass(frozen=True, slots=True)
class _Telling:
    """What the asker may be told of the rights of somebody."""

    asker: Context
    about: Context
    own: bool
    """They are the same."""
    groups: frozenset[str]
    """Those of which the asker may know who is in them, besides his own."""

    @property
    def knows_all(self) -> bool:
        """Say whether the asker may know by every group."""
        return self.own or self.asker.caller.admin or self.about.caller.anonymous

    async def decide(self, path: tuple[str, ...], right: Right) -> Permission:
        """Decide as the operation would."""
        try:
            found = await self._find(path, right)
        except (PermissionDenied, NotAuthenticated):
            return replace(_HIDDEN, right=str(right))
        decision = self.about.policy.explain(right, found)
        if decision.rule == _HIDDEN.rule:
            return replace(_HIDDEN, right=str(right))
        return self._told(decision, found)

    async def _find(self, path: tuple[str, ...], right: Right) -> Resolution:
        if right in _IN_CONTAINER:
            return await approach(self.about, path, reading=True)
        return await follow(self.about, path, last=False, reading=True)

    def _told(self, decision: Decision, found: Resolution) -> Permission:
        # What comes before the way was looked at tells nothing of what is at its end.
        held = self.about.policy.held(decision.right, found) if _HIDDEN.rule in decision.trail else None
        names = found.names[:-1] if decision.right in _IN_CONTAINER else found.names
        rule, words, trail = decision.rule, decision.words, decision.trail
        if not self._may_know(held):
            trail = tuple(name for name in trail if name not in _BY_GROUP)
            if rule in _BY_GROUP:
                rule, words = _UNTOLD, "a rule that only the owner of the node is told"
        if not decision.allowed and self._leaves_open(held):
            rule, words = _UNKNOWN_GROUP, "unless by a group that is named there: who is in it you may not know"
        return Permission(
            right=str(decision.right),
            allowed=decision.allowed,
            rule=rule,
            words=words,
            node=None if held is None else str(self.asker.uri(names)),
            groups=groups_of(rule, held, self.about.caller.groups),
            trail=trail,
        )

    def _may_know(self, held: StoredNode | Rights | None) -> bool:
        """Say whether the asker may be told by which group."""
        caller = self.asker.caller
        return self.own or caller.admin or (held is not None and held.owner_id == caller.id)

    def _leaves_open(self, held: StoredNode | Rights | None) -> bool:
        """Say whether a group may decide otherwise of which the asker may not know who is in it."""
        if held is None or self.knows_all:
            return False
        return not self.groups.issuperset((*held.group_read, *held.group_write))

    async def way(self, path: tuple[str, ...]) -> tuple[Step, ...]:
        """Tell of the containers above, down to the first that may not be read: the asker sees it in its container."""
        try:
            found = await follow(self.about, path, last=False, reading=True)
        except (PermissionDenied, NotAuthenticated):
            return ()
        steps: list[Step] = []
        for depth, held in enumerate(await permissions.way(self.about.reader, found.names[:-1])):
            rule = self.about.policy.reading(found, held)
            readable = rule != "private"
            told = _UNTOLD if rule in _BY_GROUP and not self._may_know(held) else rule
            groups = groups_of(told, held, self.about.caller.groups)
            if self._covers(found.names[:depth]):
                steps.append(Step(str(self.asker.uri(found.names[:depth])), told, readable, groups))
            if not readable:
                break
        return tuple(steps)

    def _covers(self, names: tuple[str, ...]) -> bool:
        scope = self.asker.caller.scope
        return scope is None or scope.covers(names)


def groups_of(rule: str, held: StoredNode | Rights | None, groups: Sequence[str]) -> tuple[str, ...]:
    """Give those of the groups by which a rule holds; none if it is not by groups."""
    if held is None or rule not in _BY_GROUP:
        return ()
    named = held.group_read if rule == "group-read" else held.group_write
    return tuple(group for group in named if group in groups)
