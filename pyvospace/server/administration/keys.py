"""SSH keys of users: one's own, and as an administrator those of others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field

from pyvospace.db import administration, ssh_keys
from pyvospace.db.ssh_keys import KeyRow
from pyvospace.model.callers import Scope
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.ssh_keys import fingerprint
from pyvospace.server.administration.routes import Body, Listed, Made, Name, Needs, Route, Text
from pyvospace.server.administration.users import Words

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context


class NewKey(Body):
    """A key that is to speak for its user."""

    name: Name
    """What the user calls it."""
    key: Text
    """As OpenSSH writes it: kind, key, and a comment that is not kept."""
    paths: Words = Field(default_factory=list)
    """Sessions are good for these nodes and all below them; none: everywhere."""
    rights: Words = Field(default_factory=list)
    """Of read, write, share and admin; none: all that the user may."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key."""

    id: int
    name: str
    fingerprint: str
    created: datetime
    last_used: datetime | None
    paths: list[str] | None
    """None: everywhere."""
    rights: list[str] | None
    """None: all that the user may."""


def _key(row: KeyRow) -> Key:
    packed = row.scope.pack() if row.scope else None
    limits = (packed["paths"], packed["rights"]) if packed else (None, None)
    return Key(row.id, row.name, row.fingerprint, row.created, row.last_used, *limits)


def _user(context: Context, asked: Asked) -> str:
    return asked.names.get("user") or context.caller.name


async def list_keys(context: Context, asked: Asked) -> Listed[Key]:
    """List the SSH keys of a user, oldest first."""
    user = _user(context, asked)
    await administration.user(context.database, user)
    return Listed([_key(row) for row in await ssh_keys.of_user(context.database, user)], None)


async def add_key(context: Context, asked: Asked) -> Made[Key]:
    """Let an SSH key speak for a user at the SFTP door."""
    user, wanted = _user(context, asked), asked.body
    if wanted.paths and not wanted.rights:
        raise InvalidArgument("rights: say what sessions with the key may at these paths")
    scope = Scope.parse(wanted.paths, wanted.rights) if wanted.rights else None
    print_of = fingerprint(wanted.key)

    async def work(connection: Connection) -> int:
        return await ssh_keys.add(connection, user, wanted.name, print_of, scope=scope)

    number = await administration.change(context.database, context.caller, work)
    return Made(next(_key(row) for row in await ssh_keys.of_user(context.database, user) if row.id == number))


async def remove_key(context: Context, asked: Asked) -> None:
    """Let an SSH key speak for a user no more: sessions that it has opened may nothing from the next request on."""
    user, number = _user(context, asked), asked.number("key")
    await administration.change(
        context.database, context.caller, lambda connection: ssh_keys.remove(connection, user, number)
    )


async def list_own_keys(context: Context, asked: Asked) -> Listed[Key]:
    """List the caller's SSH keys, oldest first."""
    return await list_keys(context, asked)


async def add_own_key(context: Context, asked: Asked) -> Made[Key]:
    """Let an SSH key speak for the caller at the SFTP door."""
    return await add_key(context, asked)


async def remove_own_key(context: Context, asked: Asked) -> None:
    """Let an SSH key speak for the caller no more."""
    await remove_key(context, asked)


ROUTES = (
    Route("GET", "/profile/keys", list_own_keys, Listed[Key], needs=Needs.USER),
    Route("POST", "/profile/keys", add_own_key, Key, NewKey, needs=Needs.USER),
    Route("DELETE", "/profile/keys/{key}", remove_own_key, needs=Needs.USER),
    Route("GET", "/admin/users/{user}/keys", list_keys, Listed[Key]),
    Route("POST", "/admin/users/{user}/keys", add_key, Key, NewKey),
    Route("DELETE", "/admin/users/{user}/keys/{key}", remove_key),
)
