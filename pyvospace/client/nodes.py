"""Nodes of a space, one by one and as the children of a container (VOSpace 2.1, sections 6.1 to 6.3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from pyvospace.client.listing import list_children, node_query
from pyvospace.client.locations import is_uri
from pyvospace.client.retry import Attempts
from pyvospace.client.service import Service
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    Fault,
    InvalidURI,
    NodeNotFound,
    PermissionDenied,
    UnreadableLinkTarget,
)
from pyvospace.model.nodes import Node, View
from pyvospace.model.uris import NodeUri, encode_path
from pyvospace.model.vocabulary import STANDARD_NODES, STANDARD_VIEWS, Detail, NodeType
from pyvospace.wire.nodes import read_node, render_node
from pyvospace.wire.service import parse_views

XML: Final = {"Content-Type": "text/xml"}
_HOPS: Final = 20


class Nodes(Service):
    """The nodes of one space."""

    async def _node_url(self, uri: NodeUri) -> str:
        base = await self._url(STANDARD_NODES)
        return f"{base}/{encode_path(uri.path)}" if uri.path else base

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
        answer = await self._http.ask(method, url, body=render_node(node), headers=XML, repeatable=repeatable)
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
