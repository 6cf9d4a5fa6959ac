"""Commands on policies of containers."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from pyvospace.cli.desk import ask, reaching, write, write_list
from pyvospace.cli.quota_commands import PathArgument, container_of
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import JsonOption
from pyvospace.model.faults import InvalidArgument

_PANEL: Final = "Administer a space"
_NAMES: Final = ("label", "replicas", "versions", "trash_days", "tier_days")

_policies = typer.Typer(
    no_args_is_help=True, help="What is done with the bytes of containers: where they go, what is kept."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_policies, name="policies", rich_help_panel=_PANEL)


@_policies.command("list")
@reaching
def list_policies(*, as_json: JsonOption = False, reach: Reach) -> None:
    """List containers that have a policy of their own (administrators)."""
    write_list(reach, "/admin/policies", _own, as_json=as_json)


def _own(one: Any) -> str:
    return "\t".join([one["uri"], *(f"{_word(name)}={one[name]}" for name in _NAMES if one[name] is not None)])


def _word(name: str) -> str:
    return name.replace("_", "-")


@_policies.command("show")
@reaching
def show_policy(path: PathArgument, *, as_json: JsonOption = False, reach: Reach) -> None:
    """Show what holds for a container, and which container says so."""
    write(ask(reach, "GET", "/policy", query={"container": container_of(reach, path)}), _shown, as_json=as_json)


def _shown(found: Any) -> str:
    return "\n".join(f"{_word(name)}\t{found[name]['value']}\t{found[name]['source']}" for name in _NAMES)


@_policies.command("set")
@reaching
def set_policy(
    path: PathArgument,
    *,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="New bytes go to storages with this label; '': to any.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Copies of bytes, the first included.")] = None,
    versions: Annotated[int | None, typer.Option(help="Older contents that a data node keeps.")] = None,
    trash_days: Annotated[
        int | None, typer.Option(help="Days for which deleted nodes can be restored; 0: they are gone at once.")
    ] = None,
    tier_days: Annotated[
        int | None, typer.Option(help="Days after which bytes go to a cold storage; 0: never.")
    ] = None,
    inherit: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave this to the container above: trash-days.")
    ] = None,
    as_json: JsonOption = False,
    reach: Reach,
) -> None:
    """Change the policy of a container; what is not named stays.

    The owner of a container may set --versions and --trash-days, an administrator everything.
    """
    given = (label, replicas, versions, trash_days, tier_days)
    body: dict[str, object] = {name: value for name, value in zip(_NAMES, given, strict=True) if value is not None}
    for word in inherit or ():
        name = word.replace("-", "_")
        if name not in _NAMES:
            raise InvalidArgument(f"--inherit: {word!r} is none of {', '.join(map(_word, _NAMES))}")
        body[name] = None
    if not body:
        raise InvalidArgument("say what is to be changed")
    found = ask(reach, "PATCH", "/policy", query={"container": container_of(reach, path)}, body=body)
    write(found, _shown, as_json=as_json)


@_policies.command("remove")
@reaching
def remove_policy(path: PathArgument, *, reach: Reach) -> None:
    """Take back all that a container says itself."""
    ask(reach, "DELETE", "/policy", query={"container": container_of(reach, path)})
