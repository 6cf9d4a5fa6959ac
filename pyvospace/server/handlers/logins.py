"""Logging in by password (SSO 2.1), and the tokens of whoever calls."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pyvospace.model.callers import Scope
from pyvospace.model.faults import InvalidArgument, NotAuthenticated, PermissionDenied
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.server.handlers.requests import TRIED, body, context, form, one, parameters, plain
from pyvospace.server.operations import logins
from pyvospace.service.auth import AUTHENTICATOR, BY_PASSWORD
from pyvospace.service.challenges import login_url
from pyvospace.service.faults import CALLER
from pyvospace.service.proxies import client_address

if TYPE_CHECKING:
    from pyvospace.db.identities import TokenRow
    from pyvospace.model.callers import Caller
    from pyvospace.server.context import Context

_SECRET: Final = {"Cache-Control": "no-store"}
_MEMBERS: Final = frozenset({"name", "expires", "days", "paths", "rights"})
"""Of the document that asks for a token."""
_MOST_DAYS: Final = 36_500
_MOST_WORDS: Final = 100
"""Paths of a token: each is looked at in each request that comes with it."""


async def log_in(request: web.Request) -> web.StreamResponse:
    """Give a token for name and password, which come as a form or by Basic."""
    ctx = context(request)
    ctx.policy.exempt()
    if login_url(ctx.service.settings) is None:
        raise PermissionDenied("passwords are taken by TLS only")
    caller = await _by_password(request, ctx)
    made = await logins.log_in(ctx, caller)
    request[CALLER] = caller.name
    response = plain(made.token)
    response.headers.update({**_SECRET, "X-VO-Bearer": made.token})
    return response


async def _by_password(request: web.Request, ctx: Context) -> Caller:
    if parameters(request):
        raise InvalidArgument("name and password do not belong into the URL: send them as a form")
    asked = await form(request) if request.method == "POST" else {}
    name, password = one(asked, "USERNAME"), one(asked, "PASSWORD")
    if name is not None and password is not None:
        request[TRIED] = name
        request.pop(CALLER, None)  # another one, if he came with a credential
        caller = await request.app[AUTHENTICATOR].by_password(name, password, client_address(request))
        return replace(caller, origin=ctx.caller.origin)
    if ctx.caller.credential == BY_PASSWORD:
        return ctx.caller
    raise (NotAuthenticated if ctx.caller.anonymous else InvalidArgument)(
        "send username and password, as a form or by Basic"
    )


async def log_out(request: web.Request) -> web.StreamResponse:
    """End the token with which the request comes."""
    await logins.log_out(context(request))
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def tokens(request: web.Request) -> web.StreamResponse:
    """List the tokens of the caller."""
    found = await logins.tokens(context(request))
    return web.json_response({"items": [_token(one) for one in found], "next": None}, headers=_SECRET)


async def create_token(request: web.Request) -> web.StreamResponse:
    """Make a token for the caller, as a JSON document says; it is shown only this once."""
    asked = _document(await body(request))
    name = _text(asked, "name")
    made = await logins.create_token(context(request), name, expires=_expires(asked), scope=_scope(asked))
    return web.json_response(
        {
            "id": made.id,
            "name": name,
            "token": made.token,
            "expires": write_instant(made.expires) if made.expires else None,
        },
        status=HTTPStatus.CREATED,
        headers=_SECRET,
    )


async def revoke_token(request: web.Request) -> web.StreamResponse:
    """Revoke a token of the caller."""
    await logins.revoke_token(context(request), int(request.match_info["token"]))
    return web.Response(status=HTTPStatus.NO_CONTENT)


def _token(row: TokenRow) -> dict[str, object]:
    """Give what is told of a token; with null for paths and rights it may all that its user may."""
    return {
        "id": row.id,
        "name": row.name,
        "created": write_instant(row.created),
        "expires": write_instant(row.expires) if row.expires else None,
        "last_used": write_instant(row.last_used) if row.last_used else None,
        **(row.scope.pack() if row.scope else {"paths": None, "rights": None}),
    }


def _document(read: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(read)
    except (ValueError, RecursionError):
        raise InvalidArgument("the document is no JSON") from None
    if not isinstance(asked, dict) or set(asked) - _MEMBERS:
        raise InvalidArgument(f"a token is asked for by an object with {', '.join(sorted(_MEMBERS))}")
    return asked


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} is to be text")
    return value


def _words(asked: dict[str, Any], name: str) -> list[str]:
    value = asked.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MOST_WORDS or not all(isinstance(one, str) for one in value):
        raise InvalidArgument(f"{name} is to be a list of up to {_MOST_WORDS} texts")
    return value


def _expires(asked: dict[str, Any]) -> datetime | None:
    """Read until when the token is good: `expires`, an instant, or how many `days`; neither: for ever."""
    days = asked.get("days")
    if days is None:
        return read_instant(_text(asked, "expires")) if asked.get("expires") is not None else None
    if asked.get("expires") is not None:
        raise InvalidArgument("give expires or days")
    if isinstance(days, bool) or not isinstance(days, int) or not 0 < days <= _MOST_DAYS:
        raise InvalidArgument(f"days is a number up to {_MOST_DAYS}")
    return datetime.now(UTC) + timedelta(days=days)


def _scope(asked: dict[str, Any]) -> Scope | None:
    paths, rights = _words(asked, "paths"), _words(asked, "rights")
    return Scope.parse(paths, rights) if paths or rights else None
