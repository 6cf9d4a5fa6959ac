"""Commands that make a space a directory of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyvospace.cli.completing import nodes
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption

UriArgument = Annotated[
    str, typer.Argument(metavar="URI", autocompletion=nodes, help="The container; vos: is your home, vos:/ everything.")
]
CacheDirOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where bytes are kept. Default: ~/.cache/pyvospace/mounts.")
]
CacheSizeOption = Annotated[
    str, typer.Option(metavar="SIZE", help="Most bytes kept of what the space has too, such as 500M or 20G.")
]
WriteBackOption = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0, help="Rest of a file before it is sent; 0: closing it waits for that."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (mount, unmount, mounts):
        app.command(rich_help_panel="Use a space")(command)


def mount(
    uri: UriArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory.")],
    *,
    foreground: Annotated[bool, typer.Option("-f", "--foreground", help="Stay until it is unmounted.")] = False,
    read_only: Annotated[bool, typer.Option("-r", "--read-only", help="Let nothing be changed.")] = False,
    cache_dir: CacheDirOption = None,
    cache_size: CacheSizeOption = "10G",
    write_back: WriteBackOption = 1.0,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Wait so long for a space that does not answer.")
    ] = 60.0,
    fresh: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Believe attributes and listings for so long.")
    ] = 5.0,
    uid: Annotated[int | None, typer.Option(metavar="UID", help="Owner of all files. Default: you.")] = None,
    gid: Annotated[int | None, typer.Option(metavar="GID", help="Their group. Default: yours.")] = None,
    umask: Annotated[str, typer.Option(metavar="OCTAL", help="Permissions that no file shows.")] = "000",
    allow_other: Annotated[
        bool, typer.Option("--allow-other", help="Let other users of this machine in, with your rights.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Log. Default: ~/.local/state/pyvospace, or standard error.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log more.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Mount a container as a directory.

    Goes to the background once the directory can be used; `pyvospace unmount`
    ends it, and waits until everything is in the space. What could not be sent
    is kept, and sent by the next mount.
    """
    from pyvospace.cli import mount_actions

    asked = mount_actions.Asked(
        read_only=read_only,
        cache_dir=cache_dir,
        cache_size=cache_size,
        write_back=write_back,
        patience=patience,
        fresh=fresh,
        uid=uid,
        gid=gid,
        umask=umask,
        allow_other=allow_other,
        log=log,
        debug=debug,
    )
    access = mount_actions.access_of(uri, url, token, ca_file)
    mount_actions.mount(access, uri, directory, asked, foreground=foreground)


def unmount(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where it is mounted.")],
    *,
    lazy: Annotated[
        bool, typer.Option("-l", "--lazy", help="Detach it now, even if it is in use, and wait for nothing.")
    ] = False,
) -> None:
    """Unmount a directory, and wait until everything is in the space.

    Ctrl-C ends the waiting; sending goes on in the background.
    """
    from pyvospace.cli import mount_actions

    mount_actions.unmount(directory, lazy=lazy)


def mounts(*, as_json: JsonOption = False) -> None:
    """List your mounts, and what each has not sent yet."""
    from pyvospace.cli import mount_actions

    mount_actions.mounts(as_json=as_json)
