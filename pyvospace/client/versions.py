"""Versions: what data nodes held before, at a service that keeps it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from pyvospace.client.download import Reading
from pyvospace.client.files import bring
from pyvospace.client.negotiation import Endpoints
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.service import Service
from pyvospace.model.faults import InvalidData
from pyvospace.model.instants import read_instant
from pyvospace.model.uris import NodeUri, encode_path
from pyvospace.model.vocabulary import STANDARD_VERSIONS


@dataclass(frozen=True, slots=True)
class Version:
    """What a data node held before."""

    number: int
    """Counted from 1 in the order in which they were replaced."""
    size: int
    md5: str
    content_type: str | None
    stored_by: str | None
    modified: datetime
    """When the bytes came."""
    replaced: datetime
    """When other bytes came in their place."""


class Versions(Service):
    """The versions of the data nodes of one service."""

    async def _versions_url(self, uri: NodeUri | str, query: str = "") -> str:
        node = await self.uri(uri)
        return f"{await self._url(STANDARD_VERSIONS)}/{encode_path(node.path)}{query}"

    async def versions(self, uri: NodeUri | str) -> AsyncGenerator[Version]:
        """Give the versions of a node, the newest first.

        Raises
        ------
        OperationNotSupported
            The service keeps none.
        """
        after = ""
        while True:
            answer = await self._http.ask("GET", await self._versions_url(uri, f"?after={after}" if after else ""))
            items, behind = _read(answer.body)
            for one in items:
                yield one
            if behind is None:
                return
            after = behind

    async def pull_version(
        self, uri: NodeUri | str, number: int, target: Path | BinaryIO, *, progress: Progress = SILENT
    ) -> None:
        """Fetch the bytes of a version into a file, as `Space.pull` does those of a node."""
        url = await self._versions_url(uri, f"?number={number}")

        async def endpoint() -> tuple[str, ...]:
            return (url,)

        reading = partial(
            Reading, self._http, Endpoints(endpoint), what=f"{uri}, {number}", credential=True, progress=progress
        )
        await bring(reading, target)

    async def restore_version(self, uri: NodeUri | str, number: int) -> None:
        """Let a version be what the node holds; what it holds becomes its newest version."""
        await self._http.ask("POST", await self._versions_url(uri, f"?number={number}"), repeatable=False)

    async def delete_version(self, uri: NodeUri | str, number: int) -> None:
        """Remove a version for ever."""
        await self._http.ask("DELETE", await self._versions_url(uri, f"?number={number}"), repeatable=False)


def _read(body: bytes) -> tuple[list[Version], str | None]:
    try:
        found = json.loads(body)
        return [_version(one) for one in found["items"]], found["next"]
    except (ValueError, KeyError, TypeError):
        raise InvalidData("the list of versions is not what it should be") from None


def _version(one: Any) -> Version:
    return Version(
        one["number"],
        one["size"],
        one["md5"],
        one["type"],
        one["stored_by"],
        read_instant(one["modified"]),
        read_instant(one["replaced"]),
    )
