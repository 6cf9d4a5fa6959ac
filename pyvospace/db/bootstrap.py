"""First steps of a space: its row, its administrator, the root, ``/home`` and a first user with a home.

Each step does nothing where it was done before, so that a start may be repeated after a crash at any point.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyvospace.db import identities, nodes
from pyvospace.db.pool import Database
from pyvospace.model.faults import AlreadyExists, DuplicateNode, InvalidArgument, NotFound
from pyvospace.model.stored import Allowance, Changes
from pyvospace.model.uris import check_name, normalise_authority
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pyvospace.config.settings import DatabaseSettings
    from pyvospace.model.callers import Caller, Scope

ADMIN = "admin"
"""Name of the administrator who owns root and /home."""
HOME = "home"
"""Container of the homes, below the root."""


_ATTEMPTS = 10
"""Starts of a creation while others keep changing users and groups."""


class WrongSpaceError(Exception):
    """The database belongs to a space of another authority."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the first steps have made."""

    user: str
    token: str | None
    """A new token of the user; None if the user was there before."""


def new_token() -> tuple[str, bytes]:
    """Make a token of 256 random bits; give it and its SHA-256, which is all that is kept."""
    # In hexadecimal: one that began with a hyphen would be an option to `vls --token`.
    token = secrets.token_hex(32)
    return token, hashlib.sha256(token.encode()).digest()


async def bootstrap(
    dsn: str, *, settings: DatabaseSettings, authority: str, group_prefixes: Sequence[str], user: str | None
) -> Bootstrap:
    """Make what a space needs, and a first user with home and token unless there is one.

    Raises
    ------
    WrongSpaceError
        The database has been set up for another authority.
    """
    database = await Database.connect(dsn, settings)
    try:
        await set_up(database, authority=authority, group_prefixes=group_prefixes)
        if user is None or not await _add_user_once(database, user):
            return Bootstrap(user or "", None)
        return Bootstrap(user, await create_token(database, user, "access.env"))
    finally:
        await database.close()


async def set_up(database: Database, *, authority: str, group_prefixes: Sequence[str]) -> None:
    """Make the space, its administrator, the root and ``/home``."""
    wanted = identities.Space(normalise_authority(authority), tuple(group_prefixes))
    await identities.make_space(database, wanted)
    there = await identities.space(database)
    if there is None or there.authority != wanted.authority:
        raise WrongSpaceError(
            f"the database belongs to the space {there.authority if there else None!r}, not {wanted.authority!r}"
        )
    if await identities.by_name(database, ADMIN) is None:
        with suppress(AlreadyExists):  # another process was quicker, or he is disabled
            await identities.add_user(database, ADMIN, password=None, admin=True)
    if admin := await identities.by_name(database, ADMIN):
        await identities.make_root(database, admin[0].id)
        await _container_once(database, ADMIN, (HOME,), Changes(public=True))


async def add_user(
    database: Database, name: str, *, password: str | None = None, admin: bool = False, home: bool = True
) -> None:
    """Add a user with a home of his own that nobody else may read.

    Raises
    ------
    AlreadyExists
        There is one of that name.
    InvalidArgument
        The name is not allowed.
    """
    check_name(name)
    await identities.add_user(database, name, password=password, admin=admin)
    if home:
        await make_home(database, name)


async def make_home(
    database: Database,
    name: str,
    *,
    parent: tuple[str, ...] = (HOME,),
    quota: int | None = None,
    by: Caller | None = None,
) -> bool:
    """Make the home of a user; False: there is one.

    Parameters
    ----------
    quota
        Bytes that there may be in it; None: any number.
    by
        Who makes it, for the audit log; None: the user himself.
    """
    changes = Changes(public=False, quota=None if quota is None else Allowance(quota))
    return await _container_once(database, name, (*parent, name), changes, by=by)


async def create_token(
    database: Database, user: str, label: str, *, expires: datetime | None = None, scope: Scope | None = None
) -> str:
    """Make a token for a user. It is not kept anywhere: show it now or never."""
    token, digest = new_token()
    await identities.add_token(database, user, label, digest, expires, scope=scope)
    return token


async def _add_user_once(database: Database, name: str) -> bool:
    try:
        await add_user(database, name)
    except AlreadyExists:
        if await identities.by_name(database, name):  # he is not disabled
            await make_home(database, name)
        return False
    return True


async def _caller(database: Database, name: str) -> Caller:
    found = await identities.by_name(database, name)
    if found is None:
        raise NotFound(f"there is no user {name!r}, or he is disabled")
    return found[0]


async def _container_once(
    database: Database, name: str, path: tuple[str, ...], changes: Changes, *, by: Caller | None = None
) -> bool:
    """Make a container that its owner could not make himself, since he may not write to its parent."""
    for _ in range(_ATTEMPTS):
        owner = await _caller(database, name)
        maker = replace(by or owner, admin=True, epoch=owner.epoch)
        try:
            made = await nodes.insert(database, maker, path, kind=NodeType.CONTAINER, changes=changes, owner=owner.id)
        except DuplicateNode:
            return False
        if made:
            return True
    raise InvalidArgument(f"/{'/'.join(path)} cannot be made: its container is missing or locked")
