"""What fsspec is told of a node."""

from __future__ import annotations

from typing import Any, Final

from pyvospace.model.entries import Entry
from pyvospace.model.vocabulary import NodeType

FILE: Final = "file"
DIRECTORY: Final = "directory"
LINK: Final = "link"
"""A link that is told itself: in a listing, or if it leads to nothing that can be reached."""
_TYPES: Final = {NodeType.CONTAINER: DIRECTORY, NodeType.LINK: LINK}

Info = dict[str, Any]


def described(path: str, entry: Entry) -> Info:
    """Tell of an entry, under the name that the caller knows it by."""
    info: Info = {
        "name": path,
        "type": _TYPES.get(entry.type, FILE),
        "size": entry.length or 0,
        "mtime": entry.mtime,
        "changed": entry.changed,
        "etag": entry.etag,
        "md5": entry.md5,
        "content_type": entry.content_type,
        "owner": entry.owner,
        "public": entry.public,
        "readable": entry.readable,
        "writable": entry.writable,
        "locked": entry.locked,
        "islink": entry.type is NodeType.LINK,
    }
    if entry.type is NodeType.LINK:
        info["destination"] = entry.target
    return info


def version_of(info: Info) -> str:
    """Name the bytes of a file, and other bytes otherwise: by digest, else by size and date."""
    return str(info["etag"] or info["md5"] or f"{info['size']} {info['changed'].isoformat()}")
