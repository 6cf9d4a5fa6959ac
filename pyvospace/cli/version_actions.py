"""What the command on versions does."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyvospace.cli.node_actions import write_line
from pyvospace.cli.quantities import write_size
from pyvospace.model.instants import write_instant

if TYPE_CHECKING:
    from pyvospace.cli.session import Session
    from pyvospace.client.versions import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be done, as it was written; nothing: list them."""

    get: tuple[int, str] | None
    restore: int | None
    delete: int | None


async def versions(session: Session, uri: str, asked: Asked, *, as_json: bool) -> None:
    """List, fetch, restore or remove versions of a node."""
    place = await session.place(uri)
    space, node = place.space, place.uri
    if asked.get is not None:
        number, name = asked.get
        await space.pull_version(node, number, sys.stdout.buffer if name == "-" else Path(name))
    elif asked.restore is not None:
        await space.restore_version(node, asked.restore)
    elif asked.delete is not None:
        await space.delete_version(node, asked.delete)
    else:
        async with aclosing(space.versions(node)) as found:
            async for one in found:
                write_line(json.dumps(_told(one), ensure_ascii=False) if as_json else _line(one))


def _told(one: Version) -> dict[str, object]:
    return {
        "number": one.number,
        "size": one.size,
        "md5": one.md5,
        "type": one.content_type,
        "stored_by": one.stored_by,
        "modified": write_instant(one.modified),
        "replaced": write_instant(one.replaced),
    }


def _line(one: Version) -> str:
    return "\t".join(
        [str(one.number), write_size(one.size), write_instant(one.modified), one.stored_by or "-", one.md5]
    )
