"""Commands for SSH keys: everybody's own by the service, and anybody's by an administrator (see `reach`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pyvospace.cli.reach import ConfigOption, DataOption, Reach, with_database
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption
from pyvospace.cli.token_commands import RightsOption, limits_of
from pyvospace.model.callers import Scope
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.ssh_keys import fingerprint

if TYPE_CHECKING:
    from pyvospace.client.keys import Keys
    from pyvospace.db.ssh_keys import KeyRow

T = TypeVar("T")

_keys = typer.Typer(no_args_is_help=True, help="SSH keys for the SFTP door: your own, or those of others.")
_UserOption = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="Whose; default: your own, which the service knows.")
]
_NUMBER = Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="From `keys list`.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_keys, name="keys", rich_help_panel="Administer a space")


def _at_database(where: Reach, user: str | None) -> bool:
    found = where.at_database()
    if found and user is None:
        raise InvalidArgument("say whose key: --user NAME; or name a service (--url, VOSPACE_URL) for your own")
    return found


def _ask(where: Reach, work: Callable[[Keys], Awaitable[T]]) -> T:
    from pyvospace.client.access import Access, find_spaces
    from pyvospace.client.keys import Keys

    access = find_spaces(Access(url=where.url, token=where.token, ca_file=where.ca_file)).default

    async def run() -> T:
        async with Keys.of(access) as keys:
            return await work(keys)

    return asyncio.run(run())


@_keys.command("add")
def add_key(
    file: Annotated[Path, typer.Argument(help="Public key, as ~/.ssh/id_ed25519.pub.")],
    *,
    label: Annotated[str | None, typer.Option(help="What you call it; default: the comment of the key.")] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Sessions are good for this node and all below it; again for more of them."),
    ] = None,
    right: RightsOption = None,
    as_json: JsonOption = False,
    user: _UserOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Let an SSH key speak for you at the SFTP door."""
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    print_of, name = fingerprint(text), label or " ".join(text.split()[2:])[:100] or file.name
    paths, rights = path or [], right or []
    scope = Scope.parse(paths, rights) if paths or rights else None
    where = Reach(config, data, url, token, ca_file)
    if _at_database(where, user):
        from pyvospace.db import ssh_keys

        with_database(config, data, lambda db: ssh_keys.add(db, user or "", name, print_of, scope=scope))
    else:
        _ask(where, lambda keys: keys.add(user, name, text, paths=paths, rights=rights))
    typer.echo(json.dumps({"fingerprint": print_of}) if as_json else print_of)


@_keys.command("list")
def list_keys(
    *,
    as_json: JsonOption = False,
    user: _UserOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """List SSH keys: number, fingerprint, creation, last use, name, and what they are limited to."""
    where = Reach(config, data, url, token, ca_file)
    if _at_database(where, user):
        from pyvospace.db import ssh_keys

        found = [_described(row) for row in with_database(config, data, lambda db: ssh_keys.of_user(db, user or ""))]
    else:
        found = _ask(where, lambda keys: keys.every(user))
    for one in found:
        typer.echo(json.dumps(one) if as_json else _line(one))


@_keys.command("remove")
def remove_key(
    number: _NUMBER,
    *,
    user: _UserOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Let an SSH key speak for nobody; sessions that it has opened may nothing any more."""
    where = Reach(config, data, url, token, ca_file)
    if _at_database(where, user):
        from pyvospace.db import ssh_keys

        with_database(config, data, lambda db: ssh_keys.remove(db, user or "", number))
    else:
        _ask(where, lambda keys: keys.remove(user, number))


def _described(row: KeyRow) -> dict[str, Any]:
    """Describe a key as the service does."""
    last_used = row.last_used.isoformat(timespec="seconds") if row.last_used else None
    return {
        "id": row.id,
        "name": row.name,
        "fingerprint": row.fingerprint,
        "created": row.created.isoformat(timespec="seconds"),
        "last_used": last_used,
        **(row.scope.pack() if row.scope else {"paths": None, "rights": None}),
    }


def _line(one: dict[str, Any]) -> str:
    from pyvospace.cli.session import printable

    shown = (one["id"], one["fingerprint"], one["created"], one["last_used"] or "unused", one["name"], limits_of(one))
    return "\t".join(printable(str(word)) for word in shown)
