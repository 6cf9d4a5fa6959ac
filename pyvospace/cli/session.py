"""What the commands on a space have in common: which space a URI is of, patterns, failures, output."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

import typer

from pyvospace.cli import hints
from pyvospace.client import Access, Space, find_spaces
from pyvospace.client.locations import authority_of, is_uri
from pyvospace.model.faults import Fault, InvalidURI, NodeNotFound
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail

_WILD: Final = "*"


@dataclass(frozen=True, slots=True)
class Place:
    """A node that an argument names."""

    space: Space
    uri: NodeUri


class PartlyDone(Fault):
    """Some nodes of a tree are as they were."""

    code = "PartlyDone"


class Session:
    """The spaces that one command uses, and how it went."""

    def __init__(self, options: Access) -> None:
        self._spaces = find_spaces(options)
        self._open: dict[Access, Space] = {}
        self._stack = AsyncExitStack()
        self.failure: Fault | OSError | None = None
        """The first one of those that did not end the command."""
        self._kinds: dict[type[Fault | OSError], Fault | OSError] = {}
        """The first one of each kind."""

    async def __aenter__(self) -> Self:
        """Be ready."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def space(self, authority: str | None = None) -> Space:
        """Find a space by its authority; None: the default one."""
        access = self._spaces.of(authority)
        if access not in self._open:
            self._open[access] = await self._stack.enter_async_context(Space.of(access))
        return self._open[access]

    def access(self) -> Access:
        """Tell how the default space is reached."""
        return self._spaces.default

    async def place(self, text: str) -> Place:
        """Find the space and the node that a URI names.

        Raises
        ------
        InvalidURI
            It is no URI, or of a space that is not known.
        """
        if not is_uri(text):
            raise InvalidURI(f"{text!r} is no URI of a node: write vos:path, vos:/path or vos://authority/path")
        space = await self.space(authority_of(text))
        return Place(space, await space.uri(text))

    async def places(self, text: str) -> list[Place]:
        """As `place`, but the last name may hold ``*``; a star that is meant as such is written %2A.

        Names that begin with a dot are found only if the pattern does so too.

        Raises
        ------
        NodeNotFound
            Nothing fits.
        """
        start, name = _split(text)
        if _WILD not in name:
            return [await self.place(text)]
        container = await self.place(start)
        space = container.space
        async with aclosing(space.list(container.uri, detail=Detail.MIN)) as children:
            found = [Place(space, child.uri) async for child in children if fits(child.uri.name, name)]
        if not found:
            raise NodeNotFound(f"{container.uri}: nothing is called {name}")
        return found

    @contextmanager
    def excused(self, what: object | None = None) -> Iterator[None]:
        """Tell of a failure, and of what it happened to, and go on with the next argument."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (Fault, OSError) as error:
            self.note(error, what)

    def note(self, error: Fault | OSError, what: object | None = None) -> None:
        """Tell of a failure, and of what it happened to, unless the error says so itself."""
        self.failure = self.failure or error
        told = words(error)
        if what is not None and str(what) not in told:
            told += f" ({what})"
        complain(told)
        self._kinds.setdefault(type(error), error)

    async def advise(self) -> None:
        """Say what to do about what has failed: once for each kind of failure, when everything else is done."""
        anonymous = all(space.anonymous for space in self._open.values())
        for line in hints.shown([await self._hint(error, anonymous=anonymous) for error in self._kinds.values()]):
            complain(line)

    async def _hint(self, error: Fault | OSError, *, anonymous: bool) -> str | None:
        uri = hints.missing(error)
        if uri is not None and not anonymous:
            with suppress(Fault, OSError):
                near = await hints.similar(await self.space(uri.authority), uri)
                if near is not None:
                    return near
        return hints.hint(error, anonymous=anonymous)


def _split(text: str) -> tuple[str, str]:
    """Take the last name off a URI as it was written."""
    if not is_uri(text):
        return text, ""
    cut = max(text.rfind("/"), len("vos:") - 1) + 1
    start, name = text[:cut], text[cut:]
    if _WILD in start:
        raise InvalidURI(f"{text!r}: * can stand in the last name only")
    return start, name


def fits(name: str, pattern: str) -> bool:
    """Say whether a name fits a pattern with ``*``; what is percent-encoded in the pattern is meant as it is."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    expression = ".*".join(re.escape(unquote(part)) for part in pattern.split(_WILD))
    return re.fullmatch(expression, name, re.DOTALL) is not None


def complain(message: object) -> None:
    """Say what went wrong, on standard error."""
    typer.echo(f"pyvospace: {printable(words(message))}", err=True)


def words(message: object) -> str:
    """Put an error into words; those of the operating system without their number."""
    if isinstance(message, OSError) and message.strerror:
        return f"{message.filename}: {message.strerror}" if message.filename else message.strerror
    return str(message)


def printable(text: str) -> str:
    """Take out of a text what a terminal might obey."""
    return text if text.isprintable() else "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


class _Handler(logging.Handler):
    """Shows warnings of the client as the command line shows everything."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def run(options: Access, action: Callable[[Session], Awaitable[None]]) -> None:
    """Run an action on spaces and leave with the exit code of its first failure."""
    log = logging.getLogger("pyvospace.client")
    handler = _Handler(logging.WARNING)
    log.addHandler(handler)
    log.propagate = False
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        failure = asyncio.run(_run(options, action))
        sys.stdout.flush()
    finally:
        log.removeHandler(handler)
        log.propagate = True
    if failure is not None:
        raise typer.Exit(failure.exit_code if isinstance(failure, Fault) else 1)


async def _run(options: Access, action: Callable[[Session], Awaitable[None]]) -> Fault | OSError | None:
    async with Session(options) as session:
        with session.excused():
            await action(session)
        await session.advise()
    return session.failure
