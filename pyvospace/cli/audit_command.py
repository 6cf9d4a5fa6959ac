"""The command `audit`: who did what. It reaches the service, or the database (see `pyvospace.cli.reach`)."""

from __future__ import annotations

from typing import Annotated

import typer

from pyvospace.cli.completing import nodes
from pyvospace.cli.reach import ConfigOption, DataOption, Reach, with_database
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption, run_on_spaces


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Use a space")(audit)


def audit(
    uri: Annotated[
        str | None, typer.Argument(metavar="[URI]", autocompletion=nodes, help="What happened to this node.")
    ] = None,
    *,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="And to all below it.")] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="What this user did.")] = None,
    action: Annotated[str | None, typer.Option(metavar="ACTION", help="Such as createNode or login.")] = None,
    outcome: Annotated[str | None, typer.Option(metavar="WORD", help="done, or a fault: PermissionDenied.")] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="Since: 2026-03-01, or 7d for seven days.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Until then.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, metavar="N", help="At most so many rows, oldest first.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show who did what, from where, and what was refused.

    Administrators see everything, everybody else what he did and what was done
    to what is his. With --data or --config the rows come from the database.
    """
    from pyvospace.cli import audit_actions as actions

    filters = actions.filters_of(
        below=recursive, user=user, action=action, outcome=outcome, since=since, until=until, limit=limit
    )
    if Reach(config, data, url, token, ca_file).at_database():
        with_database(config, data, lambda db: actions.from_database(db, uri, filters, as_json=as_json))
    else:
        run_on_spaces(url, token, ca_file, lambda session: actions.from_service(session, uri, filters, as_json=as_json))
