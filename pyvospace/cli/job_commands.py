"""Commands on jobs: what the service does, or has done, for its user."""

from __future__ import annotations

from typing import Annotated

import typer

from pyvospace.cli.space_commands import CaOption, JsonOption, QuietOption, TokenOption, UrlOption, run_on_spaces

Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="URL of a job, or its id as `jobs list` shows it.")]

_jobs = typer.Typer(no_args_is_help=True, help="What the service does by itself for you: list, show, follow, abort.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_jobs, name="jobs", rich_help_panel="Use a space")


@_jobs.command("list")
def list_jobs(
    *,
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", metavar="LIST", help="transfers, async-delete, async-setprops, searches. Default: all."),
    ] = None,
    phases: Annotated[
        list[str] | None, typer.Option("--phase", metavar="PHASE", help="Only jobs in this phase, such as EXECUTING.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only jobs made since: 2026-03-01, or 2h for the last two hours.")
    ] = None,
    last: Annotated[int, typer.Option("-n", "--last", min=1, help="Of each list the newest so many.")] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """List your jobs, the newest first: id, phase, creation."""
    from pyvospace.cli import job_actions

    asked = job_actions.Asked(tuple(lists or ()), tuple(phases or ()), after, last)
    run_on_spaces(url, token, ca_file, lambda session: job_actions.list_jobs(session, asked, as_json=as_json))


@_jobs.command("show")
def show(
    jobs: Jobs,
    *,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Show what is known of jobs."""
    from pyvospace.cli import job_actions

    run_on_spaces(url, token, ca_file, lambda session: job_actions.show(session, jobs, as_json=as_json))


@_jobs.command("follow")
def follow(
    jobs: Jobs,
    *,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Wait until jobs have ended, and print how. Ctrl-C leaves them alone.

    A job that failed is a failure of the command, with the exit code of its fault.
    """
    from pyvospace.cli import job_actions

    run_on_spaces(url, token, ca_file, lambda session: job_actions.follow(session, jobs, quiet=quiet, as_json=as_json))


@_jobs.command("abort")
def abort(jobs: Jobs, *, url: UrlOption = None, token: TokenOption = None, ca_file: CaOption = None) -> None:
    """End jobs before their time."""
    from pyvospace.cli import job_actions

    run_on_spaces(url, token, ca_file, lambda session: job_actions.abort(session, jobs))


@_jobs.command("delete")
def delete(jobs: Jobs, *, url: UrlOption = None, token: TokenOption = None, ca_file: CaOption = None) -> None:
    """Let the service forget jobs; those that run are aborted."""
    from pyvospace.cli import job_actions

    run_on_spaces(url, token, ca_file, lambda session: job_actions.delete(session, jobs))
