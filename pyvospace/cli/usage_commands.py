"""The command that compares what is counted with what is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pyvospace.cli.reach import ConfigOption, DataOption, with_database

if TYPE_CHECKING:
    from pyvospace.db.usage import Miscount


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("usage", rich_help_panel="Administer a space")(usage)


def usage(
    *,
    repair: Annotated[bool, typer.Option("--repair/--check", help="Correct what is wrong, or only tell.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Compare what is counted of containers and users with the sum of the tree. Exit code 1: something was wrong."""
    from pyvospace.db.usage import check_usage, repair_usage

    found = with_database(config, data, repair_usage if repair else check_usage)
    for one in found:
        typer.echo(json.dumps(_fields(one)) if as_json else _line(one))
    if found:
        raise typer.Exit(1)


def _fields(one: Miscount) -> dict[str, object]:
    return {
        "container" if one.of_container else "user": one.id,
        "counted": {"bytes": one.counted.bytes, "nodes": one.counted.nodes},
        "real": {"bytes": one.real.bytes, "nodes": one.real.nodes},
    }


def _line(one: Miscount) -> str:
    return (
        f"{'container' if one.of_container else 'user'} {one.id}\t"
        f"{one.counted.bytes} bytes, {one.counted.nodes} nodes are counted\t"
        f"{one.real.bytes} bytes, {one.real.nodes} nodes are there"
    )
