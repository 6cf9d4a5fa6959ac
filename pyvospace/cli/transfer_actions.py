"""What the service does by itself when it is told to: copies and moves within it, and transfers with others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from pyvospace.cli.job_display import JobDisplay
from pyvospace.cli.node_actions import write_json, write_line
from pyvospace.cli.session import Place, Session, printable
from pyvospace.client import ServiceUnreachable, Space
from pyvospace.client.jobs import Watch
from pyvospace.client.transfers import copy_of, destination_of, move_of, pull_of, push_of
from pyvospace.client.trees import Existing, pushable_name
from pyvospace.model.faults import DuplicateNode, Fault, InvalidArgument, NodeNotFound, NotAuthenticated, TransferFailed
from pyvospace.model.jobs import Job
from pyvospace.model.nodes import Node
from pyvospace.model.transfers import Transfer
from pyvospace.model.uris import AUTO, NULL, NodeUri
from pyvospace.model.vocabulary import Detail, NodeType

_HOPELESS: Final = (ServiceUnreachable, NotAuthenticated, BrokenPipeError)
"""What ends all that is under way: it would fail too."""
_LONGEST_CALLED: Final = 200
"""Characters of what a job is called in lists."""
_OTHER_WAY: Final = " (curl … | pyvospace cp - URI goes through this machine)"
_WEB: Final = ("http://", "https://")
_Item = TypeVar("_Item")
_Show = Callable[[str], AbstractContextManager[Watch | None]]


@dataclass(frozen=True, slots=True)
class Options:
    """How it is done."""

    recursive: bool = False
    parallel: int = 4
    quiet: bool = False
    background: bool = False
    """Leave as soon as the service is at it, and print the URLs of its jobs."""
    as_json: bool = False
    """Write what was made as JSON: the job, or where something is now."""
    view: str | None = None
    """In which bytes come from this machine or go to it."""
    preserve: bool = False
    existing: Existing = Existing.REPLACE

    @property
    def of_files(self) -> bool:
        """Say whether anything is wanted that only files of this machine have."""
        return self.preserve or self.existing is not Existing.REPLACE


@dataclass(frozen=True, slots=True)
class Goal:
    """Where something goes."""

    place: Place
    into: bool
    """`place` is a container to go into, in contrast to what it is to be called."""

    def of(self, name: str) -> NodeUri:
        """Give where something of this name is to be."""
        return self.place.uri.child(pushable_name(name)) if self.into else self.place.uri


def is_web(text: str) -> bool:
    """Say whether a text is the URL of a file elsewhere."""
    return text.lower().startswith(_WEB)


def leads_into(there: Node | None, destination: str, sources: int) -> bool:
    """Say whether the destination is a container to go into, in contrast to the name to have.

    Raises
    ------
    NodeNotFound, InvalidArgument
        It must be one and is none.
    """
    if there is not None and there.type is NodeType.CONTAINER:
        return True
    if sources == 1 and not destination.endswith("/"):
        return False
    if there is None:
        raise NodeNotFound(f"{destination}: there is no such container (pyvospace mkdir makes one)")
    raise InvalidArgument(f"{destination} is no container")


def require_different(names: Sequence[str]) -> None:
    """Refuse sources that would overwrite one another."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InvalidArgument(f"several sources are called {', '.join(sorted(twice))}")


async def find_goal(session: Session, destination: str, sources: int) -> Goal:
    """Look where things are to go; through a link if one leads there."""
    place = await session.place(destination)
    if place.uri.name == NULL:
        raise InvalidArgument(f"{destination} keeps nothing: to delete a node use pyvospace rm")
    there = await place.space.find(place.uri)
    into = leads_into(there, destination, sources)
    return Goal(Place(place.space, there.uri) if into and there is not None else place, into)


async def mv(session: Session, sources: Sequence[str], destination: str, options: Options) -> None:
    """Move nodes, each whole or not at all."""
    homes = [one for one in sources if one.removeprefix("vos:").strip("/") == ""]
    if homes:
        raise InvalidArgument(f"{homes[0]} is a root or your whole home and cannot be moved: move what is in it")
    places = [place for one in sources for place in await session.places(one)]
    goal = await find_goal(session, destination, len(places))
    require_different([place.uri.name for place in places] if goal.into else [])

    async def move(place: Place, show: _Show) -> None:
        _require_same_space(place, goal)
        with show(place.uri.name) as watch:
            await _relocate(move_of(place.uri, goal.place.uri), goal, options, watch)

    # One after the other: what is moved first may be where the next is to go.
    await _each(session, places, move, options, parallel=1)


def _require_same_space(place: Place, goal: Goal) -> None:
    if place.space is not goal.place.space:
        raise InvalidArgument(f"{place.uri} is of another service than {goal.place.uri}: cp it, then rm it")


async def copy(session: Session, sources: Sequence[str], destination: str, options: Options) -> None:
    """Copy nodes from space to space; the bytes never come here."""
    places = [place for one in sources for place in await session.places(one)]
    goal = await find_goal(session, destination, len(places))
    require_different([place.uri.name for place in places] if goal.into else [])

    async def copy_one(place: Place, show: _Show) -> None:
        node = await place.space.get_node(place.uri, detail=Detail.MIN)
        if node.type is NodeType.CONTAINER and not options.recursive:
            raise InvalidArgument(f"{place.uri} is a container: copy it with all that is in it with -r")
        with show(place.uri.name) as watch:
            if place.space is goal.place.space:
                await _relocate(copy_of(place.uri, goal.place.uri), goal, options, watch)
            elif node.type is NodeType.CONTAINER:
                raise InvalidArgument(f"{place.uri}: a container of another service goes through a local folder only")
            else:
                urls = await place.space.locate(place.uri)
                await _carry_out(goal.place.space, pull_of(goal.of(place.uri.name), *urls), options, watch)

    await _each(session, places, copy_one, options, parallel=options.parallel)


async def _relocate(wanted: Transfer, goal: Goal, options: Options, watch: Watch | None) -> None:
    try:
        job = await _carry_out(goal.place.space, wanted, options, watch)
    except DuplicateNode as fault:
        raise DuplicateNode(f"{fault.detail}; nothing is replaced: rm it first, or choose another name") from None
    if job is not None and (options.as_json or goal.place.uri.name == AUTO):
        _tell(options, str(destination_of(job)), source=wanted.target, name="uri")


async def _carry_out(space: Space, wanted: Transfer, options: Options, watch: Watch | None) -> Job | None:
    """Have a transfer done; None: it goes on by itself, and its URL is printed."""
    command = "mv" if wanted.keep_bytes is False else "cp"
    called = printable(f"{command} {NodeUri.parse(wanted.target).name}")[:_LONGEST_CALLED]
    url = await space.start(wanted, run_id=called)
    if not options.background:
        return await space.complete(url, watch=watch)
    await space.run(url)
    _tell(options, url, source=wanted.target, name="job")
    return None


def _tell(options: Options, what: str, *, source: str, name: str) -> None:
    if options.as_json:
        write_json({"source": source, name: what})
    else:
        write_line(what)


async def fetch(session: Session, sources: Sequence[str], destination: str, options: Options) -> None:
    """Let the service fetch files from elsewhere."""
    goal = await find_goal(session, destination, len(sources))
    names = [_name_in(url) if goal.into else "" for url in sources]
    require_different(names if goal.into else [])

    async def fetch_one(item: tuple[str, str], show: _Show) -> None:
        url, name = item
        with show(name or goal.place.uri.name) as watch:
            try:
                await _carry_out(goal.place.space, pull_of(goal.of(name), url), options, watch)
            except TransferFailed as fault:
                raise TransferFailed(f"{fault.detail}; it is the service that goes there{_OTHER_WAY}") from None

    await _each(session, list(zip(sources, names, strict=True)), fetch_one, options, parallel=options.parallel)


def _name_in(url: str) -> str:
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not name:
        raise InvalidArgument(f"{url} ends with no name: say how the file is to be called")
    return pushable_name(name)


async def send(session: Session, sources: Sequence[str], destination: str, options: Options) -> None:
    """Let the service send the bytes of a node elsewhere."""
    places = [place for one in sources for place in await session.places(one)]
    if len(places) != 1:
        raise InvalidArgument(f"one node can be sent to {destination}")

    async def send_one(place: Place, show: _Show) -> None:
        with show(place.uri.name) as watch:
            await _carry_out(place.space, push_of(place.uri, destination), options, watch)

    await _each(session, places, send_one, options, parallel=1)


async def _each(
    session: Session,
    items: Sequence[_Item],
    work: Callable[[_Item, _Show], Awaitable[None]],
    options: Options,
    *,
    parallel: int,
) -> None:
    """Do some work for each item; what fails is told, and the rest goes on."""
    free = asyncio.Semaphore(parallel)
    with JobDisplay(quiet=options.quiet) as display:

        async def one(item: _Item) -> None:
            async with free:
                try:
                    await work(item, display.job)
                except _HOPELESS:
                    raise
                except (Fault, OSError) as error:
                    session.note(error, item.uri if isinstance(item, Place) else None)

        try:
            async with asyncio.TaskGroup() as group:
                for item in items:
                    group.create_task(one(item))
        except BaseExceptionGroup as several:
            # The first one ended the others; which it was says enough.
            raise several.exceptions[0] from None
