"""Commands for those who keep files in a space: ls, cp, mkdir, rm, ln, cat, tag, info.

They only describe; what a command does is a coroutine in `node_actions` or `byte_actions`, imported when it runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pyvospace.cli.session import Session

UrlOption = Annotated[str | None, typer.Option(metavar="URL", help="Service to use. Default: VOSPACE_URL.")]
TokenOption = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN", help="API token. Default: VOSPACE_TOKEN, which other users of the machine cannot see."
    ),
]
CaOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificates (PEM) to trust. Default: the system's, SSL_CERT_FILE.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, one object for each node.")]
Uris = Annotated[list[str], typer.Argument(metavar="URI", help="Nodes: vos://authority/path, vos:/path or vos:path.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (ls, cp, mkdir, rm, ln, cat, tag, info):
        app.command(rich_help_panel="Use a space")(command)


def _run(
    url: str | None, token: str | None, ca_file: Path | None, action: Callable[[Session], Awaitable[None]]
) -> None:
    from pyvospace.cli.session import run
    from pyvospace.client.access import Access

    run(Access(url=url, token=token, ca_file=ca_file), action)


def ls(
    uris: Annotated[list[str] | None, typer.Argument(metavar="URI", help="Nodes. Default: your home, vos:")] = None,
    *,
    long: Annotated[bool, typer.Option("-l", "--long", help="Show rights, owner, size and date.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """List containers.

    vos:path begins in your home (VOSPACE_HOME), vos:/path at the root.
    The last name may hold * (put it between quotes).
    """
    from pyvospace.cli import node_actions

    _run(url, token, ca_file, lambda session: node_actions.ls(session, uris or ["vos:"], long=long, as_json=as_json))


def cp(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="URIs or local paths; - is standard input.")],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="A local path or a URI; - is standard output.")
    ],
    *,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Copy folders with all that is in them.")
    ] = False,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, max=32, help="Files to copy at once.")] = 4,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress bars.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Copy files into a space or out of it, and verify their checksums.

    A container or folder as destination means into it. A file that is there is
    replaced once the new bytes are complete and right. A download that broke off
    is continued from its .part file. Links inside of folders are left out.
    """
    from pyvospace.cli import byte_actions

    options = byte_actions.Options(recursive=recursive, parallel=jobs, quiet=quiet)
    _run(url, token, ca_file, lambda session: byte_actions.cp(session, sources, destination, options))


def mkdir(
    uris: Uris,
    *,
    parents: Annotated[
        bool, typer.Option("-p", "--parents", help="Make the containers above too; one that is there is fine.")
    ] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Make containers."""
    from pyvospace.cli import node_actions

    _run(url, token, ca_file, lambda session: node_actions.mkdir(session, uris, parents=parents))


def rm(
    uris: Uris,
    *,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Delete containers too, with all that is in them.")
    ] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="What is not there is no failure.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Delete nodes. A link is deleted itself, not what it leads to."""
    from pyvospace.cli import node_actions

    _run(url, token, ca_file, lambda session: node_actions.rm(session, uris, recursive=recursive, force=force))


def ln(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where the link leads: a node or any other URI.")],
    link: Annotated[str, typer.Argument(metavar="LINK", help="The node to make, or the container to make it in.")],
    *,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Make a link."""
    from pyvospace.cli import node_actions

    _run(url, token, ca_file, lambda session: node_actions.ln(session, target, link))


def cat(
    uris: Uris,
    *,
    byte_range: Annotated[
        str | None,
        typer.Option("--range", metavar="A-B", help="Bytes to write: first-last, first- or -number (the last ones)."),
    ] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Write the bytes of nodes to standard output."""
    from pyvospace.cli import byte_actions

    _run(url, token, ca_file, lambda session: byte_actions.cat(session, uris, byte_range))


def tag(
    uri: Annotated[str, typer.Argument(metavar="URI", help="The node.")],
    assignments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Properties, by their URIs or the short names of the standard."),
    ] = None,
    *,
    delete: Annotated[list[str] | None, typer.Option("--delete", metavar="KEY", help="Delete a property.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Set properties, or show those that can be set.

    KEY= sets an empty value. Short names (title, ispublic, groupread, ...) are
    those below ivo://ivoa.net/vospace/core#.
    """
    from pyvospace.cli import node_actions

    _run(
        url,
        token,
        ca_file,
        lambda session: node_actions.tag(session, uri, assignments or [], deleted=delete or []),
    )


def info(
    uris: Uris,
    *,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Show all that is known of nodes."""
    from pyvospace.cli import node_actions

    _run(url, token, ca_file, lambda session: node_actions.info(session, uris, as_json=as_json))
