"""Nodes as rows tell of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pyvospace.model.instants import write_instant
from pyvospace.model.stored import StoredNode
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    import asyncpg

_TYPES = {str(one): one for one in NodeType}


def stored_node(row: asyncpg.Record) -> StoredNode:
    """Read a node from a row with all its columns, as every statement here gives them."""
    properties = row["properties"]
    storage = row["storage"]
    return StoredNode(
        id=row["id"],
        parent_id=row["parent_id"],
        name=row["name"],
        type=_TYPES[row["type"]],
        owner_id=row["owner_id"],
        owner=row["owner"],
        public=row["public"],
        group_read=tuple(row["group_read"]),
        group_write=tuple(row["group_write"]),
        inherit=row["inherit"],
        locked=row["locked"],
        immutable=row["immutable"],
        properties={} if properties == "{}" else json.loads(properties),
        target=row["target"],
        size=row["size"],
        md5=row["md5"],
        created=row["created"],
        changed=row["changed"],
        modified=row["modified"],
        storage_url=row["storage_url"],
        storage=str(storage) if storage else None,
        readable=row["readable"],
        writable=row["writable"],
        busy=row["busy"],
        available=row.get("available"),
        used=row.get("used"),
        quota=row.get("quota"),
        quota_state=row.get("quota_state"),
        structure=row.get("structure"),
        integrity=_integrity(row),
        tier=row.get("tier") or "",
        sha256=row.get("sha256"),
    )


def _integrity(row: asyncpg.Record) -> str:
    """Say whether the bytes are damaged, or since when they are known to have been read again and found good."""
    if row.get("damage"):
        state = "degraded" if row["has_copy"] else "damaged"
        return f"{state} {row['damage']} {write_instant(row['damaged'])}"
    checked, modified = row.get("checked"), row["modified"]
    return f"good {write_instant(checked)}" if checked and modified and modified < checked else ""
