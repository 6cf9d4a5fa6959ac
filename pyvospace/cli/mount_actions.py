"""What the commands on mounts do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from pyvospace.cli.quantities import read_size, write_size
from pyvospace.cli.session import complain, printable
from pyvospace.client.access import Access, find_spaces
from pyvospace.client.locations import authority_of, is_uri
from pyvospace.fuse.places import cache_home, is_mounted, records, unmount_command
from pyvospace.model.faults import InvalidArgument, InvalidURI

if TYPE_CHECKING:
    from pyvospace.fuse.mounting import Wanted
    from pyvospace.fuse.places import Record

_QUIET: Final = 0.5
"""Seconds of waiting that need no words."""
_REWRITTEN: Final = 0.2
_LINES: Final = 5.0
"""Seconds between two lines about it, on a terminal and elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options of a mount say."""

    read_only: bool
    cache_dir: Path | None
    cache_size: str
    write_back: float
    patience: float
    fresh: float
    uid: int | None
    gid: int | None
    umask: str
    allow_other: bool
    log: Path | None
    debug: bool


def access_of(uri: str, url: str | None, token: str | None, ca_file: Path | None) -> Access:
    """Find the space of a URI.

    Raises
    ------
    InvalidURI
        It is no URI.
    """
    if not is_uri(uri):
        raise InvalidURI(f"{uri!r} is no URI of a container: write vos:path, vos:/path or vos://authority/path")
    return find_spaces(Access(url=url, token=token, ca_file=ca_file)).of(authority_of(uri))


def mount(access: Access, uri: str, directory: Path, asked: Asked, *, foreground: bool) -> None:
    """Mount a container, here or in a process of its own."""
    if find_spec("pyfuse3") is None:
        raise InvalidArgument(
            "mounts need pyfuse3: apt install fuse3 libfuse3-dev pkg-config gcc python3-dev, "
            "then pip install pyvospace[fuse]"
        )
    from pyvospace.fuse import background
    from pyvospace.fuse.mounting import check_directory

    wanted = _wanted(access, uri, directory, asked, foreground=foreground)
    _sweep_away(wanted.directory)
    check_directory(wanted.directory)
    if foreground:
        left = background.run(wanted, debug=asked.debug)
    else:
        background.start(wanted, debug=asked.debug)
        left = 0
    if left:
        raise typer.Exit(1)


def _wanted(access: Access, uri: str, directory: Path, asked: Asked, *, foreground: bool) -> Wanted:
    from pyvospace.fuse.cache import Limits
    from pyvospace.fuse.mounting import Wanted
    from pyvospace.fuse.places import log_file
    from pyvospace.fuse.tree import View

    access.parameters()  # says what is missing
    place = Path(os.path.realpath(directory))
    log = asked.log or (None if foreground else log_file(place))
    return Wanted(
        access=access,
        uri=uri,
        directory=place,
        view=View(
            uid=os.getuid() if asked.uid is None else asked.uid,
            gid=os.getgid() if asked.gid is None else asked.gid,
            umask=_umask(asked.umask),
            fresh=asked.fresh,
            read_only=asked.read_only,
        ),
        limits=Limits(bytes=read_size(asked.cache_size), write_back=asked.write_back, patience=asked.patience),
        cache=asked.cache_dir,
        allow_other=asked.allow_other,
        log=None if log is None else str(log.absolute()),
    )


def _umask(text: str) -> int:
    try:
        umask = int(text, 8)
    except ValueError:
        umask = -1
    if not 0 <= umask <= 0o777:  # noqa: PLR2004
        raise InvalidArgument(f"{text!r} is no umask: write it as 022")
    return umask


def _sweep_away(directory: Path) -> None:
    """Unmount what a process has left behind that was killed."""
    if is_mounted(directory) and _record_of(directory) is None:
        complain(f"{directory} was left behind by a mount that was killed; it is unmounted now")
        _run(unmount_command(str(directory), lazy=True))


def _record_of(directory: Path) -> Record | None:
    return next((one for one in records() if one.directory == str(directory)), None)


def unmount(directory: Path, *, lazy: bool) -> None:
    """Unmount a directory and wait until its mount has sent everything."""
    place = Path(os.path.realpath(directory))
    record, mounted = _record_of(place), is_mounted(place)
    if record is None and not mounted:
        raise InvalidArgument(f"no space is mounted at {place}; pyvospace mounts lists those that are")
    # Asked before, since the mount may have ended at once.
    states = iter(()) if record is None or lazy else record.ask("wait")
    before = next(states, None)
    if mounted:
        _run(unmount_command(str(place), lazy=lazy))
    if record is not None and before is not None:
        _wait(record, states)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode == 0:
        return
    words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if "busy" in words:
        words = f"{command[-1]} is in use: lsof +f -- {command[-1]} shows by whom; --lazy detaches it all the same"
    raise OSError(words)


def _wait(record: Record, states: Iterator[dict[str, Any]]) -> None:
    """Show what is unsent until there is nothing more, or the mount gives up."""
    words, last, due = "", None, time.monotonic() + _QUIET
    try:
        for last in states:
            words = _unsent_words(last["unsent"])
            if words and time.monotonic() >= due:
                due = time.monotonic() + (_REWRITTEN if sys.stderr.isatty() else _LINES)
                _show(f"waiting for {words}")
    except KeyboardInterrupt:
        complain(f"sending goes on in the background: {words or 'nothing'} is left; pyvospace mounts shows how far")
        raise typer.Abort from None
    _show("")
    if last is None or not last["unsent"]:
        return
    for one in last["unsent"]:
        complain(f"not sent: /{one['path']} ({write_size(one['size'])}) {one['failure'] or ''}".rstrip())
    complain(f"{_unsent_words(last['unsent'])} left in {record.cache}, sent by the next mount of this space")
    raise typer.Exit(1)


def _show(words: str) -> None:
    """Show a line on standard error: on a terminal in the place of the one before."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{words}\x1b[K")
        sys.stderr.flush()
    elif words:
        complain(words)


def _unsent_words(unsent: list[dict[str, Any]]) -> str:
    if not unsent:
        return ""
    return f"{len(unsent)} file{'s' * (len(unsent) != 1)} ({write_size(sum(one['size'] for one in unsent))})"


def mounts(*, as_json: bool) -> None:
    """List mounts, and what those have left that have ended."""
    for record in records():
        _show_mount({**asdict(record), "unsent": [], **next(record.ask("status"), {})}, as_json=as_json)
    from pyvospace.fuse.cache.slots import left_alone

    nothing = dict.fromkeys(("pid", "uri", "directory", "log"))
    for cache, files in left_alone(cache_home() / "mounts"):
        unsent = [{"path": file.name.partition("-")[2], "size": file.stat().st_size, "failure": None} for file in files]
        _show_mount({**nothing, "cache": str(cache), "read_only": False, "unsent": unsent}, as_json=as_json)


def _show_mount(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told))
        return
    unsent = _unsent_words(told["unsent"])
    if told["uri"] is None:
        typer.echo(printable(f"not mounted  {unsent} unsent in {told['cache']}, sent by the next mount of their space"))
        return
    typer.echo(printable(f"{told['uri']}  {told['directory']}" + (f"  {unsent} unsent" if unsent else "")))
    for one in told["unsent"]:
        if one["failure"]:
            typer.echo(printable(f"  /{one['path']}: {one['failure']}"))
