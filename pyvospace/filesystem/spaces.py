"""The spaces that one file system object reaches, with connections of their own for each event loop."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from pyvospace.client import Access, Space, Spaces, find_spaces
from pyvospace.client.access import PREFIX, config_file
from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import NodeUri

_ALL: Final[WeakSet[OpenSpaces]] = WeakSet()
_PATIENCE: Final = 2.0
"""Seconds for connections to be closed at the end of the program."""


class OpenSpaces:
    """Finds spaces as the command line does: options, environment, ``~/.config/pyvospace/client.toml``.

    What environment and file say is looked at again when they have changed: file system objects are kept by fsspec as
    long as the program runs.
    """

    def __init__(self, options: Access) -> None:
        self._options = options
        self._stamp: object = None
        self._process = os.getpid()
        self._known: Spaces = self._find()
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Access, Space]] = WeakKeyDictionary()
        _ALL.add(self)

    def _find(self) -> Spaces:
        stamp = _stamp()
        if stamp != self._stamp:
            self._known = find_spaces(self._options)
            self._stamp = stamp
        return self._known

    async def place(self, authority: str | None, names: tuple[str, ...]) -> tuple[Space, NodeUri]:
        """Give the space, and what it calls the node.

        Raises
        ------
        FileNotFoundError
            No space of that name is known.
        """
        known = self._find()
        try:
            space = self._space(known.of(authority))
        except InvalidURI as fault:
            raise _unknown(fault.detail, authority, names) from None
        own = await space.authority()
        if authority not in {None, own}:
            raise _unknown(f"no space {authority} is known", authority, names)
        return space, NodeUri(own, names)

    def _space(self, access: Access) -> Space:
        of_loop = self._open.setdefault(asyncio.get_running_loop(), {})
        if access.url is None:
            raise ValueError(
                f"no service is named: set VOSPACE_URL, or the storage option endpoint_url, or write {config_file()}"
            )
        if access not in of_loop:
            of_loop[access] = Space.of(access)
        return of_loop[access]

    async def close(self) -> None:
        """Close the connections of this loop; they come again when they are needed."""
        for space in self._open.pop(asyncio.get_running_loop(), {}).values():
            await space.close()

    def disown(self) -> None:
        """Leave all connections to the process that this one was forked from."""
        for space in [space for spaces in self._open.values() for space in spaces.values()]:
            space.disown()
        self._open.clear()
        self._process = os.getpid()

    def abandon(self) -> None:
        """Close the connections of all loops from outside of them, at the end."""
        if self._process != os.getpid():
            self.disown()
        for loop in list(self._open):
            closing = self.close()
            try:
                _run(loop, closing)
            except (RuntimeError, TimeoutError):  # the loop has ended, or will not answer any more
                closing.close()


def _unknown(words: str, authority: str | None, names: tuple[str, ...]) -> FileNotFoundError:
    path = "/".join((authority or "", *names))
    return FileNotFoundError(errno.ENOENT, f"{words}; a path in the default space begins with a slash", path)


def _run(loop: asyncio.AbstractEventLoop, closing: Coroutine[Any, Any, None]) -> None:
    if not loop.is_running():
        loop.run_until_complete(closing)
        return
    closed = asyncio.run_coroutine_threadsafe(closing, loop)
    if not _is_running_here(loop):
        closed.result(_PATIENCE)


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _stamp() -> object:
    """Tell one state of environment and file from another."""
    said = tuple(sorted(item for item in os.environ.items() if item[0].startswith(PREFIX)))
    file = config_file()
    with suppress(OSError):
        state = file.stat()
        return said, file, state.st_mtime_ns, state.st_size, state.st_ino
    return said, file


def _disown_all() -> None:
    for spaces in list(_ALL):
        spaces.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
