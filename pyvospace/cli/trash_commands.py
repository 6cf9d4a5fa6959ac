"""Commands on the trash: what was deleted and can be restored."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyvospace.cli.desk import ask, reaching, write, write_list
from pyvospace.cli.quantities import write_size
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import JsonOption

Entry = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the entry, from `trash list`.")]

_trash = typer.Typer(no_args_is_help=True, help="What you have deleted, where a policy keeps it for some days.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_trash, name="trash", rich_help_panel="Use a space")


@_trash.command("list")
@reaching
def list_trash(*, as_json: JsonOption = False, reach: Reach) -> None:
    """List what you have deleted and what was yours, the newest first; to administrators everything."""
    write_list(reach, "/trash", _line, as_json=as_json)


def _line(one: Any) -> str:
    size = f"{write_size(one['bytes'])} in {one['nodes']}"
    return f"{one['id']}\t{one['uri']}\t{size}\t{one['deleted'][:19]}\tuntil {one['until'][:19]}"


@_trash.command("restore")
@reaching
def restore(
    entry: Entry,
    to: Annotated[
        str | None, typer.Argument(metavar="[TO]", help="A container, or a new name: vos:path. Default: where it was.")
    ] = None,
    *,
    as_json: JsonOption = False,
    reach: Reach,
) -> None:
    """Put what was deleted back, with all that was below it."""
    from pyvospace.cli.quota_commands import container_of

    body = {} if to is None else {"to": container_of(reach, to)}
    write(ask(reach, "POST", f"/trash/{entry}", body=body), lambda found: str(found["uri"]), as_json=as_json)


@_trash.command("purge")
@reaching
def purge(entry: Entry, *, reach: Reach) -> None:
    """Remove what was deleted for ever, at once: this makes room in your quota."""
    ask(reach, "DELETE", f"/trash/{entry}")
