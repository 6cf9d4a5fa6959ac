"""Commands on local groups: for administrators, and for users who own some."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyvospace.cli.desk import Desk, ask, at_desk, place, reaching, write_list
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import JsonOption
from pyvospace.model.faults import AlreadyExists, NotFound

GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="Name of the group.")]
UserName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")]

_group = typer.Typer(no_args_is_help=True, help="Local groups: all of them, or your own.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="group", rich_help_panel="Administer a space")


def _at(name: str, more: str = "") -> str:
    return f"/groups/{place(name)}{more}"


@_group.command("add")
@reaching
def add_group(
    name: GroupName,
    *,
    owner: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who may change its members. Default: you, or only administrators."),
    ] = None,
    reach: Reach,
) -> None:
    """Add a local group."""

    async def work(desk: Desk) -> None:
        try:
            await desk.ask("GET", _at(name))
        except NotFound:
            await desk.ask("PUT", _at(name), body={"owner": owner})
        else:
            raise AlreadyExists(f"there is a group {name!r} already")

    at_desk(reach, work)


@_group.command("give")
@reaching
def give_group(name: GroupName, user: UserName, *, reach: Reach) -> None:
    """Hand a group on to another owner."""

    async def work(desk: Desk) -> None:
        await desk.ask("GET", _at(name))
        await desk.ask("PUT", _at(name), body={"owner": user})

    at_desk(reach, work)


@_group.command("remove")
@reaching
def remove_group(name: GroupName, *, reach: Reach) -> None:
    """Remove a group; what it was allowed nobody is allowed by it any more."""
    ask(reach, "DELETE", _at(name))


@_group.command("join")
@reaching
def join(name: GroupName, user: UserName, *, reach: Reach) -> None:
    """Add a user to a group."""
    ask(reach, "PUT", _at(name, f"/members/{place(user)}"))


@_group.command("leave")
@reaching
def leave(name: GroupName, user: UserName, *, reach: Reach) -> None:
    """Take a user out of a group; yourself also if it is not yours."""
    ask(reach, "DELETE", _at(name, f"/members/{place(user)}"))


@_group.command("members")
@reaching
def list_members(name: GroupName, *, as_json: JsonOption = False, reach: Reach) -> None:
    """Name the members of a group that you own."""
    write_list(reach, _at(name, "/members"), lambda one: str(one["user"]), as_json=as_json)


@_group.command("list")
@reaching
def list_groups(
    *,
    every: Annotated[bool, typer.Option("--all", help="All groups, in place of your own; for administrators.")] = False,
    as_json: JsonOption = False,
    reach: Reach,
) -> None:
    """List the groups that you own or are in: the URI by which nodes name each, its owner, how many are in it.

    At the database these are all groups.
    """
    everybody = every or reach.at_database()
    write_list(reach, "/admin/groups" if everybody else "/groups", _line, as_json=as_json)


def _line(group: Any) -> str:
    members = "" if group["members"] is None else f"\t{group['members']} members"
    return f"{group['uri']}\t{group['owner'] or '-'}{members}"
