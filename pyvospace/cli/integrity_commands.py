"""The command that compares a space with itself: its catalogue, and the bytes of its stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from pyvospace.cli.desk import printable_lines
from pyvospace.cli.reach import ConfigOption, DataOption, operator, with_database
from pyvospace.model.faults import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pyvospace.db.pool import Database
    from pyvospace.model.integrity import Finding
    from pyvospace.supervisor.integrity import Task


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fsck", rich_help_panel="Administer a space")(fsck)


def fsck(
    *,
    storage: Annotated[
        bool, typer.Option("--storage", help="Compare a store with the catalogue, on the machine of its server.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; delete what nobody names.")
    ] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="With --storage: put aside what nobody names, instead of deleting it.")
    ] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="With --storage: read again what is damaged; serve it if it is good.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, a finding a line.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write nothing: only the exit code tells.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Look for damage in the catalogue, or in a store; change nothing unless told to. Exit code 1: there is some."""
    if repair + quarantine + clear > 1:
        raise InvalidArgument("--repair, --quarantine and --clear exclude each other")
    if (quarantine or clear) and not storage:
        raise InvalidArgument("--quarantine and --clear are for a store: add --storage")

    tell = _teller(as_json=as_json, quiet=quiet)
    if storage:
        task: Task = "repair" if repair else "quarantine" if quarantine else "clear" if clear else "none"
        number = asyncio.run(_each(_of_store(config, data, task), tell))
    else:
        found, known = with_database(config, data, _of_catalogue(repair=repair))
        for one in found:
            tell(one)
        number = len(found)
        if known and not quiet:
            typer.echo(f"pyvospace: {known} places of bytes are known to be damaged and are not served", err=True)
    if number:
        raise typer.Exit(1)


def _teller(*, as_json: bool, quiet: bool) -> Callable[[Finding], None]:
    def tell(finding: Finding) -> None:
        if not quiet:
            typer.echo(json.dumps(finding.fields(), ensure_ascii=False) if as_json else _line(finding))

    return tell


def _of_catalogue(*, repair: bool) -> Callable[[Database], Awaitable[tuple[list[Finding], int]]]:
    from pyvospace.db.integrity import check_catalogue, known_damages

    async def work(database: Database) -> tuple[list[Finding], int]:
        return await check_catalogue(database, repair=repair), await known_damages(database)

    return work


def _of_store(config: Path | None, data: Path | None, task: Task) -> AsyncIterator[Finding]:
    from pyvospace.supervisor.integrity import check_store

    return check_store(config, data, task=task, acting=operator())


async def _each(findings: AsyncIterator[Finding], tell: Callable[[Finding], None]) -> int:
    number = 0
    async for one in findings:
        tell(one)
        number += 1
    return number


def _line(one: Finding) -> str:
    words = [one.kind, one.subject, one.details, one.path or "", one.outcome]
    return printable_lines("\t".join(words).rstrip("\t"))
