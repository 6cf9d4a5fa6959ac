"""Spaces as a file system of fsspec."""

from __future__ import annotations

import errno
import hashlib
import secrets
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fsspec.asyn import _run_coros_in_chunks, sync_wrapper
from fsspec.implementations.local import trailing_sep
from fsspec.utils import other_paths

from pyvospace.client import Space
from pyvospace.client.conditions import Condition
from pyvospace.filesystem.contents import Contents
from pyvospace.filesystem.failures import plain, translated
from pyvospace.filesystem.information import version_of
from pyvospace.filesystem.nodes import MAGIC
from pyvospace.filesystem.paths import below
from pyvospace.model.entries import write_file_time
from pyvospace.model.faults import ContainerNotFound, NodeNotFound
from pyvospace.model.instants import read_instant
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import BTIME, FILE_TIME, NodeType

_BESIDE: Final = ".copy-"
"""What the name of a copy begins with until it replaces a file."""


class VOSpaceFileSystem(Contents):
    """The spaces of a user, for fsspec and everything that reads and writes through it.

    Parameters
    ----------
    endpoint_url
        Base URL of the service of the default space. If this and what follows is not given, it is found as the
        command line finds it: in the environment (VOSPACE_URL, VOSPACE_TOKEN and so on), in
        ``~/.config/pyvospace/client.toml`` and among kept logins.
    token
        Bearer token; else `user` and `password`.
    authority
        Name of the default space.
    ca_file
        Certificates (PEM) to trust besides the system's.
    auto_mkdir
        Whether containers that are missing above a new file are made, as stores of objects have it.
    block_size, cache_type, cache_options
        How open files read ahead and what they keep, unless they are opened with something else.
    use_listings_cache
        Whether listings are kept, for `listings_expiry_time` seconds (None: until this object changes something there):
        only for spaces that nobody else changes.
    batch_size
        Requests of one call at once.

    Notes
    -----
    ``/home/x`` is a path in the default space, ``authority/home/x`` one in the space of that name; URLs are
    ``vos://authority/home/x``, ``pyvospace://authority/home/x`` (the same), and ``pyvospace:///home/x``.
    """

    # ------------------------------------------------------------------ copied and moved by the service

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file, in the place of what is there; a container is made, without what is in it."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        if path1 == path2:
            return
        source = await self._end(path1)
        uri, entry = source[1:]
        if entry.type is NodeType.CONTAINER:
            await self._makedirs(path2, exist_ok=True)
            return
        space, target = await self._place(path2)
        if uri.authority != target.authority:
            await self._carry(path1, path2)
            return
        with translated(path2):
            there = await self._type_of(space, target)
            if there is NodeType.CONTAINER:
                raise plain(errno.EISDIR, path2)
            if there is None:
                await self._copied(space, uri, target, path2)
            else:
                await self._copied_over(space, uri, target)
        self.invalidate_cache(path2)

    async def _type_of(self, space: Space, uri: NodeUri) -> NodeType | None:
        there = await space.find_entry(uri)
        return None if there is None else there.type

    async def _copied(self, space: Space, uri: NodeUri, target: NodeUri, path: str) -> None:
        try:
            await space.copy(uri, target)
        except (ContainerNotFound, NodeNotFound):
            if not self.auto_mkdir:
                raise
            await self._make_parent(space, target, path)
            await space.copy(uri, target)

    async def _copied_over(self, space: Space, uri: NodeUri, target: NodeUri) -> None:
        """Copy beside what is there, then put the copy in its place: there is never nothing, and never half of it."""
        beside = target.parent.child(f"{_BESIDE}{secrets.token_hex(8)}")
        await space.copy(uri, beside)
        try:
            await space.move(beside, target, replace=True)
        except BaseException:
            await space.delete_node(beside)
            raise

    async def _carry(self, path1: str, path2: str) -> None:
        """Copy a file from one space to another, by way of here."""
        with tempfile.TemporaryDirectory(prefix="pyvospace-") as directory:
            local = Path(directory, "content")
            await self._get_file(path1, local)
            await self._store(path2, local)

    async def _copy(self, path1: Any, path2: Any, recursive: bool = False, **options: Any) -> None:
        """Copy files; a whole tree to where nothing is by one job of the service."""
        if recursive and options.get("maxdepth") is None and _one(path1) and _one(path2):
            target = await self._target(path1, path2)
            top = self._strip_protocol(path1)
            if await self._isdir(top) and await self._copied_tree(top, target):
                return
        await super()._copy(path1, path2, recursive=recursive, **options)

    async def _copied_tree(self, path1: str, path2: str) -> bool:
        """Copy a container with all that is in it, unless something is there, or it is another space."""
        uri = (await self._end(path1))[1]
        space, target = await self._place(path2)
        if uri.authority != target.authority:
            return False
        with translated(path2):
            if await self._type_of(space, target) is not None:
                return False
            await self._copied(space, uri, target, path2)
        self.invalidate_cache(path2)
        return True

    async def _target(self, path1: str, path2: str) -> str:
        """Say where one node goes to: into a container that is there, else to that path."""
        target = self._strip_protocol(path2)
        into = (trailing_sep(path2) or await self._isdir(target)) and not trailing_sep(path1)
        return below(target, self._strip_protocol(path1).rpartition("/")[2]) if into else str(target)

    async def _mv_file(self, path1: str, path2: str) -> None:
        """Move a node, in the place of a file or an empty container that is there."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        if path1 == path2:
            return
        uri = (await self._place(path1))[1]
        space, target = await self._place(path2)
        if uri.authority != target.authority:
            await self._copy(path1, path2, recursive=True, on_error="raise")
            await self._rm(path1, recursive=True)
            return
        with translated(path2):
            try:
                await space.move(uri, target, replace=True)
            except (ContainerNotFound, NodeNotFound):
                if not self.auto_mkdir or not await self._exists(path1):
                    raise
                await self._make_parent(space, target, path2)
                await space.move(uri, target, replace=True)
        self.invalidate_cache(path1)
        self.invalidate_cache(path2)

    async def _mv(self, path1: Any, path2: Any, **_: Any) -> None:
        """Move nodes, each with all that is below it and by one request."""
        if isinstance(path1, str) and isinstance(path2, str) and not MAGIC.search(path1):
            await self._mv_file(path1, await self._target(path1, path2))
            return
        sources = path1 if isinstance(path2, list) else await self._expand_path(path1)
        targets = path2 if isinstance(path2, list) else other_paths(sources, self._strip_protocol(path2), flatten=True)
        await _run_coros_in_chunks(
            [self._mv_file(one, other) for one, other in zip(sources, targets, strict=True)],
            batch_size=self.batch_size,
        )

    mv = sync_wrapper(_mv)

    # ------------------------------------------------------------------ facts about one node

    async def _touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Make an empty file; with `truncate` False a file that is there keeps its bytes and gets the time of now."""
        if truncate:
            await self._store(path, b"")
            return
        try:
            space, uri, entry = await self._end(self._strip_protocol(path))
        except FileNotFoundError:
            await self._store(path, b"", Condition.new())
            return
        now = write_file_time(int(datetime.now(UTC).timestamp() * 1e6) * 1000)
        with translated(path):
            await space.set_node(Node(uri, entry.type, (Property(FILE_TIME, now),)))
        self.invalidate_cache(path)

    touch = sync_wrapper(_touch)

    async def _created(self, path: str) -> datetime:
        """Tell when a node was made."""
        space, uri, entry = await self._end(self._strip_protocol(path))
        with translated(path):
            told = (await space.get_node(uri)).value(BTIME)
            return entry.changed if told is None else read_instant(told)

    created = sync_wrapper(_created)

    async def _modified(self, path: str) -> datetime:
        """Tell when a file was changed, as who brought it said, else when it came."""
        modified: datetime = (await self._info(path))["mtime"]
        return modified

    modified = sync_wrapper(_modified)

    async def _ukey(self, path: str) -> str:
        """Name the bytes of a file: other bytes have another name, the same bytes always this one."""
        return hashlib.sha256(version_of(await self._info(path)).encode()).hexdigest()

    ukey = sync_wrapper(_ukey)

    async def _checksum(self, path: str, refresh: bool = False) -> int:
        """Give the same as a number."""
        if refresh:
            self.invalidate_cache(path)
        return int(await self._ukey(path), 16)

    checksum = sync_wrapper(_checksum)

    async def _sign(self, path: str, expiration: float = 100, **_: Any) -> str:
        """Make a URL at which anybody may read a file for so many seconds; `pyvospace share` lists and revokes them."""
        path = self._strip_protocol(path)
        space, uri, entry = await self._end(path)
        if entry.type is NodeType.CONTAINER:
            raise plain(errno.EISDIR, path)
        with translated(path):
            return (await space.share(uri, life=timedelta(seconds=expiration))).url

    sign = sync_wrapper(_sign)


def _one(path: Any) -> bool:
    return isinstance(path, str) and not MAGIC.search(path)
