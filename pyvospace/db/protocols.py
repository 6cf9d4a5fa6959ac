"""Rows of what storage servers offer by protocols beside HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.nodes import Param
from pyvospace.model.transfers import Offer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pyvospace.db.pool import Database


class _Sql(QueryFile, file="protocols.sql"):
    offer: ClassVar[str]
    offered: ClassVar[str]
    endpoints: ClassVar[str]


async def offer(database: Database, storage: UUID, url: str, offers: Sequence[Offer]) -> None:
    """Enter what the server at `url` of a storage, which has been announced, offers from now on."""
    packed = [
        {"protocol": one.uri, "endpoint": one.url, "params": [[param.uri, param.value] for param in one.params]}
        for one in offers
    ]
    await database.fetchval(_Sql.offer, storage, url, json.dumps(packed))


async def offered(database: Database) -> frozenset[str]:
    """Give the URIs of the protocols that clients can use now wherever their bytes go."""
    return frozenset(row["protocol"] for row in await database.fetch(_Sql.offered))


async def endpoints(database: Database, storage: str, server: str) -> dict[str, Offer]:
    """Give what a storage offers now by protocol, at the server with this URL if it can."""
    return {
        row["protocol"]: Offer(
            row["protocol"], row["endpoint"], tuple(Param(*pair) for pair in json.loads(row["params"]))
        )
        for row in await database.fetch(_Sql.endpoints, storage, server)
    }
