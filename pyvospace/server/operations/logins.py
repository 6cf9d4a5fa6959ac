"""Tokens of users: those that they make, and those that they get for their password."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pyvospace.db import administration, identities, logins
from pyvospace.db.bootstrap import new_token
from pyvospace.model.faults import InvalidArgument, NotAuthenticated

if TYPE_CHECKING:
    from pyvospace.db.identities import TokenRow
    from pyvospace.model.callers import Caller, Scope
    from pyvospace.server.context import Context

_NAME: Final = 100
"""Characters of a token's name."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token, which is shown once."""

    id: int
    token: str
    expires: datetime | None


async def log_in(ctx: Context, caller: Caller) -> NewToken:
    """Make a token for somebody who has shown his password."""
    settings = ctx.service.settings.logins
    token, digest = new_token()
    made, expires = await administration.change(
        ctx.database,
        caller,
        lambda connection: logins.add_session(
            connection, caller.id, digest, life=settings.life, most=settings.sessions
        ),
    )
    ctx.policy.settled()
    return NewToken(made, token, expires)


async def log_out(ctx: Context) -> None:
    """End the token with which the caller comes."""
    token = ctx.caller.token_id
    if token is None:
        raise InvalidArgument("come with the token that is to end")
    await administration.change(ctx.database, ctx.caller, lambda connection: logins.end_token(connection, token))
    ctx.policy.settled()


async def tokens(ctx: Context) -> list[TokenRow]:
    """List the caller's tokens, oldest first."""
    _require_owner(ctx)
    ctx.policy.check_epoch(await identities.epoch(ctx.database))
    return await identities.tokens(ctx.database, ctx.caller.name)


async def create_token(ctx: Context, name: str, *, expires: datetime | None, scope: Scope | None) -> NewToken:
    """Make a token for the caller, which lives no longer than a token with which he comes.

    Raises
    ------
    InvalidArgument
        He has too many, this is no name, or it would have ended already.
    """
    _require_owner(ctx)
    if not name or len(name) > _NAME or not name.isprintable():
        raise InvalidArgument(f"the name of a token has 1 to {_NAME} characters, all of them printable")
    if expires is not None and expires <= datetime.now(UTC):
        raise InvalidArgument("expires: that is over already")
    token, digest = new_token()
    caller, most = ctx.caller, ctx.service.settings.logins.tokens
    made = await administration.change(
        ctx.database,
        caller,
        lambda connection: logins.add_token(
            connection, caller.id, name, digest, expires=expires, scope=scope, maker=caller.token_id, most=most
        ),
    )
    ctx.policy.settled()
    if made is None:
        raise InvalidArgument(f"you have {most} tokens, which is the most; revoke one")
    return NewToken(made[0], token, made[1])


async def revoke_token(ctx: Context, token: int) -> None:
    """Revoke a token of the caller.

    Raises
    ------
    NotFound
        He has no such token.
    """
    _require_owner(ctx)
    user = ctx.caller.name
    await administration.change(
        ctx.database, ctx.caller, lambda connection: identities.revoke_token(connection, user, token)
    )
    ctx.policy.settled()


def _require_owner(ctx: Context) -> None:
    """Require somebody who may all that he may: what a limited token may not, it cannot get by making another one."""
    if ctx.caller.anonymous:
        raise NotAuthenticated("log in to see and make tokens")
    ctx.policy.require_whole()
