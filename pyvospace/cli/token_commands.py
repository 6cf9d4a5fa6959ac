"""Commands for API tokens: everybody's own by the service, and anybody's by an administrator (see `reach`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pyvospace.cli.reach import ConfigOption, DataOption, Reach, with_database
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption
from pyvospace.model.callers import Scope
from pyvospace.model.faults import InvalidArgument

if TYPE_CHECKING:
    from pyvospace.client.tokens import Tokens
    from pyvospace.db.identities import TokenRow

T = TypeVar("T")

OwnerName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Whose; default: your own, which the service knows.")
]
RightsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="RIGHT", help="read, write, share or admin; again for more. Default: all that the user may."),
]
_PANEL = "Administer a space"
_MOST = 2

_token = typer.Typer(no_args_is_help=True, help="API tokens: your own, or as administrator those of others.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_token, name="token", rich_help_panel=_PANEL)


@dataclass(frozen=True, slots=True)
class _Where:
    """How the options of a command lead to tokens."""

    config: Path | None
    data: Path | None
    url: str | None
    token: str | None
    ca_file: Path | None

    def at_database(self, name: str | None) -> bool:
        """Say whether to reach the database, which knows no caller: there a name is needed."""
        found = Reach(self.config, self.data, self.url, self.token, self.ca_file).at_database()
        if found and name is None:
            raise InvalidArgument("say whose token: NAME; or name a service (--url, VOSPACE_URL) for your own")
        return found

    def ask(self, work: Callable[[Tokens], Awaitable[T]]) -> T:
        """Do something at the service."""
        from pyvospace.client.access import Access, find_spaces
        from pyvospace.client.tokens import Tokens

        access = find_spaces(Access(url=self.url, token=self.token, ca_file=self.ca_file)).default

        async def run() -> T:
            async with Tokens.of(access) as tokens:
                return await work(tokens)

        return asyncio.run(run())


@_token.command("create")
def create_token(
    name: OwnerName = None,
    *,
    label: Annotated[str, typer.Option(help="What the token is for.")] = "command line",
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until it expires; default: never.")] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="The token is good for this node and all below it; again for more of them."),
    ] = None,
    right: RightsOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Make a token and print it, and nothing else. It is shown only this once."""
    where = _Where(config, data, url, token, ca_file)
    paths, rights = path or [], right or []
    scope = Scope.parse(paths, rights) if paths or rights else None
    if where.at_database(name):
        from pyvospace.db import bootstrap

        owner, expires = name or "", datetime.now(UTC) + timedelta(days=days) if days else None
        made = with_database(
            config, data, lambda db: bootstrap.create_token(db, owner, label, expires=expires, scope=scope)
        )
    else:
        made = where.ask(lambda tokens: tokens.create(name, label, days=days, paths=paths, rights=rights))
    typer.echo(json.dumps({"token": made}) if as_json else made)


@_token.command("list")
def list_tokens(
    name: OwnerName = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """List tokens: number, creation, expiry, last use, label, and what they are limited to."""
    where = _Where(config, data, url, token, ca_file)
    if where.at_database(name):
        from pyvospace.db import identities

        rows = with_database(config, data, lambda db: identities.tokens(db, name or ""))
        found = [_described(row) for row in rows]
    else:

        async def every(tokens: Tokens) -> list[dict[str, Any]]:
            return [one async for one in tokens.every(name)]

        found = where.ask(every)
    for one in found:
        typer.echo(json.dumps(one) if as_json else _line(one))


@_token.command("revoke")
def revoke_token(
    words: Annotated[
        list[str], typer.Argument(metavar="[NAME] NUMBER", help="Whose, if not your own; number, from `token list`.")
    ],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Revoke a token: it is refused from the next request on."""
    if len(words) > _MOST or not words[-1].isascii() or not words[-1].isdecimal():
        raise InvalidArgument("name one token: [NAME] NUMBER")
    name, number = (words[0] if len(words) == _MOST else None), int(words[-1])
    where = _Where(config, data, url, token, ca_file)
    if where.at_database(name):
        from pyvospace.db import identities

        with_database(config, data, lambda db: identities.revoke_token(db, name or "", number))
    else:
        where.ask(lambda tokens: tokens.revoke(name, number))


def _described(row: TokenRow) -> dict[str, Any]:
    """Describe a token as the service does."""
    times = {
        name: instant.isoformat(timespec="seconds") if instant else None
        for name, instant in (("created", row.created), ("expires", row.expires), ("last_used", row.last_used))
    }
    return {
        "id": row.id,
        "name": row.name,
        **times,
        **(row.scope.pack() if row.scope else {"paths": None, "rights": None}),
    }


def _line(one: dict[str, Any]) -> str:
    from pyvospace.cli.session import printable

    shown = (
        one["id"],
        one["created"],
        one["expires"] or "never",
        one["last_used"] or "unused",
        one["name"],
        limits_of(one),
    )
    return "\t".join(printable(str(word)) for word in shown)


def limits_of(one: dict[str, Any]) -> str:
    """Say what a token or a key is limited to."""
    return f"{','.join(one['rights'])} {' '.join(one['paths'])}" if one["rights"] else "everything"
