"""``/files/{path}``: bytes by path, answered by redirect to a storage server (OpenCADC's files-proto)."""

from __future__ import annotations

import base64
import hashlib

from aiohttp import web

from pyvospace.model.nodes import Param
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.vocabulary import HTTPS_PUT, LENGTH, TYPE, Direction
from pyvospace.server.handlers.requests import context, node_path, see_other
from pyvospace.server.operations import transfers
from pyvospace.server.policy import Right
from pyvospace.service.content import content_disposition, content_type, facts_of

_EMPTY_MD5 = hashlib.md5(usedforsecurity=False).digest()


async def get(request: web.Request) -> web.StreamResponse:
    """Send the client to the bytes; a node without bytes is answered here."""
    ctx = context(request)
    right = Right.SEE if request.method == "HEAD" else Right.READ
    node, endpoint = await transfers.locate_file(ctx, node_path(request), right=right)
    if endpoint is not None:
        return see_other(endpoint)
    kind = content_type(node.properties.get(TYPE))
    headers = {
        "Content-Type": kind,
        "Content-Disposition": content_disposition(node.name, kind),
        "Digest": f"md5={base64.b64encode(node.md5 or _EMPTY_MD5).decode()}",
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
    }
    if node.size:
        return web.Response(headers=headers | {"Content-Length": str(node.size)})
    return web.Response(status=204 if ctx.service.opencadc else 200, headers=headers)


async def put(request: web.Request) -> web.StreamResponse:
    """Send the client, with his bytes, to a storage server; one that has sent none asks where he may."""
    ctx = context(request)
    facts_of(request.headers)  # what is wrong there is refused before the bytes are sent on
    size = request.content_length if request.body_exists else None
    wanted = Transfer(
        target=str(ctx.uri(node_path(request))),
        direction=Direction.PUSH_TO_VOSPACE,
        protocols=(Protocol(HTTPS_PUT),),
        params=() if size is None else (Param(LENGTH, str(size)),),
        version="2.1",
    )
    placed = await transfers.with_endpoints(ctx, await transfers.push_to_vospace(ctx, wanted))
    response = web.Response(status=307, headers={"Location": placed.protocols[0].endpoint or ""})
    if request.body_exists:
        # 307 keeps method and body; a client that waits for 100-continue has sent nothing yet.
        response.headers["Connection"] = "close"
        response.force_close()
    return response


async def leave_body(_: web.Request) -> None:
    """Do not ask for a body with 100-continue: it is to go elsewhere."""
