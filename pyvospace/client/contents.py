"""The bytes of nodes: pushed, pulled and read in parts (VOSpace 2.1, section 6.4), also as archives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pyvospace.client.conditions import About, Condition
from pyvospace.client.download import Reading
from pyvospace.client.entries import Entries
from pyvospace.client.files import bring, bring_file
from pyvospace.client.negotiation import Endpoints, locate, negotiate, negotiate_package, negotiate_resumable
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.reader import Reader
from pyvospace.client.resumable import push_in_parts
from pyvospace.client.sources import PathSource, Source, source_of
from pyvospace.client.upload import Stored, Upload
from pyvospace.model.archives import TAR, ArchiveFormat
from pyvospace.model.entries import Entry, nanoseconds_of, write_file_time, write_mode
from pyvospace.model.faults import (
    InvalidArgument,
    OperationNotSupported,
    PreconditionFailed,
    ViewNotSupported,
)
from pyvospace.model.nodes import Node, Param, Property, View
from pyvospace.model.uris import NodeUri, encode_path
from pyvospace.model.vocabulary import (
    FILE_MODE,
    FILE_TIME,
    FORMAT,
    PACKAGE_VIEW,
    STANDARD_ENTRIES,
    STANDARD_FILES,
    STANDARD_SYNC,
    STANDARD_SYNC_20,
    Direction,
    NodeType,
)


class Contents(Entries):
    """The bytes of the nodes of one space."""

    async def push(
        self,
        source: Path | bytes | BinaryIO | AsyncIterable[bytes],
        uri: NodeUri | str,
        *,
        size: int | None = None,
        content_type: str | None = None,
        view: View | None = None,
        condition: Condition | None = None,
        mtime: datetime | int | None = None,
        mode: int | None = None,
        progress: Progress = SILENT,
    ) -> Stored:
        """Store bytes at a node, which is made if it is not there (pushToVoSpace).

        Digests are compared with what the service stored. Until all bytes are there the node stays as it was.

        Parameters
        ----------
        source
            A file by its path, an open one (from where it stands), bytes, or a stream of pieces. Only streams cannot
            be sent again after a failure.
        size
            Bytes of a stream, if known.
        view
            What the bytes are, if not just bytes: an archive that a container unpacks (see `push_archive`).
        condition
            What is to be there so that it is replaced. A service that is not ours is asked before, so that somebody
            else may be quicker.
        mtime
            When the file was changed, as a datetime or as nanoseconds since 1970: kept as a property of the node.
        mode
            Permissions of the file, kept in the same way.

        Raises
        ------
        PreconditionFailed
            The condition does not hold; nothing was stored.
        ChecksumMismatch
            The service has stored other bytes than were sent.
        ContentChanged
            The file became another one while it was sent; nothing was stored.
        """
        target = await self.uri(uri)
        ours = await self._offers(STANDARD_ENTRIES)
        bytes_of = await source_of(source, size, md5=not ours)
        about = About(
            content_type=content_type,
            condition=condition,
            mtime=None if mtime is None else nanoseconds_of(mtime),
            mode=mode,
        )
        if condition is not None and not ours:
            await self._require(target, condition)
        stored = await self._push(bytes_of, target, about, view, progress, md5=not ours)
        if not ours:
            await self._keep_file_facts(target, about)
        return stored

    async def _push(
        self, source: Source, target: NodeUri, about: About, view: View | None, progress: Progress, *, md5: bool
    ) -> Stored:
        endpoints = await self._endpoints(target, Direction.PUSH_TO_VOSPACE, view)
        if isinstance(source, PathSource) and view is None and source.is_large:
            begins = partial(self._begin_parts, target, about.condition)
            stored = await push_in_parts(
                self._http, begins, source, endpoints, what=target, about=about, md5=md5, progress=progress
            )
            if stored is not None:
                return stored
        upload = Upload(self._http, endpoints, source, what=target, about=about, md5=md5, progress=progress)
        return await upload.run()

    async def _begin_parts(self, target: NodeUri, condition: Condition | None) -> tuple[str | None, tuple[str, ...]]:
        """Find where a push in parts begins, unless it is in vain: its condition is looked at behind the last byte."""
        if condition is not None:
            there = await self.find_entry(target)
            etag = None if there is None else there.etag
            if etag != condition.etag and (there is None or there.type is not NodeType.LINK):
                raise PreconditionFailed(f"{target} has other bytes than those of the condition")
        return await negotiate_resumable(self._http, await self._url(STANDARD_SYNC, STANDARD_SYNC_20), target)

    async def _require(self, target: NodeUri, condition: Condition) -> None:
        """Look whether a condition holds, for a service that knows none."""
        if condition.etag is not None:
            raise OperationNotSupported(f"{self.url} does not tell by SHA-256 what it replaces")
        if await self.find(target) is not None:
            raise PreconditionFailed(f"{target} is there already")

    async def _keep_file_facts(self, target: NodeUri, about: About) -> None:
        """Keep time and mode of a file at a service that does not take them with the bytes."""
        told = {
            FILE_TIME: None if about.mtime is None else write_file_time(about.mtime),
            FILE_MODE: None if about.mode is None else write_mode(about.mode),
        }
        properties = tuple(Property(uri, value) for uri, value in told.items() if value is not None)
        if properties:
            await self.set_node(Node(target, NodeType.DATA, properties))

    async def read(
        self,
        uri: NodeUri | str,
        *,
        start: int = 0,
        stop: int | None = None,
        view: View | None = None,
        progress: Progress = SILENT,
    ) -> AsyncGenerator[bytes]:
        """Give the bytes of a node in pieces of about 1 MiB (pullFromVoSpace), as a slice of the file would be.

        The digests of a whole file can be compared only behind its last piece: believe the bytes when the iteration
        has ended.

        Parameters
        ----------
        start
            First byte; less than 0: so many from the end.
        stop
            Byte to stop before; None: the end.
        view
            In which the bytes are wanted, one of those that the node provides; None: as they are.

        Raises
        ------
        ChecksumMismatch
            At the end, if the bytes are not those of the service.
        """
        if stop is not None and not 0 <= start < stop:
            raise InvalidArgument(f"no bytes from {start} to before {stop}")
        source = await self.uri(uri)
        endpoints = await self._endpoints(source, Direction.PULL_FROM_VOSPACE, view)
        reading = Reading(self._http, endpoints, what=source, start=start, stop=stop, progress=progress)
        async with aclosing(reading.pieces()) as bytes_of:
            async for piece in bytes_of:
                yield piece

    async def pull(
        self,
        uri: NodeUri | str,
        target: Path | BinaryIO,
        *,
        view: View | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """Fetch the bytes of a node into a file (pullFromVoSpace).

        With a path the bytes come to a ``.part`` file beside it, which is continued if it is there already, and
        which takes its place once its digests are found right. A symbolic link is followed. A path that leads to
        something else than a file (``/dev/stdout``) is written to directly.

        Raises
        ------
        ChecksumMismatch
            The bytes are not those of the service; a file at the path is left as it was.
        """
        source = await self.uri(uri)
        endpoints = await self._endpoints(source, Direction.PULL_FROM_VOSPACE, view)
        await bring(partial(Reading, self._http, endpoints, what=source, progress=progress), target)

    async def pull_file(self, uri: NodeUri | str, target: Path, *, progress: Progress = SILENT) -> None:
        """As `pull` with a path, but what stands there is replaced, a symbolic link too."""
        source = await self.uri(uri)
        endpoints = await self._endpoints(source, Direction.PULL_FROM_VOSPACE, None)
        await bring_file(partial(Reading, self._http, endpoints, what=source, progress=progress), target)

    async def reader(self, uri: NodeUri | str, *, known: Entry | None = None) -> Reader:
        """Make ready to read any parts of the bytes that a node has now, one request each.

        Parameters
        ----------
        known
            The entry of the node, if it was asked for before: then the service is not asked for it again, and the
            bytes are those of its `etag`.
        """
        source = await self.uri(uri)
        endpoints = await self._endpoints(source, Direction.PULL_FROM_VOSPACE, None)
        made = Reader(self._http, endpoints, what=source)
        if known is not None and known.etag is not None:
            made.know(known.etag, known.length or 0)
        else:
            await made.open()
        return made

    async def _endpoints(self, uri: NodeUri, direction: Direction, view: View | None) -> Endpoints:
        url = await self._url(STANDARD_SYNC, STANDARD_SYNC_20)
        quick = None
        if view is None and await self._offers(STANDARD_ENTRIES) and await self._offers(STANDARD_FILES):
            # By path it is one request less, and a pull takes no job. Others may take an empty PUT for the bytes.
            quick = partial(locate, self._http, f"{await self._url(STANDARD_FILES)}/{encode_path(uri.path)}", direction)
        return Endpoints(partial(negotiate, self._http, url, uri, direction, view), quick)

    async def pull_archive(
        self,
        uris: NodeUri | str | Iterable[NodeUri | str],
        target: Path | BinaryIO,
        form: ArchiveFormat = TAR,
        *,
        missing_ok: bool = False,
        progress: Progress = SILENT,
    ) -> None:
        """Fetch a container with all that is in it as one archive (VOSpace 2.1, section 3.4.5).

        Parameters
        ----------
        uris
            The container; or several nodes of any kind, from a service that makes packages as OpenCADC's do.
        target
            As for `pull`. An archive that breaks off cannot be continued.
        missing_ok
            Several nodes are not looked for before: what is missing, or may not be read, is left out without a word.

        Raises
        ------
        ViewNotSupported
            The service packs nothing in this format.
        """
        named = [uris] if isinstance(uris, NodeUri | str) else list(uris)
        if missing_ok and len(named) > 1:
            await self._pull_package([await self.uri(one) for one in named], target, _package_of(form), progress)
            return
        # Each is looked for: the service would leave out of a package what is missing, without a word.
        first, *more = [await self.follow(await self.get_node(uri)) for uri in named]
        view = await self._archive_view(first, form, alone=not more)
        if view.uri != PACKAGE_VIEW:
            await self.pull(first.uri, target, view=view, progress=progress)
        else:
            await self._pull_package([one.uri for one in (first, *more)], target, view, progress)

    async def _pull_package(
        self, sources: Sequence[NodeUri], target: Path | BinaryIO, view: View, progress: Progress
    ) -> None:
        url = await self._url(STANDARD_SYNC, STANDARD_SYNC_20)
        endpoints = Endpoints(partial(negotiate_package, self._http, url, sources, view))
        package = partial(Reading, self._http, endpoints, what=sources[0], credential=True, progress=progress)
        await bring(package, target)

    async def _archive_view(self, node: Node, form: ArchiveFormat, *, alone: bool = True) -> View:
        """Choose what the service calls a container, or a package that it is the first of, as an archive."""
        offered = {one.uri for one in node.provides}
        for name in (form.view, *sorted(form.synonyms)):
            if alone and name in offered:
                return View(name)
        if await self._offers(PACKAGE_VIEW):
            return _package_of(form)
        raise ViewNotSupported(f"{node.uri} is not given as {form.suffix.removeprefix('.')}")

    async def push_archive(
        self,
        source: Path | BinaryIO | AsyncIterable[bytes],
        uri: NodeUri | str,
        form: ArchiveFormat = TAR,
        *,
        progress: Progress = SILENT,
    ) -> None:
        """Unpack an archive into a container that is there; all that is in it becomes nodes, or nothing does.

        Raises
        ------
        ViewNotSupported
            The service unpacks no archives.
        InvalidData
            It is no such archive, or holds what cannot be nodes.
        """
        node = await self.follow(await self.get_node(uri))
        accepted = {one.uri for one in node.accepts}
        names = [one for one in (form.view, *sorted(form.synonyms)) if one in accepted]
        if not names:
            raise ViewNotSupported(f"{node.uri} unpacks no {form.suffix.removeprefix('.')}")
        await self.push(source, node.uri, content_type=form.content_type, view=View(names[0]), progress=progress)


def _package_of(form: ArchiveFormat) -> View:
    return View(PACKAGE_VIEW, params=(Param(FORMAT, form.content_type),))
