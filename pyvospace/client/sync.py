"""The client for programs without coroutines: the same operations, each waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar, cast

from pyvospace.client import space
from pyvospace.client.access import Access
from pyvospace.client.http import Timeouts
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.retry import Retry
from pyvospace.client.upload import Stored
from pyvospace.model.nodes import Node
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail

T = TypeVar("T")


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
        """Make the client of a space that the configuration knows."""
        return cls(**access.parameters(), timeouts=timeouts, retry=retry)

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

    def ensure_container(self, uri: NodeUri | str, *, parents: bool = False) -> None:
        """Create a container if it is not there already."""
        self._wait(self._space.ensure_container(uri, parents=parents))

    def set_node(self, node: Node) -> Node:
        """Change properties of a node."""
        return self._wait(self._space.set_node(node))

    def delete_node(self, uri: NodeUri | str) -> None:
        """Delete a node, a container with all that is in it."""
        self._wait(self._space.delete_node(uri))

    def link(self, target: NodeUri | str, uri: NodeUri | str) -> Node:
        """Create a link at `uri` that leads to `target`."""
        return self._wait(self._space.link(target, uri))

    def follow(self, node: Node) -> Node:
        """Give the node that a link leads to."""
        return self._wait(self._space.follow(node))

    def find(self, uri: NodeUri | str) -> Node | None:
        """Give a node without properties and children; None: there is none."""
        return self._wait(self._space.find(uri))

    def push(
        self,
        source: Path | bytes | BinaryIO | Iterable[bytes],
        uri: NodeUri | str,
        *,
        size: int | None = None,
        content_type: str | None = None,
        progress: Progress = SILENT,
    ) -> Stored:
        """Store bytes at a node; `source` may also be an iterable of pieces."""
        readable = isinstance(source, Path | bytes) or hasattr(source, "read")
        given = cast("Path | bytes | BinaryIO", source) if readable else _stream(cast("Iterable[bytes]", source))
        return self._wait(self._space.push(given, uri, size=size, content_type=content_type, progress=progress))

    def read(
        self,
        uri: NodeUri | str,
        *,
        start: int = 0,
        stop: int | None = None,
        progress: Progress = SILENT,
    ) -> Iterator[bytes]:
        """Give the bytes of a node in pieces."""
        return self._iterate(self._space.read(uri, start=start, stop=stop, progress=progress))

    def pull(self, uri: NodeUri | str, target: Path | BinaryIO, *, progress: Progress = SILENT) -> None:
        """Fetch the bytes of a node into a file."""
        self._wait(self._space.pull(uri, target, progress=progress))


async def _stream(pieces: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """Let the iterable take its time without keeping the loop from its work."""
    iterator = iter(pieces)
    while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
        yield piece
