"""Commands on the service itself: its state, everybody's jobs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyvospace.cli.desk import ask, place, reaching, write, write_list
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import JsonOption
from pyvospace.model.faults import InvalidArgument

_PANEL = "Administer a space"

_queue = typer.Typer(no_args_is_help=True, help="Jobs of all users.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_queue, name="queue", rich_help_panel=_PANEL)
    app.command("state", rich_help_panel=_PANEL)(reaching(state))


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
