"""Archives as a storage server may ask the catalogue for them: functions of the schema ``storage_api``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.errors import Unavailable
from pyvospace.db.pool import acting
from pyvospace.db.statements import QueryFile
from pyvospace.db.storage import LEASE
from pyvospace.model.archives import PackClaim, PackedNode, UnpackClaim, archive_format
from pyvospace.model.claims import OutcomeUnknownError
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import InternalFault, PermissionDenied
from pyvospace.model.nodes import Param, View

if TYPE_CHECKING:
    from typing import Any
    from uuid import UUID

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.archives import ArchiveFormat, Unpacked
    from pyvospace.model.claims import EndpointClaims


class _Sql(QueryFile, file="archives.sql"):
    claim_pack: ClassVar[str]
    nodes: ClassVar[str]
    children: ClassVar[str]
    delivered: ClassVar[str]
    claim_unpack: ClassVar[str]
    unpack: ClassVar[str]
    signing_key: ClassVar[str]


class PostgresArchives:
    """What `pyvospace.storage.archives.catalogue.ArchiveCatalogue` asks for, over the database.

    Parameters
    ----------
    storage
        Whose servers ask.
    """

    def __init__(self, database: Database, storage: UUID, *, upload_wait: float, repeat_window: float) -> None:
        self._database = database
        self._storage = storage
        self._upload_wait = upload_wait
        self._repeat_window = repeat_window

    async def claim_pack(self, claims: EndpointClaims) -> PackClaim:
        """Check the right to fetch an archive once more."""
        row = await self._database.fetchrow(_Sql.claim_pack, self._storage, claims.job_id, claims.user_id)
        if row is None or claims.job_id is None:
            raise PermissionDenied("this endpoint was withdrawn; negotiate again")
        request = json.loads(row["request"])
        return PackClaim(
            job_id=claims.job_id,
            user_id=claims.user_id,
            format=_format(request),
            nodes=tuple(request["served"][1]),
            waiting=row["waiting"],
        )

    async def nodes(self, claim: PackClaim, ids: Sequence[int]) -> list[tuple[PackedNode, tuple[str, ...]]]:
        """Give those nodes that the caller may read now, each with its path."""
        rows = await self._database.fetch(_Sql.nodes, self._storage, claim.job_id, claim.user_id, list(ids))
        return [(PackedNode._make(row[:-1]), tuple(row["path"])) for row in rows]

    async def children(self, claim: PackClaim, parents: Sequence[int], *, after: str, at_most: int) -> list[PackedNode]:
        """Give children that the caller may read now, container by container; of the first those behind a name."""
        rows = await self._database.fetch(
            _Sql.children, self._storage, claim.job_id, claim.user_id, list(parents), after, at_most
        )
        return list(map(PackedNode._make, rows))

    async def delivered(self, claim: PackClaim) -> None:
        """Complete the job that waited for this delivery."""
        await self._database.fetchval(_Sql.delivered, claim.job_id)

    async def signing_key(self) -> tuple[str, bytes]:
        """Give the key that signs endpoints of other storages."""
        row = await self._database.fetchrow(_Sql.signing_key)
        if row is None:
            raise InternalFault("there is no key that signs endpoints")
        return row["id"], row["secret"]

    async def claim_unpack(self, claims: EndpointClaims, *, size: int | None) -> UnpackClaim:
        """Check the right to bring an archive once more and take the writer's lease of the container."""
        attempt = secrets.token_hex(16)
        row = await self._database.fetchrow(
            _Sql.claim_unpack,
            self._storage,
            claims.job_id,
            claims.user_id,
            attempt,
            LEASE,
            size,
            self._repeat_window,
            wait=self._upload_wait,
        )
        if row is None:
            raise AssertionError
        found = _format(json.loads(row["request"]))
        return UnpackClaim(id=attempt, lease=LEASE, limit=row["size_limit"], format=found, path=tuple(row["path"]))

    async def unpack(self, claims: EndpointClaims, claim: UnpackClaim, tree: Unpacked) -> None:
        """Make the nodes of an archive and complete its job, all or nothing.

        Raises
        ------
        OutcomeUnknownError
            The connection was lost: it may have happened or not.
        """
        nodes = len(tree.folders) + len(tree.leaves)
        told = json.dumps({**json.loads(acting.get().told), "nodes": nodes})

        async def work(connection: Connection) -> None:
            await connection.execute(
                _Sql.unpack, self._storage, claims.job_id, claims.user_id, claim.id, *_columns(tree), told
            )
            crash_point("before-commit")

        try:
            await self._database.transact(work, tree=True)
        except Unavailable as error:
            raise OutcomeUnknownError from error
        crash_point("after-commit-before-answer")


def _format(request: dict[str, Any]) -> ArchiveFormat:
    view = request["view"]
    params = tuple(Param(uri, value) for uri, value in view["params"]) if view else ()
    found = archive_format(View(view["uri"], params=params)) if view else None
    if found is None:
        raise PermissionDenied("this is no endpoint for archives")
    return found


def _columns(tree: Unpacked) -> tuple[list[Any], ...]:
    stored = [leaf.stored for leaf in tree.leaves]
    return (
        list(tree.level_ends),
        [parent for parent, _ in tree.folders],
        [name for _, name in tree.folders],
        [leaf.folder for leaf in tree.leaves],
        [leaf.name for leaf in tree.leaves],
        [leaf.target for leaf in tree.leaves],
        [one and one.location for one in stored],
        [one and one.size for one in stored],
        [one and one.md5 for one in stored],
        [one and one.sha256 for one in stored],
        [one and one.content_type for one in stored],
        [one and one.structure for one in stored],
        [one and one.changed for one in stored],
    )
