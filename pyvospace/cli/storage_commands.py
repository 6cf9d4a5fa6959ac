"""Commands on the places of bytes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyvospace.cli.desk import ask, reaching, write, write_list
from pyvospace.cli.quantities import write_size
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import JsonOption

Storage = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the storage, from `storages list`.")]

_storages = typer.Typer(no_args_is_help=True, help="Places of bytes, as the catalogue knows them.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_storages, name="storages", rich_help_panel="Administer a space")


@_storages.command("list")
@reaching
def list_storages(*, as_json: JsonOption = False, reach: Reach) -> None:
    """List storages: number, name, URL, state, labels, what is free, when each was last heard of."""
    write_list(reach, "/admin/storages", _line, as_json=as_json)


def _line(one: Any) -> str:
    labels = " ".join([*one["labels"], *(["cold"] if one["cold"] else [])]) or "-"
    free = "-" if one["free"] is None else write_size(one["free"])
    heard = "there" if one["live"] else f"silent since {one['last_seen'][:19]}"
    return f"{one['id']}\t{one['name']}\t{one['url']}\t{one['state']}\t{labels}\t{free}\t{heard}"


@_storages.command("show")
@reaching
def show_storage(storage: Storage, *, as_json: JsonOption = False, reach: Reach) -> None:
    """Show one storage: its servers, what it keeps, and what is still to be moved away or copied to it."""
    write(ask(reach, "GET", f"/admin/storages/{storage}"), _details, as_json=as_json)


def _details(found: Any) -> str:
    held = found["holdings"]
    servers = [
        f"server\t{one['url']}\t{one['site'] or '-'}\t{one['busy']} transfers\t"
        + ("there" if one["live"] else f"silent since {one['last_seen'][:19]}")
        for one in found["servers"]
    ]
    kept = [
        f"{name}\t{held[name]}\t{write_size(held[size])}"
        for name, size in (("homes", "home_bytes"), ("versions", "version_bytes"), ("copies", "copy_bytes"))
    ]
    way = [
        f"to move\t{held['to_move']}",
        f"to copy here\t{held['waiting']}\t{held['under_way']} under way, {write_size(held['bytes_done'])} done",
        *([f"failing\t{held['failing']}\t{held['message']}"] if held["failing"] else []),
        f"damaged\t{held['damaged']}",
    ]
    return "\n".join([_line(found["storage"]), *servers, *kept, *way])


@_storages.command("rename")
@reaching
def rename_storage(storage: Storage, name: Annotated[str, typer.Argument(metavar="NAME")], *, reach: Reach) -> None:
    """Call a storage something else, until it starts and says what its name is."""
    ask(reach, "PATCH", f"/admin/storages/{storage}", body={"name": name})


@_storages.command("drain")
@reaching
def drain_storage(storage: Storage, *, reach: Reach) -> None:
    """Give a storage no new bytes, and have those that are there moved elsewhere."""
    ask(reach, "PATCH", f"/admin/storages/{storage}", body={"state": "draining"})


@_storages.command("activate")
@reaching
def activate_storage(storage: Storage, *, reach: Reach) -> None:
    """Let a storage that was drained or retired take bytes again."""
    ask(reach, "PATCH", f"/admin/storages/{storage}", body={"state": "active"})


@_storages.command("retire")
@reaching
def retire_storage(storage: Storage, *, reach: Reach) -> None:
    """Ask a storage for nothing any more; it is refused while bytes are there that are nowhere else."""
    ask(reach, "PATCH", f"/admin/storages/{storage}", body={"state": "retired"})


@_storages.command("forget")
@reaching
def forget_storage(storage: Storage, *, reach: Reach) -> None:
    """Forget a storage that is gone and keeps no bytes."""
    ask(reach, "DELETE", f"/admin/storages/{storage}")
