"""A space: the operations of VOSpace 2.1 by their names."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import timedelta
from urllib.parse import urlencode

from pyvospace.client.access import Access, find_spaces
from pyvospace.client.auditing import Auditing
from pyvospace.client.contents import Contents
from pyvospace.client.http import Timeouts
from pyvospace.client.jobs import FORM, Counts, JobList, Watch
from pyvospace.client.moves import Moves
from pyvospace.client.negotiation import negotiate
from pyvospace.client.retry import Retry
from pyvospace.client.searching import search_pages, search_query, walk
from pyvospace.client.shares import Share, share, shares
from pyvospace.client.transfers import pull_of, push_of
from pyvospace.client.versions import Versions
from pyvospace.model.archives import ArchiveFormat
from pyvospace.model.nodes import Node, Property
from pyvospace.model.permissions import Permissions
from pyvospace.model.searches import Conditions
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import (
    STANDARD_PERMISSIONS,
    STANDARD_SEARCH,
    STANDARD_SYNC,
    STANDARD_SYNC_20,
    Detail,
    Direction,
)
from pyvospace.wire.nodes import render_node
from pyvospace.wire.permissions import parse_permissions


class Space(Auditing, Versions, Contents, Moves):
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
        Container in which relative URIs (``vos:path``) begin, as a path or a URI; if it is not given, the service is
        asked for the caller's.
    ca_file
        Certificates (PEM) to trust besides the system's or those of SSL_CERT_FILE.
    timeouts, retry
        How patient the client is; None: as usual.
    connections
        Most connections at once.

    Notes
    -----
    A URI is a `NodeUri`, or text in one of the forms ``vos://authority/path``, ``vos:/path`` and ``vos:path``.
    Every method raises the `Fault` that the service answers with, or ServiceUnreachable.
    """

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


def connect(authority: str | None = None, *, timeouts: Timeouts | None = None, retry: Retry | None = None) -> Space:
    """Make the client of a space that the environment, ``client.toml`` and a login name.

    Parameters
    ----------
    authority
        Which one, if several are known; None: the default one.

    Raises
    ------
    InvalidArgument, InvalidURI
        None is named, or not this one, or a setting is wrong.
    """
    return Space.of(find_spaces(Access()).of(authority), timeouts=timeouts, retry=retry)
