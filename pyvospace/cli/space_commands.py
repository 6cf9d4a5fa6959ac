"""Commands for those who keep files in a space.

They only describe; what a command does is a coroutine in a module of actions, imported when it runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyvospace.cli.completing import nodes

if TYPE_CHECKING:
    from pyvospace.cli.session import Session

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Change nothing; say what would be done, and what is in the way.")
]
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
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, one object a line.")]
HumanOption = Annotated[bool, typer.Option("-h", "--human", help="Write sizes as 1.5G, of 1024 times 1024.")]
Uris = Annotated[
    list[str],
    typer.Argument(metavar="URI", autocompletion=nodes, help="Nodes: vos://authority/path, vos:/path or vos:path."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (ls, cp, mv, mkdir, rm, ln, cat, tag, info, why, find, pack, unpack, share):
        app.command(rich_help_panel="Use a space")(command)


QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress bars.")]
ViewOption = Annotated[
    str | None,
    typer.Option(
        metavar="VIEW", help="What the bytes are to be, such as fits-headers or fits-hdu,extname=SCI; see /views."
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option("-j", "--jobs", min=1, max=32, help="Files to copy at once. Default: 4, or jobs in client.toml."),
]
BackgroundOption = Annotated[
    bool,
    typer.Option(
        "-b", "--background", help="Leave what the service does by itself to it, and print the URLs of its jobs."
    ),
]


def run_on_spaces(
    url: str | None, token: str | None, ca_file: Path | None, action: Callable[[Session], Awaitable[None]]
) -> None:
    """Run an action on the spaces that options, environment and file name."""
    from pyvospace.cli.session import run
    from pyvospace.client.access import Access

    run(Access(url=url, token=token, ca_file=ca_file), action)


def ls(
    uris: Annotated[
        list[str] | None, typer.Argument(metavar="URI", autocompletion=nodes, help="Nodes. Default: your home, vos:")
    ] = None,
    *,
    long: Annotated[bool, typer.Option("-l", "--long", help="Show rights, owner, size and date.")] = False,
    human: HumanOption = False,
    sort: Annotated[str, typer.Option(metavar="name|size|date", help="Order; the largest or newest first.")] = "name",
    by_size: Annotated[bool, typer.Option("-S", help="The same as --sort size.")] = False,
    by_date: Annotated[bool, typer.Option("-t", help="The same as --sort date.")] = False,
    reverse: Annotated[bool, typer.Option("-r", "--reverse", help="Turn the order round.")] = False,
    recursive: Annotated[bool, typer.Option("-R", "--recursive", help="List all containers below too.")] = False,
    single: Annotated[bool, typer.Option("-1", help="One name a line, also on a terminal.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """List containers.

    vos:path begins in your home (VOSPACE_HOME), vos:/path at the root.
    The last name may hold * (put it between quotes).
    """
    from pyvospace.cli import listing_actions

    look = listing_actions.Look(
        long=long,
        human=human,
        as_json=as_json,
        single=single,
        sort="size" if by_size else "date" if by_date else sort,
        reverse=reverse,
        recursive=recursive,
    )
    run_on_spaces(url, token, ca_file, lambda session: listing_actions.ls(session, uris or ["vos:"], look))


def cp(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", autocompletion=nodes, help="URIs, local paths or web addresses; - is standard input."
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DESTINATION", autocompletion=nodes, help="A URI, local path or web address; - is standard output."
        ),
    ],
    *,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Copy folders with all that is in them.")
    ] = False,
    preserve: Annotated[bool, typer.Option("-p", "--preserve", help="Let copies have the times of the files.")] = False,
    no_clobber: Annotated[bool, typer.Option("-n", "--no-clobber", help="Replace nothing that is there.")] = False,
    update: Annotated[bool, typer.Option("-u", "--update", help="Replace only what is older.")] = False,
    view: ViewOption = None,
    jobs: JobsOption = None,
    background: BackgroundOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Copy files into a space, out of it, or within it.

    A container or folder as destination means into it. A file that is there is
    replaced once the new bytes are complete and their checksums right; a download
    that broke off is continued from its .part file, and an upload of a large file
    where it was. Links inside of folders are left out. Between quotes, * stands for
    any letters of a name and ** for any folders: 'vos:survey/**/*.fits'.

    Between nodes, and to and from http:// and https://, the service itself copies:
    the bytes do not come through this machine. Between nodes a link is copied as a
    link, and nothing that is there is replaced.
    """
    from pyvospace.cli import byte_actions, transfer_actions
    from pyvospace.cli.defaults import defaults

    options = transfer_actions.Options(
        recursive=recursive,
        parallel=jobs or defaults().jobs,
        background=background,
        quiet=quiet,
        as_json=as_json,
        view=view,
        preserve=preserve,
        existing=byte_actions.existing(no_clobber=no_clobber, update=update),
    )
    run_on_spaces(url, token, ca_file, lambda session: byte_actions.cp(session, sources, destination, options))


def mv(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", autocompletion=nodes, help="Nodes.")],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DESTINATION",
            autocompletion=nodes,
            help="A container to move into, or what a node is to be called.",
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
    """Move or rename nodes, containers with all that is in them.

    Each is moved whole or not at all, and nothing that is there is replaced.
    """
    from pyvospace.cli import transfer_actions

    options = transfer_actions.Options(background=background, quiet=quiet, as_json=as_json)
    run_on_spaces(url, token, ca_file, lambda session: transfer_actions.mv(session, sources, destination, options))


def mkdir(
    uris: Uris,
    *,
    parents: Annotated[
        bool, typer.Option("-p", "--parents", help="Make the containers above too; one that is there is fine.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Make containers."""
    from pyvospace.cli import node_actions

    run_on_spaces(
        url, token, ca_file, lambda session: node_actions.mkdir(session, uris, parents=parents, as_json=as_json)
    )


def rm(
    uris: Uris,
    *,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Delete containers too, with all that is in them.")
    ] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="What is not there is no failure.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Of a container delete what may be deleted, and leave the rest.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Delete nodes. A link is deleted itself, not what it leads to.

    A container goes whole or not at all, unless --partial says otherwise.
    """
    from pyvospace.cli import node_actions

    how = node_actions.Removal(recursive=recursive, force=force, in_part=partial, dry_run=dry_run, as_json=as_json)
    run_on_spaces(url, token, ca_file, lambda session: node_actions.rm(session, uris, how))


def ln(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", autocompletion=nodes, help="Where the link leads: a node or any other URI."),
    ],
    link: Annotated[
        str,
        typer.Argument(metavar="LINK", autocompletion=nodes, help="The node to make, or the container to make it in."),
    ],
    *,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Make a link."""
    from pyvospace.cli import node_actions

    run_on_spaces(url, token, ca_file, lambda session: node_actions.ln(session, target, link))


def cat(
    uris: Uris,
    *,
    byte_range: Annotated[
        str | None,
        typer.Option("--range", metavar="A-B", help="Bytes to write: first-last, first- or -number (the last ones)."),
    ] = None,
    view: ViewOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Write the bytes of nodes to standard output."""
    from pyvospace.cli import byte_actions

    run_on_spaces(url, token, ca_file, lambda session: byte_actions.cat(session, uris, byte_range, view))


def tag(
    uri: Annotated[str, typer.Argument(metavar="URI", autocompletion=nodes, help="The node.")],
    assignments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Properties, by their URIs or the short names of the standard."),
    ] = None,
    *,
    delete: Annotated[list[str] | None, typer.Option("--delete", metavar="KEY", help="Delete a property.")] = None,
    recursive: Annotated[
        bool, typer.Option("-R", "--recursive", help="Change the node and all that is below it.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Set properties, or show those that can be set.

    KEY= sets an empty value. Short names (title, ispublic, groupread, ...) are
    those below ivo://ivoa.net/vospace/core#.
    """
    from pyvospace.cli import node_actions

    run_on_spaces(
        url,
        token,
        ca_file,
        lambda session: node_actions.tag(
            session,
            uri,
            assignments or [],
            deleted=delete or [],
            recursive=recursive,
            dry_run=dry_run,
            as_json=as_json,
        ),
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

    run_on_spaces(url, token, ca_file, lambda session: node_actions.info(session, uris, as_json=as_json))


def why(
    asked: Annotated[
        list[str],
        typer.Argument(
            metavar="[RIGHT] URI",
            autocompletion=nodes,
            help="read, write, set, share, create, delete, ...; default: all rights.",
        ),
    ],
    *,
    user: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Somebody else, of your own nodes; anonymous: who is not logged in."),
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Say who may do what with a node, and by which rule.

    Leaves with 0 if the right is there, and with 1 if it is not. What the rights
    and rules are is in docs/reference/permissions.md.
    """
    from pyvospace.cli import why_actions

    run_on_spaces(url, token, ca_file, lambda session: why_actions.why(session, asked, user=user, as_json=as_json))


def find(
    uri: Annotated[
        str, typer.Argument(metavar="URI", autocompletion=nodes, help="Where to look: a container.")
    ] = "vos:",
    *,
    name: Annotated[str | None, typer.Option(metavar="PATTERN", help="Name, such as '*.fits'.")] = None,
    kind: Annotated[str | None, typer.Option("--type", metavar="file|folder|link", help="Type of node.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="USER", help="Owner.")] = None,
    larger: Annotated[str | None, typer.Option(metavar="SIZE", help="At least so many bytes: 500, 10K, 2G.")] = None,
    smaller: Annotated[str | None, typer.Option(metavar="SIZE", help="At most so many bytes.")] = None,
    newer: Annotated[
        str | None, typer.Option(metavar="DATE", help="Changed since: 2026-03-01, or 7d for the last seven days.")
    ] = None,
    older: Annotated[str | None, typer.Option(metavar="DATE", help="Not changed since.")] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="KEY[=PATTERN]", help="Has a property, or one with such a value."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    long: Annotated[bool, typer.Option("-l", "--long", help="Show rights, owner, size and date.")] = False,
    human: HumanOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Search a container and all below it; what fulfils everything that is asked for is listed by its URI.

    Patterns are those of shells, with * and ?; put them between quotes.
    """
    from pyvospace.cli import find_actions, listing_actions

    asked = find_actions.Asked(
        name=name,
        kind=kind,
        owner=owner,
        larger=larger,
        smaller=smaller,
        newer=newer,
        older=older,
        properties=tuple(properties or ()),
        limit=limit,
    )
    look = listing_actions.Look(long=long, human=human, as_json=as_json)
    run_on_spaces(url, token, ca_file, lambda session: find_actions.find(session, uri, asked, look))


FormatOption = Annotated[
    str | None, typer.Option("--format", metavar="tar|tar.gz|zip", help="Default: what the name of the archive says.")
]


def pack(
    uris: Annotated[
        list[str],
        typer.Argument(metavar="URI", autocompletion=nodes, help="The container, or several nodes of any kind."),
    ],
    archive: Annotated[
        str, typer.Argument(metavar="ARCHIVE", help="File to write: .tar, .tar.gz, .tgz or .zip; or -.")
    ],
    *,
    form: FormatOption = None,
    quiet: QuietOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Fetch containers with all that is in them, and other nodes, as one archive."""
    from pyvospace.cli import archive_actions

    run_on_spaces(
        url, token, ca_file, lambda session: archive_actions.pack(session, uris, archive, form=form, quiet=quiet)
    )


def unpack(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="File to read: .tar, .tar.gz, .tgz or .zip; or -.")],
    uri: Annotated[
        str, typer.Argument(metavar="URI", autocompletion=nodes, help="The container; it is made if it is not there.")
    ],
    *,
    form: FormatOption = None,
    quiet: QuietOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Send an archive to a container, where the service unpacks it: all of it or nothing."""
    from pyvospace.cli import archive_actions

    run_on_spaces(
        url, token, ca_file, lambda session: archive_actions.unpack(session, archive, uri, form=form, quiet=quiet)
    )


def share(
    uris: Annotated[list[str] | None, typer.Argument(metavar="URI", autocompletion=nodes, help="Nodes.")] = None,
    *,
    life: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="How long: 12h, 7d. Default: what the service says.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="tar|tar.gz|zip", help="Of a container: the archive to give.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List what you share now.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take back all that you share of the nodes.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Make a web address at which anybody may read a node, for a while, and print it.

    A container is given as a zip archive, if --format says nothing else.
    """
    from pyvospace.cli import share_actions

    asked = share_actions.Asked(life=life, form=form, show=show, revoke=revoke)
    run_on_spaces(url, token, ca_file, lambda session: share_actions.share(session, uris or [], asked, as_json=as_json))
