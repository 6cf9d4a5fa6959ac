"""What handlers need of a request: who calls, the path, parameters, the body; each read once and checked."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from aiohttp import web

from pyvospace.model.faults import (
    InvalidArgument,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from pyvospace.model.uris import decode_path
from pyvospace.server.context import Context, Service
from pyvospace.wire import json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler

SERVICE: Final = web.AppKey("service", Service)
CONTEXT: Final = web.RequestKey("context", Context)
TRIED: Final = web.RequestKey("tried", str)
"""Name in a form with which somebody wants to log in, for the audit log."""
_BODY: Final = web.RequestKey("body", bytes)

_XML: Final = frozenset({"text/xml", "application/xml", "application/octet-stream", "text/plain"})
"""What a document may call itself; a request without a type is taken at its word (A-05)."""
FORM: Final = "application/x-www-form-urlencoded"
_ONE_PLAIN: Final = re.compile(r"[A-Za-z0-9_]+=[A-Za-z0-9_.:/#-]*").fullmatch
_PARAMETERS: Final = 100
"""Most parameters of a request."""
JSON: Final = "application/json"
_FORMS: Final = frozenset({JSON, "text/xml", "application/xml"})
_NO_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def context(request: web.Request) -> Context:
    """Give the context that the middleware has made."""
    return request[CONTEXT]


def node_path(request: web.Request) -> tuple[str, ...]:
    """Give the names behind ``/nodes`` or ``/files``, decoded once, from the path as it was sent.

    Not from ``match_info``, which aiohttp has decoded already: what is decoded twice names another node.

    Raises
    ------
    InvalidURI
        They are no path of a node.
    """
    resource = request.match_info.route.resource
    if resource is None or "path" not in request.match_info:
        return ()
    before = resource.canonical.count("/")
    # With the slash that belongs to it: another one behind it stands for an empty name.
    return decode_path("/" + request.rel_url.raw_path.split("/", before)[before])


def parameters(request: web.Request) -> dict[str, list[str]]:
    """Give the query's parameters, names in upper case (J6 of the clients), each with its values in order.

    Raises
    ------
    InvalidArgument
        They are no UTF-8, or too many.
    """
    query = request.rel_url.raw_query_string
    return _collect(query) if query else {}


def _collect(encoded: str) -> dict[str, list[str]]:
    if _ONE_PLAIN(encoded):  # as most are: nothing is to be decoded
        name, _, value = encoded.partition("=")
        return {name.upper(): [value]}
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS)
    except UnicodeDecodeError:
        raise InvalidArgument("a parameter is no UTF-8") from None
    except ValueError:
        raise InvalidArgument(f"there are more than {_PARAMETERS} parameters") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.upper(), []).append(value)
    return found


async def form(request: web.Request) -> dict[str, list[str]]:
    """Give the parameters of the query, and behind them those of the body if it is a form.

    Raises
    ------
    InvalidArgument
        As `parameters`.
    """
    found = parameters(request)
    if request.content_type == FORM:
        try:
            encoded = (await body(request)).decode()
        except UnicodeDecodeError:
            raise InvalidArgument("the form is no UTF-8") from None
        for name, values in _collect(encoded).items():
            found.setdefault(name, []).extend(values)
    return found


def wants_json(request: web.Request) -> bool:
    """Say whether the answer is to be JSON instead of XML: by parameter ``Accept``, or else by the header.

    JSON must be named; the first of two that are wanted equally is given.

    Raises
    ------
    InvalidArgument
        As `parameters`.
    """
    if "accept=" in request.rel_url.raw_query_string.lower() and (asked := parameters(request).get("ACCEPT")):
        return asked[0].strip().lower() == JSON
    accept = request.headers.get("Accept", "")
    if JSON not in accept.lower():  # as nearly always
        return False
    known = [(name, weight) for name, weight in map(_weighed, accept.lower().split(",")) if name in _FORMS and weight]
    # Of those that are wanted most, max gives the first.
    return bool(known) and max(known, key=lambda one: one[1])[0] == JSON


def _weighed(text: str) -> tuple[str, float]:
    """Read one of the types that a client accepts, and how much it wants it."""
    name, *details = (part.strip() for part in text.split(";"))
    weight = next((one[2:] for one in details if one.startswith("q=")), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 0.0


class _Document(web.Response):
    """An answer that is a document of ours: no bytes of a user."""


@web.middleware
async def representation(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a document as the client wants it; what is streamed is that already."""
    as_json = wants_json(request)
    response = await handler(request)
    if not isinstance(response, _Document):
        return response
    if as_json and isinstance(response.body, bytes):
        response.body = json.convert(response.body)
        response.content_type = JSON
    return response


def one(found: Mapping[str, list[str]], name: str) -> str | None:
    """Give the value of a parameter; None without it.

    Raises
    ------
    InvalidArgument
        It is there more than once.
    """
    values = found.get(name, [])
    if len(values) > 1:
        raise InvalidArgument(f"{name.lower()} is given {len(values)} times")
    if values and "\0" in values[0]:
        raise InvalidArgument(f"{name.lower()} holds a NUL")
    return values[0] if values else None


def require_text(found: Mapping[str, list[str]]) -> None:
    """Require that the document of a job can repeat the values of its parameters (UWS 1.1, section 2.2.2.4).

    Raises
    ------
    InvalidArgument
        One has a character that stands in no XML.
    """
    for name, values in found.items():
        if any(_NO_XML.search(value) for value in values):
            raise InvalidArgument(f"{name.lower()[:80]!r} holds a character that no document can show")


async def expect(request: web.Request) -> None:
    """Ask for the body of a client that waits for 100-continue; any other expectation is none of ours."""
    if request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun


async def document(request: web.Request) -> bytes:
    """Read the body of a request that brings a document.

    Raises
    ------
    UnsupportedMediaType
        It calls itself something that no document is, or is compressed.
    RequestEntityTooLarge, RequestTimeout
        It is larger, or came more slowly, than the limits say.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send documents without Content-Encoding")
    if "Content-Type" in request.headers and request.content_type not in _XML:
        raise UnsupportedMediaType(f"send documents as text/xml, not {request.content_type[:80]}")
    return await body(request)


async def body(request: web.Request) -> bytes:
    """Read a small body within the limits, once."""
    if _BODY in request:
        return request[_BODY]
    service = request.app[SERVICE]
    limit, patience = service.limits.document_bytes, service.settings.limits.body_timeout
    if request.content.is_eof():  # it came with the head, as nearly all do: there is nothing to wait for
        read = await _read(request, limit)
    else:
        try:
            async with asyncio.timeout(patience):
                read = await _read(request, limit)
        except TimeoutError:
            raise RequestTimeout(f"the document did not come within {patience:g} s") from None
    request[_BODY] = read
    return read


async def _read(request: web.Request, limit: int) -> bytes:
    too_large = RequestEntityTooLarge(f"a document has {limit} bytes at the most")
    if request.content_length is not None and request.content_length > limit:
        raise too_large
    pieces = bytearray()
    async for piece in request.content.iter_any():
        pieces += piece
        if len(pieces) > limit:
            raise too_large
    return bytes(pieces)


def xml(text: bytes, *, status: int = 200) -> web.Response:
    """Answer with a document: text/xml, without charset (rulings); or as JSON, if that is what the client wants."""
    return _Document(status=status, body=text, headers={"Content-Type": "text/xml"})


def json_answer(text: bytes) -> web.Response:
    """Answer with what is JSON only."""
    return web.Response(body=text, headers={"Content-Type": JSON})


def plain(text: str, *, status: int = 200) -> web.Response:
    """Answer with a bare word or sentence, without a newline (T5 of the clients)."""
    return web.Response(status=status, body=text.encode(), headers={"Content-Type": "text/plain"})


def see_other(url: str) -> web.Response:
    """Send the client to another, absolute URL with GET."""
    return web.Response(status=303, headers={"Location": url})
