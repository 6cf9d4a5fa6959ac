"""A space: the operations of VOSpace 2.1 by their names."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from pyvospace.client.access import Access
from pyvospace.client.download import Reading, fetch
from pyvospace.client.failures import ContentChanged
from pyvospace.client.http import Http, Timeouts
from pyvospace.client.listing import list_children, node_query
from pyvospace.client.locations import is_uri, resolve
from pyvospace.client.negotiation import Endpoints, negotiate
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.retry import Attempts, Retry
from pyvospace.client.sources import source_of
from pyvospace.client.upload import Stored, Upload
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    Fault,
    InvalidArgument,
    InvalidData,
    InvalidURI,
    NodeNotFound,
    NotFound,
    OperationNotSupported,
    PermissionDenied,
    UnreadableLinkTarget,
)
from pyvospace.model.nodes import Node
from pyvospace.model.uris import NodeUri, encode_path
from pyvospace.model.vocabulary import STANDARD_NODES, STANDARD_SYNC, STANDARD_SYNC_20, Detail, Direction, NodeType
from pyvospace.wire.nodes import read_node, render_node
from pyvospace.wire.vosi import parse_capabilities

log = logging.getLogger(__name__)

_XML: Final = {"Content-Type": "text/xml"}
_HOPS: Final = 20
_VERSIONS: Final = 3
"""How often a pull begins anew because the bytes became others."""


class Space:
    """A client of one space. Close it at the end, or use it with ``async with``.

    Parameters
    ----------
    url
        Base URL of the service; everything else is found in its ``capabilities``.
    token
        Bearer token. Without it `user` and `password` are used, without those nobody is logged in. Credentials go to
        the scheme, host and port of `url` and to nobody else.
    authority
        Name of the space in URIs; if it is not given, the service is asked once.
    home
        Container in which relative URIs (``vos:path``) begin, as a path or a URI.
    ca_file
        Certificates (PEM) to trust besides the system's or those of SSL_CERT_FILE.
    connections
        Most connections at once.

    Notes
    -----
    A URI is a `NodeUri`, or text in one of the forms ``vos://authority/path``, ``vos:/path`` and ``vos:path``.
    Every method raises the `Fault` that the service answers with, or ServiceUnreachable.
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
        connections: int = 32,
    ) -> None:
        access = Access(url=url, token=token, user=user, password=password, authority=authority)
        self.url = access.url or url
        self._authority = access.authority
        self._home = home
        self._urls: dict[str, str] | None = None
        self._finding = asyncio.Lock()
        self._http = Http(
            self.url,
            authorization=access.authorization(),
            ca_file=ca_file,
            timeouts=timeouts,
            retry=retry,
            connections=connections,
        )

    @classmethod
    def of(cls, access: Access, *, timeouts: Timeouts | None = None, retry: Retry | None = None) -> Self:
        """Make the client of a space that the configuration knows.

        Raises
        ------
        InvalidArgument
            The configuration names no URL.
        """
        return cls(**access.parameters(), timeouts=timeouts, retry=retry)

    async def __aenter__(self) -> Self:
        """Connect when the first request comes."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    # ------------------------------------------------------------------ where things are

    async def uri(self, text: NodeUri | str) -> NodeUri:
        """Read a URI in any form.

        Raises
        ------
        InvalidURI
            It is none, or of another space.
        """
        authority = await self.authority()
        uri = text if isinstance(text, NodeUri) else resolve(text, authority, self._home)
        if uri.authority != authority:
            raise InvalidURI(f"{uri} is not of the space {authority} at {self.url}")
        return uri

    async def authority(self) -> str:
        """Tell the name of the space: what was given, else what the root container says."""
        if self._authority is None:
            answer = await self._http.ask("GET", f"{await self._url(STANDARD_NODES)}?limit=0")
            self._authority = read_node(answer.body).uri.authority
        return self._authority

    async def _url(self, *standards: str) -> str:
        """Find the URL of a resource, by the first of its names that the service knows."""
        async with self._finding:
            if self._urls is None:
                try:
                    answer = await self._http.ask("GET", f"{self.url}/capabilities")
                    known = reversed(parse_capabilities(answer.body))
                except (InvalidData, NotFound) as fault:
                    raise type(fault)(f"there is no VOSpace at {self.url} (/capabilities: {fault.detail})") from None
                self._urls = {one.standard_id: one.url.rstrip("/") for one in known}
        for standard in standards:
            if standard in self._urls:
                return self._urls[standard]
        raise OperationNotSupported(f"{self.url} offers no {standards[0]}")

    async def _node_url(self, uri: NodeUri) -> str:
        base = await self._url(STANDARD_NODES)
        return f"{base}/{encode_path(uri.path)}" if uri.path else base

    # ------------------------------------------------------------------ nodes

    async def get_node(self, uri: NodeUri | str, *, detail: Detail = Detail.FULL, limit: int | None = 0) -> Node:
        """Get a node (VOSpace 2.1, section 6.3.1).

        Parameters
        ----------
        limit
            Most children that come with a container; None: all of them, at most 64 MiB of document. To see the
            children of any container use `list`.
        """
        wanted = await self.uri(uri)
        url = await self._node_url(wanted) + node_query(detail=detail, limit=limit)
        node = read_node((await self._http.ask("GET", url)).body)
        if node.uri.authority != wanted.authority:
            # The path in the URL would fit any space: whoever configured this meant another one.
            raise InvalidURI(f"the space at {self.url} calls itself {node.uri.authority}, not {wanted.authority}")
        return node

    async def list(self, uri: NodeUri | str, *, detail: Detail = Detail.FULL) -> AsyncGenerator[Node]:
        """Give the children of a container as they arrive, in the order of the service.

        Memory does not grow with their number. A listing that breaks off goes on at the last child.
        """
        container = await self.uri(uri)
        async with aclosing(list_children(self._http, await self._node_url(container), container, detail)) as children:
            async for child in children:
                yield child

    async def create_node(self, node: Node) -> Node:
        """Create a node (section 6.2.1); gives what the service made of it.

        If the answer is lost it is not tried again: the node may be there.
        """
        return await self._write("PUT", node, repeatable=False)

    async def ensure_container(self, uri: NodeUri | str, *, parents: bool = False) -> None:
        """Create a container if it is not there already.

        Parameters
        ----------
        parents
            Whether to create those above it too.

        Raises
        ------
        DuplicateNode
            Something else is there.
        """
        container = await self.uri(uri)
        try:
            await self._write("PUT", Node(container, NodeType.CONTAINER), repeatable=True)
        except (DuplicateNode, PermissionDenied) as fault:
            # Who may not write where the container is may still write into it.
            node = await self.find(container)
            if node is None:
                raise fault from None
            if node.type is not NodeType.CONTAINER:
                raise DuplicateNode(f"{container} is there and is no container") from None
        except (NodeNotFound, ContainerNotFound):
            if not parents or not container.path:
                raise
            await self.ensure_container(container.parent, parents=True)
            await self.ensure_container(container)

    async def set_node(self, node: Node) -> Node:
        """Change properties of a node (section 6.3.2): those in `node`; with the value None they are deleted."""
        return await self._write("POST", node, repeatable=True)

    async def _write(self, method: str, node: Node, *, repeatable: bool) -> Node:
        url = await self._node_url(await self.uri(node.uri))
        answer = await self._http.ask(method, url, body=render_node(node), headers=_XML, repeatable=repeatable)
        return read_node(answer.body) if answer.body else node

    async def delete_node(self, uri: NodeUri | str) -> None:
        """Delete a node, a container with all that is in it (section 6.2.4)."""
        url = await self._node_url(await self.uri(uri))
        attempts = Attempts(self._http.retry)
        while True:
            try:
                async with self._http.open("DELETE", url, read=self._http.timeouts.finish):
                    return
            except NodeNotFound:
                if attempts.failed_before:  # the first try had its effect, only its answer was lost
                    return
                raise
            except Fault as fault:
                await attempts.wait_after(fault)

    async def link(self, target: NodeUri | str, uri: NodeUri | str) -> Node:
        """Create a link at `uri` that leads to `target`, a node or any other URI."""
        leads_to = str(await self.uri(target)) if isinstance(target, NodeUri) or is_uri(target) else target
        return await self.create_node(Node(await self.uri(uri), NodeType.LINK, target=leads_to))

    async def follow(self, node: Node) -> Node:
        """Give the node that a link leads to, through further links; another node as it is.

        Raises
        ------
        UnreadableLinkTarget
            It leads out of the space, or in a circle.
        """
        for _ in range(_HOPS):
            if node.type is not NodeType.LINK:
                return node
            try:
                node = await self.get_node(await self.uri(node.target or ""))
            except InvalidURI:
                raise UnreadableLinkTarget(f"{node.uri} leads to {node.target}, out of the space") from None
        raise UnreadableLinkTarget(f"{node.uri}: more than {_HOPS} links")

    async def find(self, uri: NodeUri | str) -> Node | None:
        """Give a node without properties and children, or the one that it leads to if it is a link; None: none."""
        try:
            return await self.follow(await self.get_node(uri, detail=Detail.MIN))
        except (NodeNotFound, ContainerNotFound):
            return None

    # ------------------------------------------------------------------ bytes

    async def push(
        self,
        source: Path | bytes | BinaryIO | AsyncIterable[bytes],
        uri: NodeUri | str,
        *,
        size: int | None = None,
        content_type: str | None = None,
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

        Raises
        ------
        ChecksumMismatch
            The service has stored other bytes than were sent.
        ContentChanged
            The file became another one while it was sent; nothing was stored.
        """
        target = await self.uri(uri)
        bytes_of = await source_of(source, size)
        endpoints = await self._endpoints(target, Direction.PUSH_TO_VOSPACE)
        upload = Upload(self._http, endpoints, bytes_of, what=target, content_type=content_type, progress=progress)
        return await upload.run()

    async def read(
        self,
        uri: NodeUri | str,
        *,
        start: int = 0,
        stop: int | None = None,
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

        Raises
        ------
        ChecksumMismatch
            At the end, if the bytes are not those of the service.
        """
        if stop is not None and not 0 <= start < stop:
            raise InvalidArgument(f"no bytes from {start} to before {stop}")
        source = await self.uri(uri)
        endpoints = await self._endpoints(source, Direction.PULL_FROM_VOSPACE)
        reading = Reading(self._http, endpoints, what=source, start=start, stop=stop, progress=progress)
        async with aclosing(reading.pieces()) as bytes_of:
            async for piece in bytes_of:
                yield piece

    async def pull(self, uri: NodeUri | str, target: Path | BinaryIO, *, progress: Progress = SILENT) -> None:
        """Fetch the bytes of a node into a file (pullFromVoSpace).

        With a path the bytes come to a ``.part`` file beside it, which is continued if it is there already, and
        which takes its place once its digests are found right. A symbolic link is followed. A path that leads to
        something else than a file (``/dev/stdout``) is written to directly.

        Raises
        ------
        ChecksumMismatch
            The bytes are not those of the service; a file at the path is left as it was.
        """
        if not isinstance(target, Path):
            await self._pull_into(uri, target, progress)
            return
        if await asyncio.to_thread(_is_special, target):
            with await asyncio.to_thread(target.open, "wb", 0) as file:
                await self._pull_into(uri, file, progress)
            return
        await self.pull_file(uri, await asyncio.to_thread(target.resolve), progress=progress)

    async def _pull_into(self, uri: NodeUri | str, file: BinaryIO, progress: Progress) -> None:
        async with aclosing(self.read(uri, progress=progress)) as bytes_of:
            async for piece in bytes_of:
                await asyncio.to_thread(file.write, piece)

    async def pull_file(self, uri: NodeUri | str, target: Path, *, progress: Progress = SILENT) -> None:
        """As `pull` with a path, but what stands there is replaced, a symbolic link too."""
        source = await self.uri(uri)
        endpoints = await self._endpoints(source, Direction.PULL_FROM_VOSPACE)
        for left in reversed(range(_VERSIONS)):
            reading = Reading(self._http, endpoints, what=source, progress=progress)
            try:
                await fetch(reading, target)
            except ContentChanged as fault:
                if not left:
                    raise
                log.info("%s; beginning anew", fault)
            else:
                return

    async def _endpoints(self, uri: NodeUri, direction: Direction) -> Endpoints:
        url = await self._url(STANDARD_SYNC, STANDARD_SYNC_20)
        return Endpoints(partial(negotiate, self._http, url, uri, direction))


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode)
