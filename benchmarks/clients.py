"""Clients of systems that are known by their URL: VOSpace, WebDAV and S3, each by the requests of its standard.

They share one cheap connection, so that the systems are compared and not their clients.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import re
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urljoin, urlsplit

import boto3
from botocore.config import Config

from benchmarks.http import Answer, Connection, request
from benchmarks.measures import NODE, TRANSFER

_BLOCK = 1 << 20
_LONG = 64
_BYTES, _XML = "application/octet-stream", "text/xml"
_TLS = ssl.create_default_context()
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SERVICES = {"nodes": re.compile(r"VOSpace.*#nodes"), "sync": re.compile(r"VOSpace.*#sync(-2\.1)?$")}
_ENDPOINT = re.compile(r"<(?:\w+:)?endpoint>([^<]+)</(?:\w+:)?endpoint>")


class Client(Protocol):
    """One user of a system, with one folder of the run in it."""

    async def prepare(self) -> None:
        """Make the folder."""

    async def look(self) -> None:
        """Ask for one entry."""

    async def create(self, name: str) -> None:
        """Make an empty entry."""

    async def listing(self) -> int:
        """List the folder; tell how many entries came."""

    async def push(self, name: str, content: bytes) -> None:
        """Store a small file."""

    async def pull(self, name: str) -> bytes:
        """Fetch it."""

    async def where_to_push(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Find where a large file is sent to, with the headers for it."""

    async def where_to_pull(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Find where it is fetched."""

    async def delete(self, name: str) -> None:
        """Delete an entry."""

    async def finish(self) -> None:
        """Delete the folder, if that is one request, and close all connections."""


class Wires:
    """Connections of one client, one for each server it is sent to."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Connection] = {}

    async def ask(
        self,
        method: str,
        url: str,
        expected: tuple[int, ...],
        headers: Mapping[str, str],
        *,
        body: bytes = b"",
        kind: str = _BYTES,
    ) -> Answer:
        """Ask, and see that the status is one of those."""
        parts = urlsplit(url)
        connection = self._open.get((parts.scheme, parts.netloc))
        if connection is None:
            connection = self._open[parts.scheme, parts.netloc] = _connection(url)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        answer = await connection.ask(request(method, path, host=parts.netloc, headers=headers, body=body, kind=kind))
        if answer.status not in expected:
            said = " ".join(answer.body[:300].decode(errors="replace").split())
            raise RuntimeError(f"{method} {_shown(url)}: {answer.status} {'' if '<' in said else said}".strip())
        return answer

    def close(self) -> None:
        """Close all."""
        for one in self._open.values():
            one.close()
        self._open.clear()


def _connection(url: str) -> Connection:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return Connection(parts.hostname or "", parts.port or (443 if secure else 80), tls=_TLS if secure else None)


def _shown(url: str) -> str:
    """Give the path of a URL without the secrets that an endpoint has in it."""
    return "/".join(part if len(part) < _LONG else "[token]" for part in urlsplit(url).path.split("/"))


class VOSpaceClient:
    """VOSpace 2.1: documents, and transfers negotiated by /synctrans."""

    def __init__(self, url: str, *, authority: str, folder: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._authority = authority
        self._folder = folder
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._wires = Wires()
        self._services: dict[str, str] = {}

    async def prepare(self) -> None:
        """Find the services, which tell their URLs, and make the container; another client may have made it."""
        answer = await self._wires.ask("GET", f"{self._url}/capabilities", (200,), self._headers)
        self._services = services(answer.body)
        await self._put("", "ContainerNode", (200, 201, 409))

    async def _put(self, name: str, kind: str, expected: tuple[int, ...]) -> None:
        nodes = "<vos:nodes/>" if kind == "ContainerNode" else ""
        document = NODE.format(kind=kind, authority=self._authority, path=self._path(name), nodes=nodes).encode()
        await self._wires.ask("PUT", self._node(name), expected, self._headers, body=document, kind=_XML)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}" if name else self._folder

    def _node(self, name: str) -> str:
        return self._services["nodes"] + quote(self._path(name))

    async def look(self) -> None:
        """Ask for the container without its children."""
        await self._wires.ask("GET", f"{self._node('')}?limit=0", (200,), self._headers)

    async def create(self, name: str) -> None:
        """Make a DataNode."""
        await self._put(name, "DataNode", (200, 201))

    async def listing(self) -> int:
        """List the container, whole."""
        answer = await self._wires.ask("GET", self._node(""), (200,), self._headers)
        return len(re.findall(rb"<(?:\w+:)?node ", answer.body)) - 1

    async def push(self, name: str, content: bytes) -> None:
        """Negotiate and send."""
        url, _ = await self.where_to_push(name)
        await self._wires.ask("PUT", url, (200, 201), {}, body=content)

    async def pull(self, name: str) -> bytes:
        """Negotiate and fetch."""
        url, _ = await self.where_to_pull(name)
        return (await self._wires.ask("GET", url, (200,), {})).body

    async def where_to_push(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Negotiate; endpoints say who may use them."""
        return await self._negotiated(name, "pushToVoSpace", "httpput"), {}

    async def where_to_pull(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Negotiate the other way."""
        return await self._negotiated(name, "pullFromVoSpace", "httpget"), {}

    async def _negotiated(self, name: str, direction: str, protocol: str) -> str:
        path = self._path(name)
        document = TRANSFER.format(authority=self._authority, path=path, direction=direction, protocol=protocol)
        method, url, body = "POST", self._services["sync"], document.encode()
        while True:
            answer = await self._wires.ask(method, url, (200, *_REDIRECTS), self._headers, body=body, kind=_XML)
            if answer.status not in _REDIRECTS:
                break
            method, url, body = "GET", urljoin(url, answer.headers["location"]), b""
        match = _ENDPOINT.search(answer.body.decode())
        if match is None:
            raise RuntimeError(f"no endpoint: {answer.body[:300]!r}")
        return match[1].replace("&amp;", "&")

    async def delete(self, name: str) -> None:
        """Delete a node."""
        await self._wires.ask("DELETE", self._node(name), (200, 204), self._headers)

    async def finish(self) -> None:
        """Delete the container with all that is in it."""
        if self._services:
            await self._wires.ask("DELETE", self._node(""), (200, 204, 404), self._headers)
        self._wires.close()


def services(capabilities: bytes) -> dict[str, str]:
    """Find the URLs of nodes and of synchronous transfers in a VOSI document."""
    found: dict[str, str] = {}
    for capability in ET.fromstring(capabilities).iter("capability"):
        url = capability.findtext("interface/accessURL")
        for name, pattern in _SERVICES.items():
            if url and pattern.search(capability.get("standardID", "")):
                found.setdefault(name, url.strip().rstrip("/"))
    if set(found) != set(_SERVICES):
        raise RuntimeError(f"the capabilities name {sorted(found)} only")
    return found


class DavClient:
    """WebDAV: PROPFIND, MKCOL, PUT and GET."""

    def __init__(self, url: str, *, user: str = "") -> None:
        self._url = url.rstrip("/") + "/"
        self._headers = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
        self._wires = Wires()

    async def prepare(self) -> None:
        """Make the collection; another client may have made it."""
        headers = self._headers | {"Content-Length": "0"}
        await self._wires.ask("MKCOL", self._url, (201, 301, 405, 409), headers)

    async def _find(self, depth: int) -> bytes:
        headers = self._headers | {"Depth": str(depth), "Content-Length": "0"}
        return (await self._wires.ask("PROPFIND", self._url, (207,), headers)).body

    async def look(self) -> None:
        """Ask for the properties of the collection."""
        await self._find(0)

    async def create(self, name: str) -> None:
        """Put an empty file."""
        await self.push(name, b"")

    async def listing(self) -> int:
        """Ask for the properties of all members."""
        return len(re.findall(rb"<(?:\w+:)?response[ >]", await self._find(1))) - 1

    async def push(self, name: str, content: bytes) -> None:
        """Put a file."""
        await self._wires.ask("PUT", self._url + quote(name), (200, 201, 204), self._headers, body=content)

    async def pull(self, name: str) -> bytes:
        """Get it."""
        return (await self._wires.ask("GET", self._url + quote(name), (200,), self._headers)).body

    async def where_to_push(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Give the URL of the file itself."""
        return self._url + quote(name), self._headers

    async def where_to_pull(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Give the same."""
        return self._url + quote(name), self._headers

    async def delete(self, name: str) -> None:
        """Delete a file."""
        await self._wires.ask("DELETE", self._url + quote(name), (200, 204), self._headers)

    async def finish(self) -> None:
        """Delete the collection."""
        await self._wires.ask("DELETE", self._url, (200, 204, 404), self._headers)
        self._wires.close()


class S3Client:
    """S3: boto3 signs URLs (with keys from where boto3 looks for them), and the cheap connection asks."""

    def __init__(self, signer: Any, bucket: str, prefix: str) -> None:
        self._s3 = signer
        self._bucket = bucket
        self._prefix = prefix
        self._wires = Wires()

    def _signed(self, operation: str, **parameters: str) -> str:
        return str(self._s3.generate_presigned_url(operation, Params={"Bucket": self._bucket, **parameters}))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    async def prepare(self) -> None:
        """Make the object that is looked for."""
        await self.push("", b"")

    async def look(self) -> None:
        """Ask for the head of an object."""
        await self._wires.ask("HEAD", self._signed("head_object", Key=self._key("")), (200,), {})

    async def create(self, name: str) -> None:
        """Put an empty object."""
        await self.push(name, b"")

    async def listing(self) -> int:
        """List all objects below the prefix, page by page."""
        count, more = 0, dict[str, str]()
        while True:
            url = self._signed("list_objects_v2", Prefix=self._key(""), **more)
            body = (await self._wires.ask("GET", url, (200,), {})).body
            count += body.count(b"<Key>")
            token = re.search(rb"<NextContinuationToken>([^<]+)<", body)
            if token is None:
                return count - 1
            more = {"ContinuationToken": token[1].decode()}

    async def push(self, name: str, content: bytes) -> None:
        """Put an object."""
        url, headers = await self.where_to_push(name)
        await self._wires.ask("PUT", url, (200,), headers, body=content)

    async def pull(self, name: str) -> bytes:
        """Get it."""
        url, headers = await self.where_to_pull(name)
        return (await self._wires.ask("GET", url, (200,), headers)).body

    async def where_to_push(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Sign a PUT."""
        return self._signed("put_object", Key=self._key(name)), {}

    async def where_to_pull(self, name: str) -> tuple[str, Mapping[str, str]]:
        """Sign a GET."""
        return self._signed("get_object", Key=self._key(name)), {}

    async def delete(self, name: str) -> None:
        """Delete an object."""
        await self._wires.ask("DELETE", self._signed("delete_object", Key=self._key(name)), (200, 204), {})

    async def finish(self) -> None:
        """Delete all objects of the run."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._key(""))
        for page in await asyncio.to_thread(list, pages):
            keys = [{"Key": one["Key"]} for one in page.get("Contents", ())]
            if keys:
                await asyncio.to_thread(self._s3.delete_objects, Bucket=self._bucket, Delete={"Objects": keys})
        self._wires.close()


def s3_clients(url: str, **keys: str) -> Callable[[str], S3Client]:
    """Know a bucket; clients differ in their prefix."""
    parts = urlsplit(url)
    signer = boto3.client(
        "s3",
        endpoint_url=f"{parts.scheme}://{parts.netloc}",
        **keys,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return lambda prefix: S3Client(signer, parts.path.strip("/"), prefix)


def send(url: str, headers: Mapping[str, str], source: Path) -> None:
    """PUT a large file."""
    length = {"Content-Length": str(source.stat().st_size)}
    with source.open("rb") as file, _asked("PUT", url, {**headers, **length}, file) as answer:
        if answer.status not in {200, 201, 204}:
            raise RuntimeError(f"PUT {_shown(url)}: {answer.status} {answer.read(300)!r}")


def drain(url: str, headers: Mapping[str, str], size: int) -> None:
    """GET a large file and throw it away."""
    buffer, read = bytearray(_BLOCK), 0
    with _asked("GET", url, headers, None) as answer:
        while got := answer.readinto(buffer):
            read += got
        if read != size:
            raise RuntimeError(f"GET {_shown(url)}: {answer.status}, {read} bytes, not {size}")


@contextlib.contextmanager
def _asked(method: str, url: str, headers: Mapping[str, str], body: Any) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port, context=_TLS, blocksize=_BLOCK)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, blocksize=_BLOCK)
    )
    with contextlib.closing(connection):
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, dict(headers))
        with connection.getresponse() as answer:
            yield answer
