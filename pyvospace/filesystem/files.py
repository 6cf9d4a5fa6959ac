"""Open files: read in blocks of one version, written as a whole when they are closed."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from fsspec.asyn import AbstractAsyncStreamedFile, sync
from fsspec.spec import AbstractBufferedFile

from pyvospace.client.conditions import Condition
from pyvospace.filesystem.bodies import Body
from pyvospace.filesystem.failures import plain

if TYPE_CHECKING:
    from pyvospace.client.reader import Reader
    from pyvospace.filesystem.contents import Contents
    from pyvospace.filesystem.information import Info

_WRITING: Final = frozenset({"wb", "xb", "ab"})


class ReadFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read. All that it gives is of the version that was there when it was opened."""

    def __init__(self, fs: Contents, path: str, mode: str, block_size: int, **options: Any) -> None:
        self._reader, self._details = sync(fs.loop, fs._reader, path, options.pop("etag", None))
        options["size"] = self._reader.size
        super().__init__(fs, path, mode, block_size, **options)
        self.kwargs["etag"] = self._reader.etag  # a copy in another process is of the same version

    def _fetch_range(self, start: int, end: int) -> bytes:
        found: bytes = sync(self.fs.loop, self.fs._part, self._reader, start, end, self.path)
        return found


class Writing:
    """What is written to one node, until it is sent."""

    def __init__(self, fs: Contents, path: str, mode: str) -> None:
        if mode not in _WRITING:
            raise ValueError(f"no mode {mode!r}: a file is read (rb) or written as a whole (wb, xb, ab)")
        self._fs = fs
        self._path = path
        self._mode = mode
        self._body = Body()
        self._condition: Condition | None = None

    async def begin(self) -> int:
        """Look at what is there, as far as it matters; gives how many bytes go before those that will be written.

        Raises
        ------
        FileExistsError
            Nothing was to be replaced, and there is something.
        """
        if self._mode == "wb":
            return 0
        if not await self._fs._exists(self._path):
            self._condition = Condition.new()
        elif self._mode == "xb":
            raise plain(errno.EEXIST, self._path)
        else:
            await self._fetch()
        return self._body.size

    async def _fetch(self) -> None:
        """Take the bytes that are there: a space has no way to add to them."""
        info = await self._fs._info(self._path)
        if info["size"]:
            file = self._body.file()
            await self._fs._get_file(self._path, file)
            self._body.size = file.tell()
        if info["etag"] is not None:
            self._condition = Condition.matching(info["etag"])

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._body.add(data)

    async def commit(self) -> None:
        """Send everything."""
        try:
            await self._fs._store(self._path, self._body.source(), self._condition)
        finally:
            self._body.discard()

    def discard(self) -> None:
        """Forget everything."""
        self._body.discard()


class WriteFile(AbstractBufferedFile):  # type: ignore[misc]  # as above
    """A file that is written: it is in the space when it has been closed, or when its transaction ends."""

    def __init__(self, fs: Contents, path: str, mode: str, block_size: int, **options: Any) -> None:
        self.closed = True  # if what follows fails there is nothing to be sent
        self._writing = Writing(fs, path, mode)
        before = sync(fs.loop, self._writing.begin)
        options.pop("size", None)
        super().__init__(fs, path, mode, block_size, **options)
        self.loc = before

    def _upload_chunk(self, final: bool = False) -> bool:
        self._writing.add(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Send what was written (at the end of a transaction)."""
        sync(self.fs.loop, self._writing.commit)
        self.fs.invalidate_cache(self.path)

    def discard(self) -> None:
        """Forget what was written."""
        self._writing.discard()


class AsyncReadFile(AbstractAsyncStreamedFile):  # type: ignore[misc]  # as above
    """The same to read, by coroutines and without blocks that are kept."""

    def __init__(self, fs: Contents, path: str, *, reader: Reader, info: Info, **_: Any) -> None:
        self._reader = reader
        self._details = info
        super().__init__(fs, path, "rb", size=reader.size, cache_type="none")

    async def _fetch_range(self, start: int, end: int) -> bytes:
        return await self.fs._part(self._reader, start, end, self.path)  # type: ignore[no-any-return]


class AsyncWriteFile(AbstractAsyncStreamedFile):  # type: ignore[misc]  # as above
    """The same to write."""

    def __init__(self, fs: Contents, path: str, writing: Writing, before: int) -> None:
        self._writing = writing
        super().__init__(fs, path, "wb")  # it knows no other mode to write
        self.loc = before

    async def _upload_chunk(self, final: bool = False) -> bool:
        self._writing.add(self.buffer.getvalue())
        if final:
            await self._writing.commit()
        return True
