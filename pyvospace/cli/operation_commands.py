"""Commands on the service itself: its state, its storage servers, everybody's jobs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyvospace.cli.desk import ask, place, reaching, write, write_list
from pyvospace.cli.quantities import write_size
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import JsonOption
from pyvospace.model.faults import InvalidArgument

Storage = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the storage server, from `storages list`.")]

_PANEL = "Administer a space"

_storage = typer.Typer(no_args_is_help=True, help="Storage servers, as the catalogue knows them.")
_queue = typer.Typer(no_args_is_help=True, help="Jobs of all users.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_storage, name="storages", rich_help_panel=_PANEL)
    app.add_typer(_queue, name="queue", rich_help_panel=_PANEL)
    app.command("state", rich_help_panel=_PANEL)(reaching(state))


@_storage.command("list")
@reaching
def list_storages(*, as_json: JsonOption = False, reach: Reach) -> None:
    """List storage servers: number, name, URL, what is free, when each was last heard of."""
    write_list(reach, "/admin/storages", _storage_line, as_json=as_json)


def _storage_line(one: Any) -> str:
    free = "-" if one["free"] is None else write_size(one["free"])
    heard = "there" if one["live"] else f"silent since {one['last_seen'][:19]}"
    return f"{one['id']}\t{one['name']}\t{one['url']}\t{free}\t{heard}"


@_storage.command("rename")
@reaching
def rename_storage(storage: Storage, name: Annotated[str, typer.Argument(metavar="NAME")], *, reach: Reach) -> None:
    """Call a storage server something else, until it starts and says what its name is."""
    ask(reach, "PATCH", f"/admin/storages/{storage}", body={"name": name})


@_storage.command("retire")
@reaching
def retire_storage(storage: Storage, *, reach: Reach) -> None:
    """Forget a storage server that is gone and keeps no bytes."""
    ask(reach, "DELETE", f"/admin/storages/{storage}")


@_queue.command("list")
@reaching
def list_jobs(
    *,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only his.")] = None,
    phase: Annotated[str | None, typer.Option(metavar="PHASE", help="Only those in this phase: EXECUTING.")] = None,
    as_json: JsonOption = False,
    reach: Reach,
) -> None:
    """List the jobs of all users, or of one, by their ids."""
    said = {"user": user, "phase": phase.upper() if phase else None}
    query = {name: value for name, value in said.items() if value is not None}
    write_list(reach, "/admin/jobs", _job_line, query=query, as_json=as_json)


def _job_line(one: Any) -> str:
    return f"{one['list']}/{one['id']}\t{one['phase']}\t{one['created'][:19]}\t{one['owner'] or '-'}\t{one['kind']}"


@_queue.command("abort")
@reaching
def abort_job(job: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")], *, reach: Reach) -> None:
    """Abort anybody's job."""
    ask(reach, "POST", f"/admin/jobs/{place(job.rpartition('/')[2])}/abort")


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
    reach: Reach,
) -> None:
    """Show or set the state of the service. A new state replaces note and times; every process follows at once."""
    if wanted is None:
        if note or down_at or back_at:
            raise InvalidArgument("a note and times belong to a state: name it")
        found = ask(reach, "GET", "/admin/state")
    else:
        from pyvospace.model.vosi import State

        word = State.parse(wanted).word
        body = {"state": word, "note": note, "down_at": down_at, "back_at": back_at}
        found = ask(reach, "PUT", "/admin/state", body=body)
    write(found, _state_line, as_json=as_json)


def _state_line(found: Any) -> str:
    times = [f"{name}={found[key]}" for name, key in (("downAt", "down_at"), ("backAt", "back_at")) if found[key]]
    return "\t".join([found["state"], *times, found["note"]])
