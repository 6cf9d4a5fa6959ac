"""A space: the operations of VOSpace 2.1 by their names."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlencode

from pyvospace.client.auditing import Auditing
from pyvospace.client.download import Reading
from pyvospace.client.files import bring, bring_file
from pyvospace.client.jobs import FORM, Counts, JobList, Jobs, Watch
from pyvospace.client.listing import list_children, node_query
from pyvospace.client.locations import is_uri
from pyvospace.client.negotiation import Endpoints, negotiate, negotiate_package, negotiate_resumable
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.resumable import push_in_parts
from pyvospace.client.retry import Attempts
from pyvospace.client.searching import search_pages, search_query, walk
from pyvospace.client.shares import Share, share, shares
from pyvospace.client.sources import PathSource, source_of
from pyvospace.client.transfers import copy_of, destination_of, move_of, pull_of, push_of
from pyvospace.client.upload import Stored, Upload
from pyvospace.client.versions import Versions
from pyvospace.model.archives import TAR, ArchiveFormat
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    Fault,
    InvalidArgument,
    InvalidURI,
    NodeNotFound,
    PermissionDenied,
    UnreadableLinkTarget,
    ViewNotSupported,
)
from pyvospace.model.nodes import Node, Param, Property, View
from pyvospace.model.permissions import Permissions
from pyvospace.model.searches import Conditions
from pyvospace.model.transfers import Transfer
from pyvospace.model.uris import NodeUri, encode_path
from pyvospace.model.vocabulary import (
    FORMAT,
    PACKAGE_VIEW,
    STANDARD_NODES,
    STANDARD_PERMISSIONS,
    STANDARD_SEARCH,
    STANDARD_SYNC,
    STANDARD_SYNC_20,
    STANDARD_VIEWS,
    Detail,
    Direction,
    NodeType,
)
from pyvospace.wire.nodes import read_node, render_node
from pyvospace.wire.permissions import parse_permissions
from pyvospace.wire.service import parse_views
from pyvospace.wire.transfers import render_transfer

_XML: Final = {"Content-Type": "text/xml"}
_HOPS: Final = 20


class Space(Auditing, Versions, Jobs):
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

    async def ensure_container(self, uri: NodeUri | str, *, parents: bool = False) -> bool:
        """Create a container if it is not there already; say whether it was made now.

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
            return False
        except (NodeNotFound, ContainerNotFound):
            if not parents or not container.path:
                raise
            await self.ensure_container(container.parent, parents=True)
            return await self.ensure_container(container)
        return True

    async def set_node(self, node: Node) -> Node:
        """Change properties of a node (section 6.3.2): those in `node`; with the value None they are deleted."""
        return await self._write("POST", node, repeatable=True)

    async def _write(self, method: str, node: Node, *, repeatable: bool) -> Node:
        url = await self._node_url(await self.uri(node.uri))
        answer = await self._http.ask(method, url, body=render_node(node), headers=_XML, repeatable=repeatable)
        return read_node(answer.body) if answer.body else node

    async def delete_node(self, uri: NodeUri | str, *, only_empty: bool = False) -> None:
        """Delete a node, a container with all that is in it (section 6.2.4).

        Parameters
        ----------
        only_empty
            Not a container with something in it: pyvospace answers with InvalidArgument.
        """
        url = await self._node_url(await self.uri(uri)) + ("?recursive=false" if only_empty else "")
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

    async def views(self) -> tuple[tuple[View, ...], tuple[View, ...]]:
        """Tell in which views nodes accept data, and in which they provide them (section 6.1.2)."""
        return parse_views((await self._http.ask("GET", await self._url(STANDARD_VIEWS))).body)

    # ------------------------------------------------------------------ bytes

    async def push(
        self,
        source: Path | bytes | BinaryIO | AsyncIterable[bytes],
        uri: NodeUri | str,
        *,
        size: int | None = None,
        content_type: str | None = None,
        view: View | None = None,
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

        Raises
        ------
        ChecksumMismatch
            The service has stored other bytes than were sent.
        ContentChanged
            The file became another one while it was sent; nothing was stored.
        """
        target = await self.uri(uri)
        bytes_of = await source_of(source, size)
        endpoints = await self._endpoints(target, Direction.PUSH_TO_VOSPACE, view)
        if isinstance(bytes_of, PathSource) and view is None and bytes_of.is_large:
            url = await self._url(STANDARD_SYNC, STANDARD_SYNC_20)
            begins = partial(negotiate_resumable, self._http, url, target)
            stored = await push_in_parts(
                self._http, begins, bytes_of, endpoints, what=target, content_type=content_type, progress=progress
            )
            if stored is not None:
                return stored
        upload = Upload(self._http, endpoints, bytes_of, what=target, content_type=content_type, progress=progress)
        return await upload.run()

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

    async def _endpoints(self, uri: NodeUri, direction: Direction, view: View | None) -> Endpoints:
        url = await self._url(STANDARD_SYNC, STANDARD_SYNC_20)
        return Endpoints(partial(negotiate, self._http, url, uri, direction, view))

    async def pull_archive(
        self,
        uris: NodeUri | str | Iterable[NodeUri | str],
        target: Path | BinaryIO,
        form: ArchiveFormat = TAR,
        *,
        progress: Progress = SILENT,
    ) -> None:
        """Fetch a container with all that is in it as one archive (VOSpace 2.1, section 3.4.5).

        Parameters
        ----------
        uris
            The container; or several nodes of any kind, from a service that makes packages as OpenCADC's do.
        target
            As for `pull`. An archive that breaks off cannot be continued.

        Raises
        ------
        ViewNotSupported
            The service packs nothing in this format.
        """
        named = [uris] if isinstance(uris, NodeUri | str) else uris
        # Each is looked for: the service would leave out of a package what is missing, without a word.
        first, *more = [await self.follow(await self.get_node(uri)) for uri in named]
        view = await self._archive_view(first, form, alone=not more)
        if view.uri != PACKAGE_VIEW:
            await self.pull(first.uri, target, view=view, progress=progress)
            return
        sources, url = [one.uri for one in (first, *more)], await self._url(STANDARD_SYNC, STANDARD_SYNC_20)
        endpoints = Endpoints(partial(negotiate_package, self._http, url, sources, view))
        package = partial(Reading, self._http, endpoints, what=first.uri, credential=True, progress=progress)
        await bring(package, target)

    async def _archive_view(self, node: Node, form: ArchiveFormat, *, alone: bool = True) -> View:
        """Choose what the service calls a container, or a package that it is the first of, as an archive."""
        offered = {one.uri for one in node.provides}
        for name in (form.view, *sorted(form.synonyms)):
            if alone and name in offered:
                return View(name)
        if await self._offers(PACKAGE_VIEW):
            return View(PACKAGE_VIEW, params=(Param(FORMAT, form.content_type),))
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

    async def share(
        self, uri: NodeUri | str, *, life: timedelta | None = None, form: ArchiveFormat | None = None
    ) -> Share:
        """Make a URL at which anybody may read a node, for a while (section 3.5.4); aborting its job revokes it.

        Parameters
        ----------
        life
            How long; the service may allow less. None: as long as it likes.
        form
            Of a container: the archive that is to be had.
        """
        shared = await self.uri(uri)
        view = None if form is None else await self._archive_view(await self.get_node(shared), form)
        return await share(self, shared, life, view)

    async def shares(self) -> Sequence[Share]:
        """Give the caller's shares that can be used now."""
        return await shares(self)

    # ------------------------------------------------------------------ what the service does by itself

    async def move(self, source: NodeUri | str, destination: NodeUri | str, *, watch: Watch | None = None) -> NodeUri:
        """Move a node with all that is below it (moveNode, section 6.2.2); gives where it is then.

        Parameters
        ----------
        destination
            A container, which it goes into, or where nothing is yet.
        watch
            Hears how far it is.

        Raises
        ------
        DuplicateNode
            There is something already.
        """
        return await self._relocate(move_of(await self.uri(source), await self.uri(destination)), watch)

    async def copy(self, source: NodeUri | str, destination: NodeUri | str, *, watch: Watch | None = None) -> NodeUri:
        """Copy a node with all that is below it (copyNode, section 6.2.3), within the service; else as `move`."""
        return await self._relocate(copy_of(await self.uri(source), await self.uri(destination)), watch)

    async def _relocate(self, wanted: Transfer, watch: Watch | None) -> NodeUri:
        job = await self.complete(await self.start(wanted), watch=watch)
        return destination_of(job) or NodeUri.parse(wanted.direction)

    async def pull_to(self, uri: NodeUri | str, *urls: str, watch: Watch | None = None) -> None:
        """Let the service fetch the bytes of a node from elsewhere (pullToVoSpace, section 6.4.2).

        Parameters
        ----------
        urls
            Where they are; they are tried in turn.
        """
        await self.complete(await self.start(pull_of(await self.uri(uri), *urls)), watch=watch)

    async def push_from(self, uri: NodeUri | str, *urls: str, watch: Watch | None = None) -> None:
        """Let the service send the bytes of a node elsewhere, by HTTP PUT (pushFromVoSpace, section 6.4.4)."""
        await self.complete(await self.start(push_of(await self.uri(uri), *urls)), watch=watch)

    async def start(self, wanted: Transfer, *, run_id: str | None = None) -> str:
        """Make a job of a transfer, called `run_id` in lists; gives its URL, for `run` or `complete`."""
        return await self.create_job(JobList.TRANSFERS, render_transfer(wanted), "text/xml", run_id=run_id)

    async def locate(self, uri: NodeUri | str) -> tuple[str, ...]:
        """Give URLs from which the bytes of a node can be read for a while, without a credential."""
        url = await self._url(STANDARD_SYNC, STANDARD_SYNC_20)
        return await negotiate(self._http, url, await self.uri(uri), Direction.PULL_FROM_VOSPACE)

    async def search(
        self, below: NodeUri | str, wanted: Conditions, *, detail: Detail = Detail.FULL, limit: int | None = None
    ) -> AsyncGenerator[Node]:
        """Give what is below a container and fulfils all conditions.

        A service that knows no searches (they are an extension of our own) is listed container by container.

        Parameters
        ----------
        limit
            Nodes that are enough.
        """
        top = await self.uri(below)
        if await self._offers(STANDARD_SEARCH):
            asked = search_query(top, wanted, detail=detail, limit=limit)
            found = search_pages(self._http, f"{await self._url(STANDARD_SEARCH)}?{asked}")
        else:
            found = walk(self.list, top, wanted)
        given = 0
        async with aclosing(found) as nodes:
            async for node in nodes:
                yield node
                given += 1
                if given == limit:
                    return

    async def permissions(
        self, uri: NodeUri | str, *, right: str | None = None, user: str | None = None
    ) -> Permissions:
        """Tell who may do what with a node, and by which rule (an extension of our own).

        Parameters
        ----------
        right
            One of docs/reference/permissions.md; None: all of them.
        user
            Whose rights; None: the caller's own; empty: of those who are not logged in.

        Raises
        ------
        PermissionDenied
            The caller may not ask about others here.
        OperationNotSupported
            The service tells nothing of this.
        """
        asked = {"target": str(await self.uri(uri)), "right": right, "user": user}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        answer = await self._http.ask("GET", f"{await self._url(STANDARD_PERMISSIONS)}?{query}")
        return parse_permissions(answer.body)

    async def delete_tree(self, uri: NodeUri | str, *, dry_run: bool = False, watch: Watch | None = None) -> Counts:
        """Delete of a tree what may be deleted, and leave the rest (OpenCADC's async-delete).

        `delete_node` deletes all of it or nothing.

        Parameters
        ----------
        dry_run
            Change nothing, and count what would be done; from a service of ours only.
        """
        body = urlencode({"target": str(await self.uri(uri))}).encode()
        return await self.count(await self.create_job(JobList.DELETIONS, body, FORM, dry_run=dry_run), watch=watch)

    async def recall(self, uri: NodeUri | str, *, watch: Watch | None = None) -> Counts:
        """Have the bytes of a node, or of all below a container, brought back from cold storages, and wait for them.

        Raises
        ------
        OperationNotSupported
            The service knows nothing of this (it is an extension of our own).
        """
        body = urlencode({"target": str(await self.uri(uri))}).encode()
        return await self.count(await self.create_job(JobList.RECALLS, body, FORM), watch=watch)

    async def set_properties(
        self,
        uri: NodeUri | str,
        properties: Iterable[Property],
        *,
        dry_run: bool = False,
        watch: Watch | None = None,
    ) -> Counts:
        """Set properties of a node and of all below it (OpenCADC's async-setprops); of one node see `set_node`.

        Parameters
        ----------
        dry_run
            As for `delete_tree`.
        """
        node = await self.get_node(uri, detail=Detail.MIN)
        body = render_node(Node(node.uri, node.type, tuple(properties), target=node.target))
        job = await self.create_job(JobList.PROPERTIES, body, "text/xml", dry_run=dry_run)
        return await self.count(job, watch=watch)
