"""Users, under which names others know them, and their tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SecretStr

from pyvospace.db import administration, identities
from pyvospace.db.administration import User
from pyvospace.db.bootstrap import new_token
from pyvospace.db.identities import IdentityRow, TokenRow
from pyvospace.db.passwords import hash_password
from pyvospace.model.callers import Scope
from pyvospace.model.faults import InvalidArgument, NotFound
from pyvospace.server.administration.routes import LIST, Body, Listed, Made, Name, Route, Text, listed
from pyvospace.server.operations import homes
from pyvospace.service.certificates import canonical_name

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context

Words = Annotated[list[Text], Field(max_length=100)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1000)]


class NewUser(Body):
    """A user who is to be."""

    name: Name
    password: Password | None = None
    admin: bool = False
    home: bool = True
    """Make his home, too."""


class UserChanges(Body):
    """What is to be changed of a user; nothing else is."""

    password: Password | None = None
    disabled: bool | None = None
    admin: bool | None = None


class NewIdentity(Body):
    """A name under which others know a user."""

    kind: Literal["oidc", "x509"]
    issuer: Text = ""
    """URL of the provider; of a certificate: none."""
    subject: Name


class NewToken(Body):
    """A token that is to be."""

    name: Name
    """What it is for."""
    days: Annotated[int, Field(ge=1, le=36500)] | None = None
    """Until it expires; None: never."""
    paths: Words = Field(default_factory=list)
    """It is good for these nodes and all below them; none: everywhere."""
    rights: Words = Field(default_factory=list)
    """Of read, write, share and admin; none: all that the user may."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A name under which others know a user."""

    id: int
    kind: str
    issuer: str
    subject: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret."""

    id: int
    name: str
    created: datetime
    expires: datetime | None
    last_used: datetime | None
    paths: list[str] | None
    """None: everywhere."""
    rights: list[str] | None
    """None: all that the user may."""


@dataclass(frozen=True, slots=True)
class TokenMade:
    """A new token. Its secret is shown this once."""

    id: int
    name: str
    token: str
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Home:
    """The home of a user."""

    uri: str


def identity(row: IdentityRow) -> Identity:
    """Tell of an identity."""
    return Identity(row.id, row.kind, row.issuer, row.subject, row.created)


def token(row: TokenRow) -> Token:
    """Tell of a token."""
    packed = row.scope.pack() if row.scope else None
    limits = (packed["paths"], packed["rights"]) if packed else (None, None)
    return Token(row.id, row.name, row.created, row.expires, row.last_used, *limits)


async def _hashed(password: SecretStr | None) -> str | None:
    return None if password is None else await asyncio.to_thread(hash_password, password.get_secret_value())


async def list_users(context: Context, asked: Asked) -> Listed[User]:
    """List users by name; `prefix`: those whose name begins so."""
    found = await administration.users(
        context.database, after=asked.after, limit=asked.limit, prefix=asked.query.get("prefix", "")
    )
    return listed(found, asked.limit, lambda one: one.name)


async def add_user(context: Context, asked: Asked) -> Made[User]:
    """Add a user, with a home that nobody else may read."""
    wanted: NewUser = asked.body
    if wanted.home:
        context.policy.require_writable()
    password = await _hashed(wanted.password)
    await administration.change(
        context.database,
        context.caller,
        lambda connection: identities.add_user(connection, wanted.name, password=password, admin=wanted.admin),
    )
    if wanted.home:
        await homes.make(context, wanted.name)
    return Made(await administration.user(context.database, wanted.name))


async def get_user(context: Context, asked: Asked) -> User:
    """Tell of a user."""
    return await administration.user(context.database, asked.names["user"])


async def change_user(context: Context, asked: Asked) -> User:
    """Change password or admin role of a user, disable him or let him in again."""
    name, wanted = asked.names["user"], asked.body
    if name == context.caller.name and (wanted.disabled or wanted.admin is False):
        raise InvalidArgument("let another administrator take that away from you")
    password = await _hashed(wanted.password)
    await administration.change(
        context.database,
        context.caller,
        lambda connection: identities.change_user(
            connection, name, password=password, disabled=wanted.disabled, admin=wanted.admin
        ),
    )
    return await administration.user(context.database, name)


async def list_identities(context: Context, asked: Asked) -> Listed[Identity]:
    """List the names under which others know a user."""
    await administration.user(context.database, asked.names["user"])
    return Listed([identity(row) for row in await identities.identities(context.database, asked.names["user"])], None)


async def link(context: Context, asked: Asked) -> Made[Identity]:
    """Let a user be known by a name to an issuer."""
    user, wanted = asked.names["user"], asked.body
    issuer, subject = _checked(wanted.kind, wanted.issuer, wanted.subject)
    await administration.change(
        context.database,
        context.caller,
        lambda connection: identities.add_identity(connection, user, wanted.kind, issuer, subject),
    )
    rows = await identities.identities(context.database, user)
    return Made(next(identity(row) for row in rows if (row.issuer, row.subject) == (issuer, subject)))


def _checked(kind: str, issuer: str, subject: str) -> tuple[str, str]:
    """Give issuer and subject as they are kept."""
    if kind == "x509":
        if issuer:
            raise InvalidArgument("issuer: a certificate is believed whoever of the trusted authorities issued it")
        return "", canonical_name(subject)
    if not issuer.startswith(("https://", "http://")):
        raise InvalidArgument("issuer: name the URL of the provider, as it writes it itself")
    return issuer, subject


async def unlink(context: Context, asked: Asked) -> None:
    """Take such a name away: whoever shows it is refused from the next request on."""
    user, number = asked.names["user"], asked.number("identity")
    await administration.change(
        context.database, context.caller, lambda connection: identities.remove_identity(connection, user, number)
    )


async def unlink_name(context: Context, asked: Asked) -> None:
    """Take such a name away by what it is."""
    user, query = asked.names["user"], asked.query
    if query.get("kind") not in {"oidc", "x509"} or not query.get("subject"):
        raise InvalidArgument("say kind (oidc or x509), issuer and subject")
    wanted = (query["kind"], *_checked(query["kind"], query.get("issuer", ""), query["subject"]))
    rows = await identities.identities(context.database, user)
    number = next((row.id for row in rows if (row.kind, row.issuer, row.subject) == wanted), None)
    if number is None:
        raise NotFound(f"that is not linked to {user!r}")
    await administration.change(
        context.database, context.caller, lambda connection: identities.remove_identity(connection, user, number)
    )


async def list_tokens(context: Context, asked: Asked) -> Listed[Token]:
    """List the tokens of a user, oldest first."""
    user = asked.names["user"]
    await administration.user(context.database, user)
    rows = await administration.tokens(context.database, user, after=asked.after_number, limit=asked.limit)
    return listed([token(row) for row in rows], asked.limit, lambda one: one.id)


async def add_token(context: Context, asked: Asked) -> Made[TokenMade]:
    """Make a token for a user."""
    user, wanted = asked.names["user"], asked.body
    if wanted.paths and not wanted.rights:
        raise InvalidArgument("rights: say what the token may at these paths")
    scope = Scope.parse(wanted.paths, wanted.rights) if wanted.rights else None
    expires = datetime.now(UTC) + timedelta(days=wanted.days) if wanted.days else None
    secret, digest = new_token()

    async def work(connection: Connection) -> int:
        return await identities.add_token(connection, user, wanted.name, digest, expires, scope=scope)

    number = await administration.change(context.database, context.caller, work)
    return Made(TokenMade(number, wanted.name, secret, expires))


async def revoke_token(context: Context, asked: Asked) -> None:
    """Revoke a token: it is refused from the next request on."""
    user, number = asked.names["user"], asked.number("token")
    await administration.change(
        context.database, context.caller, lambda connection: identities.revoke_token(connection, user, number)
    )


async def make_home(context: Context, asked: Asked) -> Made[Home] | Home:
    """Make the home of a user, unless there is one."""
    user = (await administration.user(context.database, asked.names["user"])).name
    made = await homes.make(context, user)
    home = Home(str(context.uri(homes.path_of(context, user))))
    return Made(home) if made else home


ROUTES = (
    Route("GET", "/admin/users", list_users, Listed[User], query=(*LIST, "prefix")),
    Route("POST", "/admin/users", add_user, User, NewUser),
    Route("GET", "/admin/users/{user}", get_user, User),
    Route("PATCH", "/admin/users/{user}", change_user, User, UserChanges),
    Route("PUT", "/admin/users/{user}/home", make_home, Home),
    Route("GET", "/admin/users/{user}/identities", list_identities, Listed[Identity]),
    Route("POST", "/admin/users/{user}/identities", link, Identity, NewIdentity),
    Route("DELETE", "/admin/users/{user}/identities", unlink_name, query=("kind", "issuer", "subject")),
    Route("DELETE", "/admin/users/{user}/identities/{identity}", unlink),
    Route("GET", "/admin/users/{user}/tokens", list_tokens, Listed[Token], query=LIST),
    Route("POST", "/admin/users/{user}/tokens", add_token, TokenMade, NewToken),
    Route("DELETE", "/admin/users/{user}/tokens/{token}", revoke_token),
)
