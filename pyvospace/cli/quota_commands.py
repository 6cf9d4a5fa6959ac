"""Commands on quotas, allocations, and what is used and left."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyvospace.cli.completing import nodes
from pyvospace.cli.desk import ask, reaching, uri, write, write_list
from pyvospace.cli.quantities import read_size
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption, run_on_spaces
from pyvospace.cli.user_commands import quota_words
from pyvospace.model.faults import InvalidArgument

PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="Container: vos:path, /path, or its URI vos://authority/path.")
]
BytesOption = Annotated[str | None, typer.Option("--quota", metavar="SIZE", help="Bytes that there may be: 10T, 500G.")]
NodesOption = Annotated[int | None, typer.Option("--nodes", min=0, help="Nodes that there may be.")]
UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Of what this user owns.")]
GroupOption = Annotated[
    str | None, typer.Option("--group", metavar="URI", help="Of what the members of this group own together.")
]

_PANEL = "Administer a space"

_quota = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Use a space")(df)
    app.add_typer(_quota, name="quota", rich_help_panel="Use a space")
    app.command(rich_help_panel=_PANEL)(reaching(allocate))
    app.command(rich_help_panel=_PANEL)(reaching(allocations))


def container_of(reach: Reach, path: str) -> str:
    """Give a container as the service reads it; ``vos:path`` begins in a home, which only the service knows."""
    if path.startswith("/") or path[:6].lower() == "vos://":
        return path
    if path[:5].lower() == "vos:/":
        return path[4:]
    if path[:4].lower() != "vos:" or reach.at_database():
        raise InvalidArgument(f"{path!r} does not begin at the root: write /path, or a URI vos://authority/path")
    return uri(reach, path)


def _subject(reach: Reach, path: str | None, user: str | None, group: str | None) -> dict[str, str]:
    said = {"container": None if path is None else container_of(reach, path), "user": user, "group": group}
    found = {name: value for name, value in said.items() if value is not None}
    if len(found) != 1:
        raise InvalidArgument("say whose quota it is: PATH, --user NAME or --group URI")
    return found


@_quota.callback(invoke_without_command=True)
def own_quota(
    context: typer.Context,
    *,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Show what you use and may use at most; with a command: quotas of containers, users and groups."""
    if context.invoked_subcommand is not None:
        return
    from pyvospace.cli import quota_actions

    run_on_spaces(url, token, ca_file, lambda session: quota_actions.own(session, as_json=as_json))


@_quota.command("show")
@reaching
def show_quota(
    path: Annotated[str | None, PathArgument.__metadata__[0]] = None,
    *,
    user: UserOption = None,
    group: GroupOption = None,
    as_json: JsonOption = False,
    reach: Reach,
) -> None:
    """Show what is used, of how much."""
    write(ask(reach, "GET", "/admin/quota", query=_subject(reach, path, user, group)), quota_words, as_json=as_json)


@_quota.command("set")
@reaching
def set_quota(
    path: Annotated[str | None, PathArgument.__metadata__[0]] = None,
    *,
    user: UserOption = None,
    group: GroupOption = None,
    quota: BytesOption = None,
    nodes: NodesOption = None,
    as_json: JsonOption = False,
    reach: Reach,
) -> None:
    """Set a quota, in place of the one that is there. What is there already may be more: nothing more comes then."""
    if quota is None and nodes is None:
        raise InvalidArgument("say how much there may be: --quota SIZE, --nodes NUMBER or both")
    body = {"bytes": None if quota is None else read_size(quota), "nodes": nodes}
    found = ask(reach, "PUT", "/admin/quota", query=_subject(reach, path, user, group), body=body)
    write(found, quota_words, as_json=as_json)


@_quota.command("remove")
@reaching
def remove_quota(
    path: Annotated[str | None, PathArgument.__metadata__[0]] = None,
    *,
    user: UserOption = None,
    group: GroupOption = None,
    reach: Reach,
) -> None:
    """Let there be any number."""
    ask(reach, "DELETE", "/admin/quota", query=_subject(reach, path, user, group))


@_quota.command("list")
@reaching
def list_quotas(*, as_json: JsonOption = False, reach: Reach) -> None:
    """List all quotas, with what is used."""
    write_list(reach, "/admin/quotas", lambda one: f"{one['kind']}\t{one['name']}\t{quota_words(one)}", as_json=as_json)


def allocate(
    path: PathArgument,
    *,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="To whom it is to belong.")] = None,
    quota: BytesOption = None,
    nodes: NodesOption = None,
    group_read: Annotated[
        list[str] | None, typer.Option("--group-read", metavar="URI", help="Group whose members may read it.")
    ] = None,
    group_write: Annotated[
        list[str] | None, typer.Option("--group-write", metavar="URI", help="Group whose members may write to it.")
    ] = None,
    as_json: JsonOption = False,
    reach: Reach,
) -> None:
    """Make a container with an owner and a quota, or change what is said of one that is there."""
    body = {
        "path": container_of(reach, path),
        "owner": owner,
        "bytes": None if quota is None else read_size(quota),
        "nodes": nodes,
        "group_read": group_read,
        "group_write": group_write,
    }
    write(ask(reach, "POST", "/admin/allocations", body=body), _allocation, as_json=as_json)


def allocations(*, as_json: JsonOption = False, reach: Reach) -> None:
    """List the homes, and all containers with a quota of their own."""
    write_list(reach, "/admin/allocations", _allocation, as_json=as_json)


def _allocation(one: Any) -> str:
    return f"{one['uri']}\t{one['owner']}\t{quota_words(one['quota'])}"


def df(
    uris: Annotated[
        list[str] | None,
        typer.Argument(metavar="URI", autocompletion=nodes, help="Containers. Default: your home, vos:"),
    ] = None,
    *,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Show what is used in containers, their quotas, and what you may still bring there."""
    from pyvospace.cli import quota_actions

    run_on_spaces(url, token, ca_file, lambda session: quota_actions.df(session, uris or ["vos:"], as_json=as_json))
