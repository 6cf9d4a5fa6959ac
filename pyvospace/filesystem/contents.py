"""The bytes of nodes: whole, in parts, and as open files."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from fsspec.asyn import _run_coros_in_chunks
from fsspec.callbacks import DEFAULT_CALLBACK

from pyvospace.client import Space
from pyvospace.client.conditions import Condition
from pyvospace.client.media import content_type_of
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.reader import Reader
from pyvospace.filesystem.failures import failure_of, plain, translated
from pyvospace.filesystem.files import AsyncReadFile, AsyncWriteFile, ReadFile, WriteFile, Writing
from pyvospace.filesystem.information import Info, described
from pyvospace.filesystem.nodes import Nodes
from pyvospace.model.faults import ContainerNotFound, Fault, NodeNotFound, PreconditionFailed, RangeNotSatisfiable
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType

_CREATE: Final = "create"
"""Mode of `pipe_file` and `put_file` that replaces nothing."""


class Contents(Nodes):
    """The bytes of nodes."""

    # ------------------------------------------------------------------ reading

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        path = self._strip_protocol(path)
        first = start or 0
        if end is not None and (first < 0 or end < 0):
            reader, _info = await self._reader(path)
            begin, stop, _step = slice(first, end).indices(reader.size)
            return await self._part(reader, begin, stop, path)
        if end is not None and end <= first:
            return b""
        space, uri = await self._place(path)
        try:
            async with aclosing(space.read(uri, start=first, stop=end)) as pieces:
                return b"".join([piece async for piece in pieces])
        except RangeNotSatisfiable:
            return b""
        except Fault as fault:
            raise await self._refused(fault, path) from fault

    async def _cat(self, path: str | list[str], recursive: bool = False, **options: Any) -> Any:
        """Read whole files; with `recursive` all that are below containers, which fsspec would try to read too."""
        if recursive:
            path = [file for top in await self._expand_path(path) for file in await self._find(top)]
        return await super()._cat(path, **options)

    async def _refused(self, fault: Fault, path: str) -> OSError:
        """Find out why a node cannot be read: it may hold no bytes."""
        if not isinstance(fault, NodeNotFound) and await self._isdir(path):
            return plain(errno.EISDIR, path)
        return failure_of(fault, path)

    async def _reader(self, path: str, etag: str | None = None) -> tuple[Reader, Info]:
        """Make ready to read parts of a file, all of one version: of that one, if it is named."""
        space, uri, entry = await self._end(path)
        if entry.type is NodeType.CONTAINER:
            raise plain(errno.EISDIR, path)
        with translated(path):
            reader = await space.reader(uri, known=entry)
        if etag not in {None, reader.etag}:
            raise OSError(errno.ESTALE, "the file has other bytes by now", path)
        return reader, described(path, entry)

    async def _part(self, reader: Reader, start: int, stop: int, path: str) -> bytes:
        with translated(path):
            return await reader.read(start, stop) if start < stop else b""

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        *,
        batch_size: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Read parts of files, many at once; all parts of one file are of one version."""
        if max_gap is not None:
            raise NotImplementedError
        if not isinstance(paths, list):
            raise TypeError("paths are to be a list")
        wanted = list(zip(paths, _for_each(starts, paths), _for_each(ends, paths), strict=True))
        readers: dict[str, asyncio.Task[tuple[Reader, Info]]] = {}
        found: list[Any] = await _run_coros_in_chunks(
            [self._range(readers, path, start, end, alone=paths.count(path) == 1) for path, start, end in wanted],
            batch_size=batch_size or self.batch_size,
            return_exceptions=on_error == "return",
        )
        return found

    async def _range(
        self,
        readers: dict[str, asyncio.Task[tuple[Reader, Info]]],
        path: str,
        start: int | None,
        end: int | None,
        *,
        alone: bool,
    ) -> bytes:
        path = self._strip_protocol(path)
        if alone:
            return await self._cat_file(path, start=start, end=end)
        if path not in readers:
            readers[path] = asyncio.ensure_future(self._reader(path))
        reader, _ = await readers[path]
        begin, stop, _step = slice(start, end).indices(reader.size)
        return await self._part(reader, begin, stop, path)

    async def _get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **_: Any) -> None:
        """Fetch a file; what is there of it from an earlier try is not fetched again."""
        rpath = self._strip_protocol(rpath)
        space, uri = await self._place(rpath)
        if hasattr(lpath, "write"):
            await self._pull(space, uri, lpath, callback, rpath)
            return
        target = Path(lpath)
        try:
            await self._pull(space, uri, target, callback, rpath)
        except IsADirectoryError:
            # It is what is here, or what is there, or both.
            if not await self._isdir(rpath):
                raise
            await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)

    async def _pull(self, space: Space, uri: NodeUri, target: Path | BinaryIO, callback: Any, path: str) -> None:
        try:
            await space.pull(uri, target, progress=_Told(callback))
        except Fault as fault:
            raise await self._refused(fault, path) from fault

    # ------------------------------------------------------------------ writing

    async def _pipe_file(self, path: str, value: Any, mode: str = "overwrite", **_: Any) -> None:
        await self._store(path, bytes(value), Condition.new() if mode == _CREATE else None)

    async def _put_file(
        self, lpath: Any, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **_: Any
    ) -> None:
        """Send a file; a large one so that it can be resumed."""
        source = Path(lpath)
        if await asyncio.to_thread(source.is_dir):
            await self._makedirs(rpath, exist_ok=True)
            return
        condition = Condition.new() if mode == _CREATE else None
        await self._store(rpath, source, condition, progress=_Told(callback))

    async def _store(
        self, path: str, source: bytes | Path, condition: Condition | None = None, *, progress: Progress = SILENT
    ) -> None:
        """Store bytes at a node, and make the containers above if that is wanted.

        Raises
        ------
        FileExistsError
            Nothing was to be replaced, and there is something.
        """
        path = self._strip_protocol(path)
        space, uri = await self._place(path)
        kind = content_type_of(uri.name)
        push = partial(space.push, source, uri, content_type=kind, condition=condition, progress=progress)
        try:
            with translated(path):
                if await _lacks_container(push, excused=self.auto_mkdir and bool(uri.path)):
                    await self._make_parent(space, uri, path)
                    await push()
        except OSError as error:
            if isinstance(error.__cause__, PreconditionFailed) and condition == Condition.new():
                raise plain(errno.EEXIST, path) from None
            if await self._isdir(path):
                raise plain(errno.EISDIR, path) from None
            raise
        finally:
            self.invalidate_cache(path)

    # ------------------------------------------------------------------ open files

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        *,
        cache_options: dict[str, Any] | None = None,
        cache_type: str | None = None,
        **options: Any,
    ) -> Any:
        kind = ReadFile if mode == "rb" else WriteFile
        return kind(
            self,
            path,
            mode,
            block_size or self.blocksize,
            autocommit=autocommit,
            cache_type=cache_type or self.cache_type,
            cache_options=cache_options or self.cache_options,
            **options,
        )

    async def open_async(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file whose methods are coroutines: ``rb``, ``wb``, ``xb`` or ``ab``."""
        if "b" not in mode or options.get("compression"):
            raise ValueError("a file of coroutines is binary and not compressed")
        path = self._strip_protocol(path)
        if mode == "rb":
            reader, info = await self._reader(path, options.get("etag"))
            return AsyncReadFile(self, path, reader=reader, info=info, **options)
        writing = Writing(self, path, mode)
        return AsyncWriteFile(self, path, writing, await writing.begin())


async def _lacks_container(push: Callable[[], Awaitable[object]], *, excused: bool) -> bool:
    """Push, and say whether it failed since there is no container, if that is excused."""
    try:
        await push()
    except (ContainerNotFound, NodeNotFound):
        if not excused:
            raise
        return True
    return False


def _for_each(bounds: Any, paths: list[str]) -> list[int | None]:
    return list(bounds) if isinstance(bounds, Iterable) else [bounds] * len(paths)


class _Told:
    """Tells a callback of fsspec how far a transfer has come."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback

    def expect(self, total: int | None) -> None:
        """Hear how many bytes there are."""
        self._callback.set_size(total)

    def advance(self, count: int) -> None:
        """Hear that so many bytes more have moved."""
        self._callback.relative_update(count)
