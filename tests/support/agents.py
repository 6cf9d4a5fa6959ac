"""Whoever talks to a pair in tests: sends requests as they are, and holds each answer against what all must fulfil."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape, quoteattr

import aiohttp
from yarl import URL

from pyvospace.model.faults import FAULTS
from pyvospace.model.vocabulary import CORE, Direction
from pyvospace.wire.xml import UWS, VOSPACE, XSI, V
from tests.support.documents import assert_valid
from tests.support.pair import AUTHORITY, Pair

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_LARGE = 1 << 20
U = f"{{{UWS}}}"
_LEAKS = (
    "Traceback",
    "asyncpg",
    'File "',
    "/site-packages",
    "postgresql:",
    "select ",
    "pyvospace/",
    "/tmp/",
    "line 1 column",
)
"""What no answer to a failure may hold."""


@dataclass(frozen=True)
class Answer:
    """An answer, already found to be one that the service may give."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    challenges: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Give the body as text."""
        return self.body.decode()

    @property
    def xml(self) -> Element:
        """Give the document, which is valid."""
        assert self.headers["Content-Type"] == "text/xml", self.text
        return assert_valid(self.body)

    @property
    def fault(self) -> str:
        """Give the name of the fault; empty if it is none."""
        if self.status < 400:
            return ""
        names = [name for name in FAULTS if self.text.startswith(name)]
        return max(names, key=len, default="")

    @property
    def location(self) -> str:
        """Give where it leads."""
        return self.headers["Location"]

    def assert_fault(self, status: int, name: str) -> Answer:
        """Fail unless it is this fault."""
        assert (self.status, self.fault) == (status, name), f"{self.status} {self.text}"
        return self

    def assert_status(self, status: int) -> Answer:
        """Fail unless it has this status."""
        assert self.status == status, f"{self.status} {self.text}"
        return self


def _check(answer: Answer) -> None:
    """Fail if it is an answer that the metadata server may never give."""
    assert answer.status != 500, answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Request-Id"]
    if answer.status in {301, 302, 303, 307, 308}:
        assert URL(answer.location).is_absolute()
    if answer.headers.get("Content-Type", "").startswith("text/xml") and answer.body:
        assert answer.xml is not None
    if answer.status < 400:
        return
    assert answer.headers["Content-Type"] == "text/plain"
    if answer.status == 401:
        assert [one.split()[0] for one in answer.challenges] == ["Bearer", "ivoa_bearer", "ivoa_bearer", "Basic"]
        assert "X-VO-Authenticated" not in answer.headers
    if answer.body:  # none behind HEAD
        assert answer.fault, answer.text
        assert answer.text[len(answer.fault)] in " \n"
        assert not [word for word in _LEAKS if word in answer.text.partition("\n")[0]], answer.text


class Agent:
    """Somebody with a token, or without."""

    def __init__(self, session: aiohttp.ClientSession, pair: Pair, token: str | None) -> None:
        self.session = session
        self.pair = pair
        self.token = token

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        checked: bool = True,
    ) -> Answer:
        """Send a request and follow no redirect; `path` is a path or a whole URL, percent-encoded."""
        url = path if path.startswith("http") else self.pair.url + path
        given = {"Authorization": f"Bearer {self.token}"} if self.token and url.startswith(self.pair.url) else {}
        content = body.encode() if isinstance(body, str) else body
        if content is not None and "Content-Type" not in (headers or {}):
            given["Content-Type"] = "text/xml"
        async with self.session.request(
            method,
            URL(url, encoded=True),
            data=_payload(content),
            headers={**given, **(headers or {})},
            allow_redirects=False,
        ) as response:
            challenges = tuple(response.headers.getall("WWW-Authenticate", []))
            answer = Answer(response.status, response.headers, await response.read(), challenges)
        if checked and url.startswith(self.pair.url):
            _check(answer)
        return answer

    async def get(self, path: str, **query: str | int) -> Answer:
        """Get the node at an encoded path."""
        return await self.send("GET", f"/nodes{path}{'?' if query else ''}{urlencode(query, quote_via=quote)}")

    async def node(self, path: str, **query: str | int) -> Element:
        """Get a node that is there."""
        return (await self.get(path, **query)).assert_status(200).xml

    async def put(self, path: str, kind: str = "DataNode", **parts: object) -> Answer:
        """Create a node; `parts` as for `node_document`."""
        return await self.send("PUT", f"/nodes{path}", node_document(path, kind, **parts))  # type: ignore[arg-type]

    async def make(self, path: str, kind: str = "DataNode", **parts: object) -> str:
        """Create a node, which must succeed; give its path."""
        (await self.put(path, kind, **parts)).assert_status(201)
        return path

    async def post(self, path: str, kind: str = "DataNode", **parts: object) -> Answer:
        """Set a node; `parts` as for `node_document`."""
        return await self.send("POST", f"/nodes{path}", node_document(path, kind, **parts))  # type: ignore[arg-type]

    async def delete(self, path: str) -> Answer:
        """Delete a node."""
        return await self.send("DELETE", f"/nodes{path}")

    async def sync(self, path: str, direction: str, protocol: str, **parts: object) -> Answer:
        """Post a transfer document."""
        document = transfer_document(path, direction, [protocol], **parts)  # type: ignore[arg-type]
        return await self.send("POST", "/synctrans", document)

    async def negotiate(self, path: str, direction: str, protocol: str | None = None) -> tuple[str, str]:
        """Agree on a transfer by document; give job and endpoint as URLs."""
        names = {Direction.PUSH_TO_VOSPACE: "httpsput", Direction.PULL_FROM_VOSPACE: "httpsget"}
        answer = await self.sync(path, direction, protocol or CORE + names[Direction(direction)])
        details = (await self.send("GET", answer.assert_status(303).location)).assert_status(200)
        endpoints = endpoints_of(details.xml)
        job = answer.location.removesuffix("/results/transferDetails")
        assert endpoints, (await self.send("GET", job)).text
        return job, endpoints[0]

    async def push(self, path: str, content: bytes, **headers: str) -> Answer:
        """Bring bytes to a node, by document."""
        _, endpoint = await self.negotiate(path, Direction.PUSH_TO_VOSPACE)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await self.send("PUT", endpoint, content, headers=given)).assert_status(201)

    async def pull(self, path: str) -> bytes:
        """Fetch the bytes of a node, by document."""
        _, endpoint = await self.negotiate(path, Direction.PULL_FROM_VOSPACE)
        return (await self.send("GET", endpoint)).assert_status(200).body

    async def phase(self, job: str) -> str:
        """Give the phase of a job: a bare word without a newline."""
        answer = (await self.send("GET", f"{job}/phase")).assert_status(200)
        assert answer.headers["Content-Type"] == "text/plain"
        return answer.text

    async def error(self, job: str) -> str:
        """Give the name of the fault of a job."""
        return (await self.send("GET", f"{job}/error")).assert_status(200).text


def _payload(content: bytes | None) -> bytes | BytesIO | None:
    """Give large bytes in the form in which aiohttp wants them."""
    return BytesIO(content) if content is not None and len(content) > _LARGE else content


def uri_of(path: str, authority: str = AUTHORITY) -> str:
    """Give the URI of a node at an encoded path."""
    return f"vos://{authority}{path}"


def node_document(
    path: str,
    kind: str = "DataNode",
    *,
    properties: Mapping[str, str | None] | None = None,
    target: str | None = None,
    uri: str | None = None,
    inner: str = "",
    prefix: str = "vos:",
) -> str:
    """Write the document of a node; a property that is None is deleted, `inner` follows the properties."""
    written = "".join(_property(name, value) for name, value in (properties or {}).items())
    details = f"<properties>{written}</properties>" if properties is not None else ""
    link = f"<target>{escape(target)}</target>" if target is not None else ""
    given = quoteattr(uri if uri is not None else uri_of(path))
    return (
        f'<node xmlns="{VOSPACE}" xmlns:vos="{VOSPACE}" xmlns:xsi="{XSI}" xsi:type="{prefix}{kind}" version="2.1" '
        f"uri={given}>{details}{inner}{link}</node>"
    )


def _property(uri: str, value: str | None) -> str:
    if value is None:
        return f'<property uri={quoteattr(uri)} xsi:nil="true"/>'
    return f"<property uri={quoteattr(uri)}>{escape(value)}</property>"


def transfer_document(
    path: str,
    direction: str,
    protocols: list[str],
    *,
    view: str | None = None,
    view_params: Mapping[str, str] | None = None,
    methods: list[str] | None = None,
    params: Mapping[str, str] | None = None,
    target: str | None = None,
    version: str = ' version="2.1"',
) -> str:
    """Write the document of a transfer; each protocol has the security `methods`."""
    inner = "".join(f"<securityMethod uri={quoteattr(uri)}/>" for uri in methods or [])
    return (
        f'<transfer xmlns="{VOSPACE}"{version}><target>{escape(target or uri_of(path))}</target>'
        f"<direction>{escape(direction)}</direction>"
        f"{f'<view uri={quoteattr(view)}>{_params(view_params)}</view>' if view is not None else ''}"
        f"{''.join(f'<protocol uri={quoteattr(uri)}>{inner}</protocol>' for uri in protocols)}"
        f"{_params(params)}"
        f"</transfer>"
    )


def _params(params: Mapping[str, str] | None) -> str:
    return "".join(f"<param uri={quoteattr(uri)}>{escape(value)}</param>" for uri, value in (params or {}).items())


def endpoints_of(transfer: Element) -> list[str]:
    """Give the endpoints of a transfer document."""
    return [one.text or "" for one in transfer.iterfind(f"{V}protocol/{V}endpoint")]


def properties_of(node: Element) -> dict[str, str]:
    """Give the properties of a node document."""
    return {one.get("uri") or "": one.text or "" for one in node.iterfind(f"{V}properties/{V}property")}


def read_only_of(node: Element) -> set[str]:
    """Give the properties that the document marks as read-only."""
    found = node.iterfind(f"{V}properties/{V}property")
    return {one.get("uri") or "" for one in found if one.get("readOnly") == "true"}


def children_of(node: Element) -> list[str]:
    """Give the encoded names of the children, in order."""
    return [(one.get("uri") or "").rsplit("/", 1)[-1] for one in node.iterfind(f"{V}nodes/{V}node")]


def child_of(node: Element, name: str) -> Element:
    """Give a child of a container by its encoded name."""
    (found,) = [one for one in node.iterfind(f"{V}nodes/{V}node") if (one.get("uri") or "").endswith("/" + name)]
    return found


def type_of(node: Element) -> str:
    """Give the type of a node without its prefix."""
    return (node.get(f"{{{XSI}}}type") or "").removeprefix("vos:")


def claims_of(endpoint: str) -> dict[str, object]:
    """Look into the token of an endpoint, without its key."""
    import base64  # noqa: PLC0415

    part = endpoint.split("/files/")[1].split("/", maxsplit=1)[0].split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(found, dict)
    return found
