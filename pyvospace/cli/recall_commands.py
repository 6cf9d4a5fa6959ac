"""The command that brings bytes back from cold storages."""

from __future__ import annotations

from typing import Annotated

import typer

from pyvospace.cli.completing import nodes
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption, run_on_spaces


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Use a space")(recall)


def recall(
    uris: Annotated[
        list[str],
        typer.Argument(metavar="URI", autocompletion=nodes, help="Nodes; containers with all that is in them."),
    ],
    *,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Have bytes brought back from cold storages, and wait until they can be read.

    Interrupt it and the job is aborted; what is on its way comes all the same.
    """
    from pyvospace.cli import node_actions

    run_on_spaces(url, token, ca_file, lambda session: node_actions.recall(session, uris, as_json=as_json))
