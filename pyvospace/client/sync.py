"""The client for programs without coroutines: the same operations, each waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar, cast

from pyvospace.client import reader, space
from pyvospace.client.access import Access, find_spaces
from pyvospace.client.conditions import Condition
from pyvospace.client.http import Timeouts
from pyvospace.client.jobs import Counts, JobList, JobReference, Watch
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.retry import Retry
from pyvospace.client.shares import Share
from pyvospace.client.upload import Stored
from pyvospace.client.versions import Version
from pyvospace.model.archives import TAR, ArchiveFormat
from pyvospace.model.audit import ALL, Filters
from pyvospace.model.entries import Entry
from pyvospace.model.jobs import Job
from pyvospace.model.nodes import Node, Property, View
from pyvospace.model.permissions import Permissions
from pyvospace.model.searches import Conditions
from pyvospace.model.transfers import Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail, Phase

T = TypeVar("T")


class Reader:
    """The bytes that a node had when it was opened, in any order; see `pyvospace.client.Reader`."""

    def __init__(self, reader: reader.Reader, wait: Callable[[Coroutine[Any, Any, bytes]], bytes]) -> None:
        self._reader = reader
        self._wait = wait

    @property
    def etag(self) -> str | None:
        """Tell the SHA-256 of the bytes in hex; None: the service names no version."""
        return self._reader.etag

    @property
    def size(self) -> int:
        """Tell how many bytes the whole has."""
        return self._reader.size

    def read(self, start: int, stop: int) -> bytes:
        """Read from byte `start` to before `stop`."""
        return self._wait(self._reader.read(start, stop))


class Space:
    """A client of one space; see `pyvospace.client.Space` for its parameters and methods.

    Close it at the end, or use it with ``with``. Several threads may use it at once.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        authority: str | None = None,
        home: str | None = None,
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._space = space.Space(
            url,
            token=token,
            user=user,
            password=password,
            authority=authority,
            home=home,
            ca_file=ca_file,
            timeouts=timeouts,
            retry=retry,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pyvospace client", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, access: Access, *, timeouts: Timeouts | None = None, retry: Retry | None = None) -> Self:
        """Make the client of a space that the configuration knows; without another credential, by a login."""
        made = cls(**access.parameters(), timeouts=timeouts, retry=retry)
        made._space.use_login(access)
        return made

    def __enter__(self) -> Self:
        """Connect when the first request comes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections. A second time does nothing."""
        if self._loop.is_closed():
            return
        self._wait(self._space.close())
        self._wait(self._loop.shutdown_asyncgens())
        self._wait(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _iterate(self, items: AsyncGenerator[T]) -> Iterator[T]:
        end = object()

        async def following() -> T | object:
            return await anext(items, end)

        try:
            while (item := self._wait(following())) is not end:
                yield item  # type: ignore[misc]  # what is not the end is an item
        finally:
            self._wait(items.aclose())

    def uri(self, text: NodeUri | str) -> NodeUri:
        """Read a URI in any form."""
        return self._wait(self._space.uri(text))

    def authority(self) -> str:
        """Tell the name of the space."""
        return self._wait(self._space.authority())

    def get_node(self, uri: NodeUri | str, *, detail: Detail = Detail.FULL, limit: int | None = 0) -> Node:
        """Get a node."""
        return self._wait(self._space.get_node(uri, detail=detail, limit=limit))

    def list(self, uri: NodeUri | str, *, detail: Detail = Detail.FULL) -> Iterator[Node]:
        """Give the children of a container as they arrive."""
        return self._iterate(self._space.list(uri, detail=detail))

    def create_node(self, node: Node) -> Node:
        """Create a node."""
        return self._wait(self._space.create_node(node))

    def ensure_container(self, uri: NodeUri | str, *, parents: bool = False) -> bool:
        """Create a container if it is not there already; say whether it was made now."""
        return self._wait(self._space.ensure_container(uri, parents=parents))

    def set_node(self, node: Node) -> Node:
        """Change properties of a node."""
        return self._wait(self._space.set_node(node))

    def delete_node(self, uri: NodeUri | str, *, only_empty: bool = False) -> None:
        """Delete a node, a container with all that is in it, unless `only_empty`."""
        self._wait(self._space.delete_node(uri, only_empty=only_empty))

    def link(self, target: NodeUri | str, uri: NodeUri | str) -> Node:
        """Create a link at `uri` that leads to `target`."""
        return self._wait(self._space.link(target, uri))

    def follow(self, node: Node) -> Node:
        """Give the node that a link leads to."""
        return self._wait(self._space.follow(node))

    def find(self, uri: NodeUri | str) -> Node | None:
        """Give a node without properties and children; None: there is none."""
        return self._wait(self._space.find(uri))

    def views(self) -> tuple[tuple[View, ...], tuple[View, ...]]:
        """Tell in which views nodes accept data, and in which they provide them."""
        return self._wait(self._space.views())

    def push(
        self,
        source: Path | bytes | BinaryIO | Iterable[bytes],
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
        """Store bytes at a node; `source` may also be an iterable of pieces."""
        readable = isinstance(source, Path | bytes) or hasattr(source, "read")
        given = cast("Path | bytes | BinaryIO", source) if readable else _stream(cast("Iterable[bytes]", source))
        return self._wait(
            self._space.push(
                given,
                uri,
                size=size,
                content_type=content_type,
                view=view,
                condition=condition,
                mtime=mtime,
                mode=mode,
                progress=progress,
            )
        )

    def has_entries(self) -> bool:
        """Say whether the service has entries by itself."""
        return self._wait(self._space.has_entries())

    def entry(self, uri: NodeUri | str) -> Entry:
        """Tell of one node what a file system wants to know."""
        return self._wait(self._space.entry(uri))

    def find_entry(self, uri: NodeUri | str) -> Entry | None:
        """Tell of one node what a file system wants to know; None: there is none."""
        return self._wait(self._space.find_entry(uri))

    def entries(self, uri: NodeUri | str, *, after: str | None = None, page: int | None = None) -> Iterator[Entry]:
        """Give the children of a container as they arrive, by name."""
        return self._iterate(self._space.entries(uri, after=after, page=page))

    def reader(self, uri: NodeUri | str, *, known: Entry | None = None) -> Reader:
        """Make ready to read any parts of the bytes that a node has now."""
        return Reader(self._wait(self._space.reader(uri, known=known)), self._wait)

    def read(
        self,
        uri: NodeUri | str,
        *,
        start: int = 0,
        stop: int | None = None,
        view: View | None = None,
        progress: Progress = SILENT,
    ) -> Iterator[bytes]:
        """Give the bytes of a node in pieces."""
        return self._iterate(self._space.read(uri, start=start, stop=stop, view=view, progress=progress))

    def pull(
        self,
        uri: NodeUri | str,
        target: Path | BinaryIO,
        *,
        view: View | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """Fetch the bytes of a node into a file."""
        self._wait(self._space.pull(uri, target, view=view, progress=progress))

    def pull_file(self, uri: NodeUri | str, target: Path, *, progress: Progress = SILENT) -> None:
        """Fetch the bytes of a node into a file, in place of what stands there, a symbolic link too."""
        self._wait(self._space.pull_file(uri, target, progress=progress))

    def pull_archive(
        self,
        uris: NodeUri | str | Iterable[NodeUri | str],
        target: Path | BinaryIO,
        form: ArchiveFormat = TAR,
        *,
        missing_ok: bool = False,
        progress: Progress = SILENT,
    ) -> None:
        """Fetch a container with all that is in it, or several nodes, as one archive."""
        self._wait(self._space.pull_archive(uris, target, form, missing_ok=missing_ok, progress=progress))

    def push_archive(
        self, source: Path | BinaryIO, uri: NodeUri | str, form: ArchiveFormat = TAR, *, progress: Progress = SILENT
    ) -> None:
        """Unpack an archive into a container that is there."""
        self._wait(self._space.push_archive(source, uri, form, progress=progress))

    def share(self, uri: NodeUri | str, *, life: timedelta | None = None, form: ArchiveFormat | None = None) -> Share:
        """Make a URL at which anybody may read a node, for a while."""
        return self._wait(self._space.share(uri, life=life, form=form))

    def shares(self) -> Sequence[Share]:
        """Give the caller's shares that can be used now."""
        return self._wait(self._space.shares())

    def move(
        self,
        source: NodeUri | str,
        destination: NodeUri | str,
        *,
        replace: bool = False,
        watch: Watch | None = None,
    ) -> NodeUri:
        """Move a node with all that is below it; gives where it is then."""
        return self._wait(self._space.move(source, destination, replace=replace, watch=watch))

    def copy(self, source: NodeUri | str, destination: NodeUri | str, *, watch: Watch | None = None) -> NodeUri:
        """Copy a node with all that is below it; gives where the copy is."""
        return self._wait(self._space.copy(source, destination, watch=watch))

    def pull_to(self, uri: NodeUri | str, *urls: str, watch: Watch | None = None) -> None:
        """Let the service fetch the bytes of a node from elsewhere."""
        self._wait(self._space.pull_to(uri, *urls, watch=watch))

    def push_from(self, uri: NodeUri | str, *urls: str, watch: Watch | None = None) -> None:
        """Let the service send the bytes of a node elsewhere."""
        self._wait(self._space.push_from(uri, *urls, watch=watch))

    def search(
        self, below: NodeUri | str, wanted: Conditions, *, detail: Detail = Detail.FULL, limit: int | None = None
    ) -> Iterator[Node]:
        """Give what is below a container and fulfils all conditions."""
        return self._iterate(self._space.search(below, wanted, detail=detail, limit=limit))

    def permissions(self, uri: NodeUri | str, *, right: str | None = None, user: str | None = None) -> Permissions:
        """Tell who may do what with a node, and by which rule."""
        return self._wait(self._space.permissions(uri, right=right, user=user))

    def delete_tree(self, uri: NodeUri | str, *, dry_run: bool = False, watch: Watch | None = None) -> Counts:
        """Delete of a tree what may be deleted, and leave the rest."""
        return self._wait(self._space.delete_tree(uri, dry_run=dry_run, watch=watch))

    def set_properties(
        self,
        uri: NodeUri | str,
        properties: Iterable[Property],
        *,
        dry_run: bool = False,
        watch: Watch | None = None,
    ) -> Counts:
        """Set properties of a node and of all below it."""
        return self._wait(self._space.set_properties(uri, properties, dry_run=dry_run, watch=watch))

    def recall(self, uri: NodeUri | str, *, watch: Watch | None = None) -> Counts:
        """Have bytes brought back from cold storages, and wait for them."""
        return self._wait(self._space.recall(uri, watch=watch))

    def versions(self, uri: NodeUri | str) -> Iterator[Version]:
        """Give what a data node held before."""
        return self._iterate(self._space.versions(uri))

    def pull_version(
        self, uri: NodeUri | str, number: int, target: Path | BinaryIO, *, progress: Progress = SILENT
    ) -> None:
        """Fetch the bytes of a version into a file."""
        self._wait(self._space.pull_version(uri, number, target, progress=progress))

    def restore_version(self, uri: NodeUri | str, number: int) -> None:
        """Give a node the bytes that it had before."""
        self._wait(self._space.restore_version(uri, number))

    def delete_version(self, uri: NodeUri | str, number: int) -> None:
        """Forget a version."""
        self._wait(self._space.delete_version(uri, number))

    def audit(self, uri: NodeUri | str | None = None, filters: Filters = ALL) -> Iterator[Mapping[str, Any]]:
        """Give rows of the audit log that the caller may see, oldest first."""
        return self._iterate(self._space.audit(uri, filters))

    def start(self, wanted: Transfer, *, run_id: str | None = None) -> str:
        """Make a job of a transfer, called `run_id` in lists; gives its URL."""
        return self._wait(self._space.start(wanted, run_id=run_id))

    def locate(self, uri: NodeUri | str) -> tuple[str, ...]:
        """Give URLs from which the bytes of a node can be read for a while, without a credential."""
        return self._wait(self._space.locate(uri))

    def job_lists(self) -> tuple[JobList, ...]:
        """Tell which lists of jobs the service has."""
        return self._wait(self._space.job_lists())

    def jobs(
        self,
        which: JobList = JobList.TRANSFERS,
        *,
        phases: Iterable[Phase] = (),
        after: datetime | None = None,
        last: int | None = None,
    ) -> tuple[JobReference, ...]:
        """List the caller's jobs."""
        return self._wait(self._space.jobs(which, phases=phases, after=after, last=last))

    def job_url(self, text: str, which: JobList = JobList.TRANSFERS) -> str:
        """Give the URL of a job by its id; a URL stays as it is."""
        return self._wait(self._space.job_url(text, which))

    def job(self, url: str) -> Job:
        """Get a job by its URL."""
        return self._wait(self._space.job(url))

    def run(self, url: str) -> Job:
        """Run a job that waits for it."""
        return self._wait(self._space.run(url))

    def wait(self, url: str, *, watch: Watch | None = None) -> Job:
        """Wait until a job has ended, well or not."""
        return self._wait(self._space.wait(url, watch=watch))

    def require_completed(self, url: str, job: Job) -> None:
        """Raise what became of a job that ended otherwise."""
        self._wait(self._space.require_completed(url, job))

    def abort(self, url: str) -> Job:
        """End a job before its time."""
        return self._wait(self._space.abort(url))

    def delete_job(self, url: str) -> None:
        """Let the service forget a job."""
        self._wait(self._space.delete_job(url))


def connect(authority: str | None = None, *, timeouts: Timeouts | None = None, retry: Retry | None = None) -> Space:
    """Make the client of a space that environment and configuration name; see `pyvospace.client.connect`."""
    return Space.of(find_spaces(Access()).of(authority), timeouts=timeouts, retry=retry)


async def _stream(pieces: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """Let the iterable take its time without keeping the loop from its work."""
    iterator = iter(pieces)
    while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
        yield piece
