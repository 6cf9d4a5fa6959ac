"""Commands on whole trees: what is in them, how large they are, copies of them."""

from __future__ import annotations

from typing import Annotated

import typer

from pyvospace.cli.completing import nodes
from pyvospace.cli.space_commands import (
    BackgroundOption,
    CaOption,
    HumanOption,
    JsonOption,
    QuietOption,
    TokenOption,
    UrlOption,
    run_on_spaces,
)

_Containers = Annotated[
    list[str] | None, typer.Argument(metavar="URI", autocompletion=nodes, help="Containers. Default: your home, vos:")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (tree, du, copy):
        app.command(rich_help_panel="Use a space")(command)


def tree(
    uris: _Containers = None,
    *,
    depth: Annotated[int | None, typer.Option("-L", "--depth", min=1, help="Levels to go down.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Children of each container to show; the rest is counted.")
    ] = None,
    folders: Annotated[bool, typer.Option("-d", "--folders", help="Show containers only.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Draw what is below containers."""
    from pyvospace.cli import listing_actions

    how = listing_actions.Branches(depth=depth, limit=limit, folders=folders, as_json=as_json)
    run_on_spaces(url, token, ca_file, lambda session: listing_actions.tree(session, uris or ["vos:"], how))


def du(
    uris: Annotated[
        list[str] | None, typer.Argument(metavar="URI", autocompletion=nodes, help="Nodes. Default: your home, vos:")
    ] = None,
    *,
    summary: Annotated[bool, typer.Option("-s", "--summarize", help="Show only what is named.")] = False,
    depth: Annotated[int | None, typer.Option("-d", "--depth", min=0, help="Levels to go down.")] = None,
    files: Annotated[bool, typer.Option("-a", "--all", help="Show files too.")] = False,
    human: HumanOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Show how many bytes are in containers and below them.

    The service knows these sizes to the byte at any moment: a large tree is no
    more work than a small one with -s.
    """
    from pyvospace.cli import listing_actions

    how = listing_actions.Sizes(depth=0 if summary else depth, files=files, human=human, as_json=as_json)
    run_on_spaces(url, token, ca_file, lambda session: listing_actions.du(session, uris or ["vos:"], how))


def copy(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", autocompletion=nodes, help="Nodes.")],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DESTINATION",
            autocompletion=nodes,
            help="A container to copy into, or what the copy is to be called.",
        ),
    ],
    *,
    background: BackgroundOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Copy nodes within the space, containers with all that is in them.

    The service does it, at once or not at all: no bytes are moved, whatever the
    size of the tree. Nothing that is there is replaced.
    """
    from pyvospace.cli import transfer_actions

    options = transfer_actions.Options(recursive=True, background=background, quiet=quiet, as_json=as_json)
    run_on_spaces(url, token, ca_file, lambda session: transfer_actions.copy(session, sources, destination, options))
