"""The command on versions of data nodes."""

from __future__ import annotations

from typing import Annotated

import typer

from pyvospace.cli.completing import nodes
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption, run_on_spaces
from pyvospace.model.faults import InvalidArgument


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Use a space")(versions)


def versions(
    uri: Annotated[str, typer.Argument(metavar="URI", autocompletion=nodes, help="The data node.")],
    *,
    get: Annotated[
        tuple[int, str] | None, typer.Option(metavar="NUMBER FILE", help="Fetch a version; - is standard output.")
    ] = None,
    restore: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Let it be what the node holds; that becomes a version.")
    ] = None,
    delete: Annotated[int | None, typer.Option(metavar="NUMBER", help="Remove it for ever.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """List what a data node held before, the newest first; fetch, restore or remove one of these versions.

    How many are kept is said by the policy of the container: `pyvospace policies set vos:/path --versions 5`.
    """
    from pyvospace.cli import version_actions

    if sum(one is not None for one in (get, restore, delete)) > 1:
        raise InvalidArgument("say one of --get, --restore and --delete")
    asked = version_actions.Asked(get=get, restore=restore, delete=delete)
    run_on_spaces(url, token, ca_file, lambda session: version_actions.versions(session, uri, asked, as_json=as_json))
