"""``/versions/{path}``: what data nodes held before, as JSON; their bytes by redirect to a storage server."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import write_instant
from pyvospace.server.handlers.requests import context, form, json_answer, node_path, one, parameters, see_other
from pyvospace.server.operations import versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyvospace.db.versions import Version

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_MOST: Final = 1000
_NEWEST: Final = (1 << 31) - 1


async def get(request: web.Request) -> web.StreamResponse:
    """List the versions of a node, the newest first; with ``number`` send the client to the bytes of one."""
    ctx, asked, path = context(request), parameters(request), node_path(request)
    number = _number(asked, "NUMBER")
    if number is not None:
        return see_other(await versions.locate(ctx, path, number))
    limit = min(_number(asked, "LIMIT") or _MOST, _MOST)
    found = await versions.of_node(ctx, path, before=_number(asked, "AFTER") or _NEWEST, limit=limit)
    last = str(found[-1].number) if len(found) == limit else None
    return json_answer(json.dumps({"items": [_told(one) for one in found], "next": last}).encode())


async def post(request: web.Request) -> web.StreamResponse:
    """Let a version be what the node holds."""
    await versions.restore(context(request), node_path(request), _required(await form(request)))
    return web.Response(status=204)


async def delete(request: web.Request) -> web.StreamResponse:
    """Remove a version."""
    await versions.remove(context(request), node_path(request), _required(parameters(request)))
    return web.Response(status=204)


def _number(asked: Mapping[str, list[str]], name: str) -> int | None:
    text = one(asked, name)
    if text is not None and not _NUMBER.fullmatch(text):
        raise InvalidArgument(f"{name.lower()}: {text[:80]!r} is no number of a version")
    return None if text is None else int(text)


def _required(asked: Mapping[str, list[str]]) -> int:
    number = _number(asked, "NUMBER")
    if number is None:
        raise InvalidArgument("number: say which version")
    return number


def _told(version: Version) -> dict[str, Any]:
    return {
        "number": version.number,
        "size": version.size,
        "md5": version.md5.hex(),
        "type": version.content_type,
        "stored_by": version.stored_by or None,
        "modified": write_instant(version.modified),
        "replaced": write_instant(version.replaced),
    }
