"""The tree of nodes: told, listed, searched, made and deleted."""

from __future__ import annotations

import errno
import re
from contextlib import aclosing
from typing import Any, Final

from fsspec.asyn import _run_coros_in_chunks, sync_wrapper
from fsspec.utils import glob_translate

from pyvospace.client import Space
from pyvospace.client.entries import entry_of
from pyvospace.filesystem.base import Base
from pyvospace.filesystem.failures import plain, translated
from pyvospace.filesystem.information import DIRECTORY, Info, described
from pyvospace.filesystem.paths import below
from pyvospace.model.entries import Entry
from pyvospace.model.faults import ContainerNotFound, DuplicateNode, Fault, InvalidURI, NodeNotFound, PermissionDenied
from pyvospace.model.searches import LONGEST, Conditions, Glob
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType

_HOPS: Final = 20
MAGIC: Final = re.compile(r"[*?\[]")


class Nodes(Base):
    """The tree of nodes."""

    # ------------------------------------------------------------------ what is there

    async def _info(self, path: str, **_: Any) -> Info:
        path = self._strip_protocol(path)
        kept = self._kept(path)
        if kept is not None:
            return kept
        space, uri = await self._place(path)
        with translated(path):
            itself = await space.entry(uri)
            end = (await _end_of(space, uri, itself))[1]
        link = {"islink": True, "destination": itself.target} if itself.type is NodeType.LINK else {}
        return described(path, end) | link

    async def _exists(self, path: str, **_: Any) -> bool:
        """Say whether there is a node; what can be no name of one is nowhere."""
        try:
            await self._info(path)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EINVAL}:
                return False
            raise
        return True

    async def _end(self, path: str) -> tuple[Space, NodeUri, Entry]:
        """Give the node at a path, or the one that it leads to if it is a link."""
        space, uri = await self._place(path)
        with translated(path):
            return space, *await _end_of(space, uri, await space.entry(uri))

    async def _ls(self, path: str, detail: bool = True, refresh: bool = False, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        infos: list[Info] | None = None if refresh else self.dircache.get(path)
        if infos is None:
            infos = await self._listed(path)
            self.dircache[path] = infos
        return infos if detail else [one["name"] for one in infos]

    async def _listed(self, path: str) -> list[Info]:
        """List a container, also one that a link leads to; a file lists itself."""
        space, uri = await self._place(path)
        with translated(path):
            refusal: Fault | None = None
            try:
                infos = await _children(space, uri, path)
            except PermissionDenied as fault:
                infos, refusal = [], fault
            if infos:
                return infos
            end, entry = await _end_of(space, uri, await space.entry(uri))
            if entry.type is not NodeType.CONTAINER:
                return [await self._info(path)]
            if refusal is not None:
                raise refusal
            return [] if end == uri else await _children(space, end, path)

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        *,
        detail: bool = False,
        named: str | None = None,
        levels: tuple[str, ...] = (),
        **_: Any,
    ) -> Any:
        """Find all below a container, by a search of the service if all levels are wanted.

        Parameters
        ----------
        named
            Pattern that last names are to fit; others may come all the same.
        levels
            Patterns of the containers that are worth looking into, level by level.
        """
        path = self._strip_protocol(path)
        try:
            top = await self._info(path)
        except FileNotFoundError:
            return {} if detail else []
        if top["type"] != DIRECTORY:
            found = {path: top}
        else:
            below_it = await self._below(path, maxdepth, named, levels)
            found = {name: one for name, one in below_it.items() if withdirs or one["type"] != DIRECTORY}
            found |= {path: top} if withdirs else {}
        return dict(sorted(found.items())) if detail else sorted(found)

    async def _below(
        self, path: str, maxdepth: int | None, named: str | None, levels: tuple[str, ...]
    ) -> dict[str, Info]:
        """Find what is below a container in the way that takes the least: a few listings, or one search."""
        if maxdepth is None:
            found = await self._walked(path, maxdepth, most=self.batch_size) if named is None else None
            if found is None:
                found = await self._searched(path, named)
            if found is not None:
                return found
        return await self._walked(path, maxdepth, levels) or {}

    async def _searched(self, path: str, named: str | None) -> dict[str, Info] | None:
        """Find what is below a container by one search; None: there is a link on the way to it."""
        space, uri, _ = await self._end(path)
        found: dict[str, Info] = {}
        depth = len(uri.path)
        with translated(path):
            wanted = Conditions(name=None if named is None else Glob(named))
            async with aclosing(space.search(uri, wanted)) as nodes:
                async for node in nodes:
                    if node.uri.path[:depth] != uri.path:
                        return None
                    name = below(path, "/".join(node.uri.path[depth:]))
                    found[name] = described(name, entry_of(node))
        return found

    async def _walked(
        self, path: str, maxdepth: int | None, levels: tuple[str, ...] = (), most: int | None = None
    ) -> dict[str, Info] | None:
        """Find what is below a container level by level; links are not followed, what cannot be listed is empty.

        None: there are more than `most` containers.
        """
        found: dict[str, Info] = {}
        containers, depth, listed = [path], 0, 0
        while containers and (maxdepth is None or depth < maxdepth):
            listed += len(containers)
            if most is not None and listed > most:
                return None
            infos = await self._listings(containers, strict=depth == 0)
            found |= {info["name"]: info for info in infos}
            inner = [one["name"] for one in infos if one["type"] == DIRECTORY]
            containers = _fitting(inner, levels[depth : depth + 1])
            depth += 1
        return found

    async def _listings(self, containers: list[str], *, strict: bool) -> list[Info]:
        listings = await _run_coros_in_chunks(
            [self._ls(one) for one in containers], batch_size=self.batch_size, return_exceptions=not strict
        )
        return [info for one in listings for info in _listing(one)]

    async def _glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """Find what fits a pattern; the service is told as much of it as it understands."""
        names = self._strip_protocol(path).split("/")
        first = next((index for index, name in enumerate(names) if MAGIC.search(name)), len(names))
        if "**" not in path:
            options["levels"] = tuple(names[first:])
        elif maxdepth is None and "**" not in names[-1] and "[" not in names[-1] and len(names[-1]) <= LONGEST:
            options["named"] = names[-1]
        return await super()._glob(path, maxdepth=maxdepth, **options)

    async def _du(self, path: str, total: bool = True, maxdepth: int | None = None, **options: Any) -> Any:
        found = await self._find(path, maxdepth=maxdepth, detail=True, **options)
        sizes = {name: info["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    # ------------------------------------------------------------------ made and deleted

    async def _mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        if not await self._ensure(path, parents=create_parents):
            raise plain(errno.EEXIST, path)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not await self._ensure(path, parents=True) and not exist_ok:
            raise plain(errno.EEXIST, path)

    async def _ensure(self, path: str, *, parents: bool) -> bool:
        path = self._strip_protocol(path)
        space, uri = await self._place(path)
        with translated(path):
            made = await space.ensure_container(uri, parents=parents)
        if made:
            self.invalidate_cache(path)
        return made

    async def _rmdir(self, path: str) -> None:
        path = self._strip_protocol(path)
        space, uri = await self._place(path)
        with translated(path):
            if (await space.entry(uri)).type is not NodeType.CONTAINER:
                raise plain(errno.ENOTDIR, path)
            await self._delete_empty(space, uri, path)

    rmdir = sync_wrapper(_rmdir)

    async def _rm_file(self, path: str, **_: Any) -> None:
        """Delete a file or a link, or a container that is empty: never what is in one."""
        path = self._strip_protocol(path)
        space, uri = await self._place(path)
        with translated(path):
            if (await space.entry(uri)).type is NodeType.CONTAINER:
                await self._delete_empty(space, uri, path)
            else:
                await space.delete_node(uri, only_empty=True)
        self.invalidate_cache(path)

    async def _delete_empty(self, space: Space, uri: NodeUri, path: str) -> None:
        # Services that are not of ours may not know the condition of the deletion, and delete everything.
        async with aclosing(space.entries(uri, page=1)) as children:
            async for _ in children:
                raise plain(errno.ENOTEMPTY, path)
        await space.delete_node(uri, only_empty=True)
        self.invalidate_cache(path)

    async def _rm(
        self,
        path: str | list[str],
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        """Delete files; with `recursive` trees, each by one request."""
        at_once = batch_size or self.batch_size
        if not recursive or maxdepth is not None:
            doomed = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
            for depth in sorted({one.count("/") for one in doomed}, reverse=True):
                level = [self._rm_file(one) for one in doomed if one.count("/") == depth]
                await _run_coros_in_chunks(level, batch_size=at_once)
            return
        tops = await self._expand_path(path)
        doomed = [one for one in tops if not any(one.startswith(f"{top}/") for top in tops)]
        await _run_coros_in_chunks([self._rm_tree(one) for one in doomed], batch_size=at_once)

    async def _rm_tree(self, path: str) -> None:
        space, uri = await self._place(path)
        with translated(path):
            await space.delete_node(uri)
        self.invalidate_cache(path)

    async def _make_parent(self, space: Space, uri: NodeUri, path: str) -> None:
        """Make the container of a node, and those above.

        Raises
        ------
        NotADirectoryError
            Something else is there.
        """
        try:
            await space.ensure_container(uri.parent, parents=True)
        except DuplicateNode:
            raise plain(errno.ENOTDIR, path) from None
        self.invalidate_cache(self._parent(path))


async def _children(space: Space, uri: NodeUri, path: str) -> list[Info]:
    async with aclosing(space.entries(uri)) as children:
        return [described(below(path, child.name), child) async for child in children]


async def _end_of(space: Space, uri: NodeUri, entry: Entry) -> tuple[NodeUri, Entry]:
    """Follow a link to what it leads to; what cannot be reached is the link itself."""
    start = uri, entry
    for _ in range(_HOPS):
        if entry.type is not NodeType.LINK:
            return uri, entry
        try:
            uri = await space.uri(entry.target or "")
            entry = await space.entry(uri)
        except (InvalidURI, NodeNotFound, ContainerNotFound):
            return start
    return start


def _listing(found: list[Info] | Exception) -> list[Info]:
    """Give what a listing brought; nothing if it was refused, or if the container has gone meanwhile."""
    if isinstance(found, FileNotFoundError | PermissionError | NotADirectoryError):
        return []
    if isinstance(found, Exception):
        raise found
    return found


def _fitting(containers: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Leave out the containers whose names do not fit the pattern, if there is one."""
    if not patterns:
        return containers
    wanted = re.compile(glob_translate(patterns[0]))
    return [one for one in containers if wanted.match(one.rpartition("/")[2])]
