"""Moves and copies, which the service carries out by itself (VOSpace 2.1, sections 6.2.2 and 6.2.3)."""

from __future__ import annotations

from contextlib import aclosing
from urllib.parse import urljoin

from pyvospace.client.jobs import JobList, Jobs, Watch
from pyvospace.client.nodes import XML, Nodes
from pyvospace.client.retry import Attempts
from pyvospace.client.transfers import copy_of, destination_of, move_of
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    Fault,
    InvalidArgument,
    NodeNotFound,
    TransferFailed,
)
from pyvospace.model.jobs import Job
from pyvospace.model.nodes import Node
from pyvospace.model.transfers import Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import STANDARD_ENTRIES, STANDARD_SYNC, STANDARD_SYNC_20, Detail, NodeType
from pyvospace.wire.transfers import render_transfer


class Moves(Nodes, Jobs):
    """What changes its place in one space, or is there twice."""

    async def move(
        self,
        source: NodeUri | str,
        destination: NodeUri | str,
        *,
        replace: bool = False,
        watch: Watch | None = None,
    ) -> NodeUri:
        """Move a node with all that is below it (moveNode, section 6.2.2); gives where it is then.

        Parameters
        ----------
        destination
            A container, which it goes into, or where nothing is yet.
        replace
            The destination is where it is to be, and what is there gives way, in one step: a container only if it is
            empty and another one takes its place. At a service that is not ours that is deleted first, in a step of
            its own.
        watch
            Hears how far it is.

        Raises
        ------
        DuplicateNode
            There is something already, which may not be replaced, or is of another kind.
        InvalidArgument
            The container that was to be replaced is not empty.
        """
        return await self._move(await self.uri(source), await self.uri(destination), replace=replace, watch=watch)

    async def copy(self, source: NodeUri | str, destination: NodeUri | str, *, watch: Watch | None = None) -> NodeUri:
        """Copy a node with all that is below it (copyNode, section 6.2.3), within the service; else as `move`."""
        return await self._relocate(copy_of(await self.uri(source), await self.uri(destination)), watch)

    async def _move(self, source: NodeUri, destination: NodeUri, *, replace: bool, watch: Watch | None) -> NodeUri:
        ours = await self._offers(STANDARD_ENTRIES)
        if replace and not ours:
            await self._make_way(source, destination)
        wanted = move_of(source, destination, replace=replace and ours)
        if not ours or watch is not None:
            return await self._relocate(wanted, watch)
        attempts = Attempts(self._http.retry)
        try:
            return destination_of(await self._move_at_once(wanted, attempts)) or destination
        except NodeNotFound:
            # After a try whose answer was lost: that one may have had its effect.
            there = await self._arrival(source, destination) if attempts.failed_before else None
            if there is None:
                raise
            return there

    async def _move_at_once(self, wanted: Transfer, attempts: Attempts) -> Job:
        """Have a move done with one request, and ask with another what became of it."""
        location = await self._send_at_once(wanted, attempts)
        job_url, results, _ = location.partition("/results/")
        if not results:
            raise TransferFailed(f"{wanted.target}: the service does not say what became of the move")
        job = await self.wait(job_url)
        await self.require_completed(job_url, job)
        return job

    async def _send_at_once(self, wanted: Transfer, attempts: Attempts) -> str:
        url, body = await self._url(STANDARD_SYNC, STANDARD_SYNC_20), render_transfer(wanted)
        while True:
            try:
                async with self._http.open("POST", url, body=body, headers=XML, follow=False) as response:
                    return urljoin(url, response.headers.get("Location", ""))
            except Fault as fault:
                await attempts.wait_after(fault)

    async def _arrival(self, source: NodeUri, destination: NodeUri) -> NodeUri | None:
        """Find where a node has been moved to."""
        node = await self.find(destination)
        if node is not None and node.type is NodeType.CONTAINER and await self.find(destination.child(source.name)):
            return destination.child(source.name)
        return None if node is None else destination

    async def _make_way(self, source: NodeUri, destination: NodeUri) -> None:
        """Delete what a move is to replace, if it may be replaced."""
        moved, there = await self.get_node(source, detail=Detail.MIN), await self._itself(destination)
        if there is None:
            return
        if (there.type is NodeType.CONTAINER) != (moved.type is NodeType.CONTAINER):
            raise DuplicateNode(f"{destination} is there and of another kind than {source}")
        if there.type is NodeType.CONTAINER:
            async with aclosing(self.list(destination, detail=Detail.MIN)) as children:
                async for child in children:
                    raise InvalidArgument(f"{destination} is not empty: {child.uri.name}")
        await self.delete_node(destination)

    async def _itself(self, uri: NodeUri) -> Node | None:
        try:
            return await self.get_node(uri, detail=Detail.MIN)
        except (NodeNotFound, ContainerNotFound):
            return None

    async def _relocate(self, wanted: Transfer, watch: Watch | None) -> NodeUri:
        job = await self.complete(await self.start(wanted), watch=watch)
        return destination_of(job) or NodeUri.parse(wanted.direction)

    async def start(self, wanted: Transfer, *, run_id: str | None = None) -> str:
        """Make a job of a transfer, called `run_id` in lists; gives its URL, for `run` or `complete`."""
        return await self.create_job(JobList.TRANSFERS, render_transfer(wanted), "text/xml", run_id=run_id)
