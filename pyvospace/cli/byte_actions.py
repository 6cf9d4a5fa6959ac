"""What the commands on bytes do: cp and cat."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

from pyvospace.cli import transfer_actions
from pyvospace.cli.display import Display
from pyvospace.cli.globs import matching_files, matching_nodes
from pyvospace.cli.session import Place, Session
from pyvospace.cli.transfer_actions import Options, leads_into, require_different
from pyvospace.cli.views import accepted_view, provided_view
from pyvospace.client.http import PIECE
from pyvospace.client.locations import is_uri
from pyvospace.client.media import content_type_of
from pyvospace.client.trees import Copier, Existing, Manner, pushable_name
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.nodes import View
from pyvospace.model.uris import AUTO
from pyvospace.model.vocabulary import Detail, NodeType

T = TypeVar("T")

STREAM: Final = "-"
"""Standard input as a source, standard output as a destination."""
_RANGE: Final = re.compile(r"(\d{1,18})-(\d{1,18})?|-(\d{1,18})")


async def cp(session: Session, sources: Sequence[str], destination: str, options: Options) -> None:
    """Copy files and folders: into a space, out of it, from space to space, and between spaces and the web.

    Raises
    ------
    InvalidArgument
        No side is in a space, or several things go to a place for one.
    """
    if "" in {*sources, destination}:
        # An empty variable of the shell: as a path it would mean the whole current directory.
        raise InvalidArgument("an empty name is given as source or destination")
    kinds = {_Kind.of(one) for one in sources}
    if len(kinds) > 1:
        raise InvalidArgument("files, nodes and web addresses are to be copied by commands of their own")
    if options.view is not None and _Kind.FILE not in {*kinds, _Kind.of(destination)}:
        raise InvalidArgument("views are for bytes that come from this machine or go to it")
    if options.of_files and _Kind.FILE not in {*kinds, _Kind.of(destination)}:
        raise InvalidArgument("--preserve, --no-clobber and --update are for copies from and to this machine")
    copy = _WAYS.get((kinds.pop(), _Kind.of(destination)))
    if copy is None:
        raise InvalidArgument("one side must be in a space: vos:path (cp copies from file to file)")
    await copy(session, sources, destination, options)


def existing(*, no_clobber: bool, update: bool) -> Existing:
    """Say what becomes of files that are there.

    Raises
    ------
    InvalidArgument
        Both options are given.
    """
    if no_clobber and update:
        raise InvalidArgument("--no-clobber and --update do not go together")
    return Existing.KEEP if no_clobber else Existing.UPDATE if update else Existing.REPLACE


class _Kind(Enum):
    FILE = auto()
    NODE = auto()
    WEB = auto()

    @classmethod
    def of(cls, text: str) -> _Kind:
        if is_uri(text):
            return cls.NODE
        return cls.WEB if transfer_actions.is_web(text) else cls.FILE


# ---------------------------------------------------------------------- into a space


async def _push(session: Session, sources: Sequence[str], destination: str, options: Options) -> None:
    sources = [one for text in sources for one in await asyncio.to_thread(matching_files, text)]
    place = await session.place(destination)
    there = await place.space.find(place.uri)
    into = leads_into(there, destination, len(sources))
    if place.uri.name == AUTO and not into:
        raise InvalidArgument(f"{destination}: the service would choose a name and not tell it; choose one")
    require_different([_name_of(Path(one)) for one in sources] if into else [])
    if STREAM in sources:
        await _push_stream(session, place, sources, options, into=into)
        return
    view = await accepted_view(place.space, options.view)
    async with _copying(session, options, view) as copier:
        for source in sources:
            with copier.excused(source):
                path = Path(source)
                folder = stat.S_ISDIR((await asyncio.to_thread(path.stat)).st_mode)
                target = place.uri.child(pushable_name(_name_of(path))) if into else place.uri
                if not folder:
                    await copier.push(place.space, path, target)
                elif options.recursive:
                    await copier.push_tree(place.space, path, target)
                else:
                    raise InvalidArgument(f"{source} is a directory: copy it with all that is in it with -r")


def _name_of(path: Path) -> str:
    """Give the name of a file, also of ``.`` and ``..``."""
    return path.name if path.name not in {"", ".."} else Path(os.path.abspath(path)).name  # noqa: PTH100 (no links)


async def _push_stream(session: Session, place: Place, sources: Sequence[str], options: Options, *, into: bool) -> None:
    if len(sources) > 1 or into:
        raise InvalidArgument("standard input needs a destination with a name of its own")
    view, kind = await accepted_view(place.space, options.view), content_type_of(place.uri.name)
    with Display(session, quiet=options.quiet) as display, display.file(place.uri.name) as progress:
        await place.space.push(standard_input(), place.uri, content_type=kind, view=view, progress=progress)


async def standard_input() -> AsyncGenerator[bytes]:
    """Give what comes on standard input."""
    descriptor = sys.stdin.fileno()
    while piece := await _waited_for(partial(os.read, descriptor, PIECE)):
        yield piece


# ---------------------------------------------------------------------- out of a space


async def _pull(session: Session, sources: Sequence[str], destination: str, options: Options) -> None:
    places = [place for one in sources for place in await matching_nodes(session, one)]
    if destination == STREAM:
        await _write_out(session, places, view=options.view)
        return
    target = Path(destination)
    into = await asyncio.to_thread(target.is_dir)
    if not into and (len(places) > 1 or destination.endswith("/")):
        exists = await asyncio.to_thread(target.exists)
        raise InvalidArgument(f"{destination} is no directory" if exists else f"there is no directory {destination}")
    if not await asyncio.to_thread(target.parent.is_dir):
        raise FileNotFoundError(errno.ENOENT, "there is no such directory", str(target.parent))
    require_different([place.uri.name for place in places] if into else [])
    view = await provided_view(places[0].space, options.view)
    async with _copying(session, options, view) as copier:
        for place in places:
            with copier.excused(place.uri):
                node = await place.space.get_node(place.uri, detail=Detail.MIN)
                path = target / place.uri.name if into else target
                if node.type is not NodeType.CONTAINER:
                    await copier.pull(place.space, place.uri, path)
                elif view is not None:
                    raise InvalidArgument(f"{place.uri} is a container: pyvospace pack fetches it in a view")
                elif options.recursive:
                    await copier.pull_tree(place.space, place.uri, path)
                else:
                    raise InvalidArgument(f"{place.uri} is a container: copy it with all that is in it with -r")


async def cat(session: Session, uris: Sequence[str], byte_range: str | None, view: str | None) -> None:
    """Write the bytes of nodes to standard output."""
    start, stop = (0, None) if byte_range is None else read_range(byte_range)
    for text in uris:
        with session.excused():
            await _write_out(session, await session.places(text), start=start, stop=stop, view=view)


async def _write_out(
    session: Session, places: Sequence[Place], *, start: int = 0, stop: int | None = None, view: str | None
) -> None:
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    for place in places:
        with session.excused():
            wanted = await provided_view(place.space, view)
            async with aclosing(place.space.read(place.uri, start=start, stop=stop, view=wanted)) as pieces:
                async for piece in pieces:
                    await _waited_for(partial(_write_all, descriptor, piece))


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_range(text: str) -> tuple[int, int | None]:
    """Read ``first-last``, ``first-`` or ``-number`` of bytes as start and stop of a slice.

    Raises
    ------
    InvalidArgument
        It is none of these.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"{text!r} is no range of bytes: write first-last, first- or -number")
    first, last, suffix = found.groups()
    if suffix is not None:
        if int(suffix) == 0:
            raise InvalidArgument("the last 0 bytes are no range")
        return -int(suffix), None
    if last is not None and int(last) < int(first):
        raise InvalidArgument(f"the range {text} ends before it begins")
    return int(first), None if last is None else int(last) + 1


@asynccontextmanager
async def _copying(session: Session, options: Options, view: View | None) -> AsyncIterator[Copier]:
    manner = Manner(preserve=options.preserve, existing=options.existing, view=view)
    with Display(session, quiet=options.quiet or options.as_json, as_json=options.as_json) as display:
        async with Copier(display, parallel=options.parallel, manner=manner) as copier:
            yield copier


async def _waited_for(call: Callable[[], T]) -> T:
    """Run a call that may never end (a pipe that nobody reads) so that the process can end without it."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def finish(value: T | None, error: OSError | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(cast("T", value))

    def work() -> None:
        value, failure = None, None
        try:
            value = call()
        except OSError as error:
            failure = error
        with suppress(RuntimeError):  # the loop has gone: nobody waits any more
            loop.call_soon_threadsafe(finish, value, failure)

    threading.Thread(target=work, daemon=True).start()
    return await result


_WAYS: Final = {
    (_Kind.FILE, _Kind.NODE): _push,
    (_Kind.NODE, _Kind.FILE): _pull,
    (_Kind.NODE, _Kind.NODE): transfer_actions.copy,
    (_Kind.WEB, _Kind.NODE): transfer_actions.fetch,
    (_Kind.NODE, _Kind.WEB): transfer_actions.send,
}
"""How to copy from one kind of place to another."""
