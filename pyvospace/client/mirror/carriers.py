"""The ways of bytes from one side to the other."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from pyvospace.client.media import content_type_of
from pyvospace.client.mirror.items import Item, Kind, Names
from pyvospace.client.mirror.sides import LocalSide, Side, SpaceSide
from pyvospace.model.faults import InvalidArgument

if TYPE_CHECKING:
    from pyvospace.client.progress import Progress

_MARK: Final = 8
"""Random bytes in the name that a copy has until it takes the place of what is there."""


class Carrier(ABC):
    """Copies single files."""

    takes_links: bool = False
    """Links are copied as links; else they are left out."""
    takes_trees: bool = False
    """A folder that is not there yet is copied with all that is in it by one call."""
    replaces: frozenset[Kind] = frozenset({Kind.FILE})
    """What a file or link takes the place of, without that it is deleted before."""

    @abstractmethod
    async def copy(self, path: Names, item: Item, there: Item | None, progress: Progress) -> None:
        """Copy an item, in place of what is there."""


class Upwards(Carrier):
    """From this machine into a space."""

    def __init__(self, source: LocalSide, target: SpaceSide) -> None:
        self.source = source
        self.target = target

    async def copy(self, path: Names, item: Item, there: Item | None, progress: Progress) -> None:  # noqa: ARG002
        """Push a file, with its time."""
        await self.target.space.push(
            self.source.path(path),
            self.target.uri(path),
            content_type=content_type_of(item.name),
            mtime=item.mtime_ns,
            progress=progress,
        )


class Downwards(Carrier):
    """From a space to this machine."""

    replaces = frozenset({Kind.FILE, Kind.LINK})

    def __init__(self, source: SpaceSide, target: LocalSide) -> None:
        self._source = source
        self._target = target

    async def copy(self, path: Names, item: Item, there: Item | None, progress: Progress) -> None:  # noqa: ARG002
        """Fetch a file, and give it the time that it has in the space."""
        await self._source.space.pull_file(self._source.uri(path), self._target.path(path), progress=progress)
        await self._target.date(path, item)


class Across(Carrier):
    """Within a space: the service copies, and no byte comes here."""

    takes_links = True
    takes_trees = True
    replaces = frozenset({Kind.FILE, Kind.LINK})

    def __init__(self, source: SpaceSide, target: SpaceSide) -> None:
        self._source = source
        self._target = target
        self._space = target.space

    async def copy(self, path: Names, item: Item, there: Item | None, progress: Progress) -> None:  # noqa: ARG002
        """Copy a node; one that is there is replaced by the complete copy."""
        source, target = self._source.uri(path), self._target.uri(path)
        if there is None:
            await self._space.copy(source, target)
            return
        beside = target.parent.child(f".sync-{secrets.token_hex(_MARK)}")
        await self._space.copy(source, beside)
        try:
            await self._space.move(beside, target, replace=True)
        except BaseException:
            await asyncio.shield(self._space.delete_node(beside))
            raise


class Between(Carrier):
    """From one service to another, which fetches the bytes by itself."""

    def __init__(self, source: SpaceSide, target: SpaceSide) -> None:
        self._source = source
        self._target = target

    async def copy(self, path: Names, item: Item, there: Item | None, progress: Progress) -> None:  # noqa: ARG002
        """Have the bytes fetched, and note the time of the file."""
        urls = await self._source.space.locate(self._source.uri(path))
        await self._target.space.pull_to(self._target.uri(path), *urls)
        await self._target.date(path, item)


def carrier_for(source: Side, target: Side) -> Carrier:
    """Choose the way from one side to the other.

    Raises
    ------
    InvalidArgument
        No side is in a space.
    """
    if isinstance(source, LocalSide):
        if isinstance(target, LocalSide):
            raise InvalidArgument("one side must be in a space: vos:path (rsync mirrors folders of this machine)")
        return Upwards(source, target)
    if isinstance(target, LocalSide):
        return Downwards(source, target)
    return Across(source, target) if source.space is target.space else Between(source, target)
