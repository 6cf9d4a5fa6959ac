"""Commands of the administrator: users, groups, the state. They reach the database, not the service."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pyvospace.cli.reach import ConfigOption, DataOption, with_database
from pyvospace.model.faults import InvalidArgument

if TYPE_CHECKING:
    from pyvospace.db.pool import Database
    from pyvospace.model.vosi import Standing

JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]
PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read a password from standard input, for Basic authentication.")
]
UserName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")]
GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="Name of the group.")]

_PANEL = "Administer a space"

_user = typer.Typer(no_args_is_help=True, help="Users.")
_group = typer.Typer(no_args_is_help=True, help="Local groups.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, commands in (("user", _user), ("group", _group)):
        app.add_typer(commands, name=name, rich_help_panel=_PANEL)
    app.command("state", rich_help_panel=_PANEL)(state)


def _password(wanted: bool) -> str | None:
    if not wanted:
        return None
    from pyvospace.db.passwords import hash_password

    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise InvalidArgument("no password came on standard input")
    return hash_password(password)


@_user.command("add")
def add_user(
    name: UserName,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    password_stdin: PasswordOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Add a user with a home that nobody else may read."""
    from pyvospace.db import bootstrap

    password = _password(password_stdin)
    with_database(config, data, lambda db: bootstrap.add_user(db, name, password=password, admin=admin))


@_user.command("password")
def set_password(name: UserName, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Set the password of a user, read from standard input."""
    from pyvospace.db import identities

    password = _password(True)
    with_database(config, data, lambda db: identities.change_user(db, name, password=password))


@_user.command("disable")
def disable_user(name: UserName, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Refuse every credential and endpoint of a user, from now on."""
    from pyvospace.db import identities

    with_database(config, data, lambda db: identities.change_user(db, name, disabled=True))


@_user.command("enable")
def enable_user(name: UserName, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Let a disabled user in again."""
    from pyvospace.db import identities

    with_database(config, data, lambda db: identities.change_user(db, name, disabled=False))


@_user.command("list")
def list_users(*, as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """List the users."""
    from pyvospace.db import identities

    for user in with_database(config, data, identities.users):
        if as_json:
            typer.echo(json.dumps({name: getattr(user, name) for name in user.__slots__}))
        else:
            marks = [
                mark
                for mark, true in (("admin", user.admin), ("disabled", user.disabled), ("password", user.has_password))
                if true
            ]
            typer.echo(" ".join([user.name, *marks]))


@_group.command("add")
def add_group(name: GroupName, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Add a local group."""
    from pyvospace.db import identities

    with_database(config, data, lambda db: identities.add_group(db, name))


@_group.command("remove")
def remove_group(name: GroupName, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Remove a group; what it was allowed nobody is allowed by it any more."""
    from pyvospace.db import identities

    with_database(config, data, lambda db: identities.remove_group(db, name))


@_group.command("join")
def join(name: GroupName, user: UserName, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Add a user to a group."""
    from pyvospace.db import identities

    with_database(config, data, lambda db: identities.change_member(db, name, user, add=True))


@_group.command("leave")
def leave(name: GroupName, user: UserName, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Take a user out of a group."""
    from pyvospace.db import identities

    with_database(config, data, lambda db: identities.change_member(db, name, user, add=False))


@_group.command("list")
def list_groups(*, as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """List the groups with the URI by which nodes name them, and their members."""
    from pyvospace.db import identities

    async def work(database: Database) -> tuple[str, list[tuple[str, list[str]]]]:
        space = await identities.space(database)
        return (space.group_prefixes[0] if space else ""), await identities.groups(database)

    prefix, found = with_database(config, data, work)
    for name, members in found:
        if as_json:
            typer.echo(json.dumps({"name": name, "uri": prefix + name, "members": members}))
        else:
            typer.echo(f"{prefix}{name}\t{' '.join(members)}")


def state(
    wanted: Annotated[
        str | None, typer.Argument(metavar="[read-write|read-only|offline]", help="New state; default: show it.")
    ] = None,
    *,
    note: Annotated[str, typer.Option(help="What /availability and whoever is refused will say.")] = "",
    down_at: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="When the service will go down, such as 2026-03-01T09:00:00Z.")
    ] = None,
    back_at: Annotated[str | None, typer.Option(metavar="INSTANT", help="When it will be back.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show or set the state of the service. A new state replaces note and times; every process follows at once."""
    from pyvospace.db import state as rows
    from pyvospace.model.instants import read_instant
    from pyvospace.model.vosi import Standing, State

    down, back = (read_instant(word) if word else None for word in (down_at, back_at))
    standing = Standing(State.parse(wanted), note, down, back) if wanted else None
    if standing is None and (note or down or back):
        raise InvalidArgument("a note and times belong to a state: name it")

    async def work(database: Database) -> Standing:
        if standing:
            await rows.turn(database, standing)
        return await rows.standing(database)

    _show_state(with_database(config, data, work), as_json=as_json)


def _show_state(standing: Standing, *, as_json: bool) -> None:
    from pyvospace.model.instants import write_instant

    times = {
        name: write_instant(instant)
        for name, instant in (("downAt", standing.down_at), ("backAt", standing.back_at))
        if instant
    }
    if as_json:
        typer.echo(json.dumps({"state": standing.state, "note": standing.note, **times}))
    else:
        typer.echo("\t".join([standing.state.word, *(f"{name}={when}" for name, when in times.items()), standing.note]))
