"""Transfers that a storage server drives itself, against servers of somebody else."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pyvospace.config import Settings
from pyvospace.model.faults import Fault, InsufficientStorage, NodeBusy, PermissionDenied, TransferFailed
from pyvospace.model.jobs import Claimed, Kind, Progress
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.vocabulary import (
    CORE,
    HTTP_GET,
    HTTP_PUT,
    HTTPS_GET,
    SSO_BASIC,
    SSO_CERTIFICATE,
    Direction,
)
from pyvospace.service.outgoing import Outgoing
from pyvospace.storage import remote as fetching
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.room import Room
from pyvospace.storage.testing.doubles import FailAt, MemoryCatalogue
from pyvospace.storage.third_party import ThirdParty
from pyvospace.storage.threads import Workers
from pyvospace.uws.transfers import pack
from tests.storage.serving import make_settings, staged, stored
from tests.support.remote import LOOPBACK, remote

DATA = bytes(range(256)) * 20_000
MD5, SHA256 = hashlib.md5(DATA).digest(), hashlib.sha256(DATA).digest()


@dataclass
class Site:
    """A storage server without its HTTP side, and what it did."""

    settings: Settings
    catalogue: MemoryCatalogue
    third_party: ThirdParty
    completed: list[Claimed] = field(default_factory=list)

    async def complete(self, claimed: Claimed) -> None:
        self.completed.append(claimed)

    async def pull(self, *protocols: Protocol | str) -> Claimed:
        job = claim(Direction.PULL_TO_VOSPACE, *protocols)
        await self.third_party.pull_to(job)
        return job

    async def push(self, *protocols: Protocol | str) -> Claimed:
        job = claim(Direction.PUSH_FROM_VOSPACE, *protocols)
        await self.third_party.push_from(job)
        return job

    def content(self) -> bytes | None:
        """Give the bytes of the node, having made sure that nothing else is there."""
        assert staged(self.settings) == []
        file = self.catalogue.node(7).stored
        assert len(stored(self.settings)) == (file is not None)
        return None if file is None else stored(self.settings)[0].read_bytes()


def claim(direction: Direction, *protocols: Protocol | str) -> Claimed:
    get = HTTP_GET if direction == Direction.PULL_TO_VOSPACE else HTTP_PUT
    wanted = tuple(one if isinstance(one, Protocol) else Protocol(get, one) for one in protocols)
    request = pack(Transfer("vos://localhost~space/home/a", direction, protocols=wanted))
    return Claimed(
        id="0" * 40,
        kind=Kind.PULL_TO,
        owner_id=1,
        request=request,
        node_id=7,
        parent_id=1,
        name="a",
        node_uri="vos://localhost~space/home/a",
        attempt="1" * 32,
        attempts=1,
        seconds_left=None,
        progress=Progress(),
    )


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(fetching, "_PAUSES", (0.0, 0.0))
    outgoing = {"ports": ("1-65535",), "allow": (LOOPBACK,), "pull_bytes": 10_000_000, "idle_timeout": 5.0}
    settings = make_settings(tmp_path).model_copy(
        update={"outgoing": Settings.model_validate({"outgoing": outgoing}).outgoing}
    )
    backend, workers, catalogue = PosixBackend(settings.storage.path), Workers(), MemoryCatalogue()
    await backend.start()
    made: list[Site] = []

    class Completion:
        async def complete(self, claimed: Claimed) -> None:
            await made[0].complete(claimed)

    async with Outgoing(settings) as client:
        third_party = ThirdParty(
            settings,
            catalogue=catalogue,
            backend=backend,
            workers=workers,
            room=Room(backend, 0.0),
            outgoing=client,
            completion=Completion(),
        )
        made.append(Site(settings, catalogue, third_party))
        yield made[0]
    workers.close()
    await backend.close()


class Far:
    """A server with one file, that does what its path says."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.got: dict[str, bytes] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.method == "PUT":
            return await self._take(request)
        kind = request.path.removeprefix("/")
        if kind.isdigit():
            return web.Response(status=int(kind), text="geheim: words of the far side")
        answer: web.StreamResponse = await getattr(self, f"_{kind}")(request)
        return answer

    async def _take(self, request: web.Request) -> web.Response:
        self.got[request.path] = await request.read() if request.path != "/hasty" else b""
        status = request.path.removeprefix("/")
        return web.Response(status=int(status) if status.isdigit() else 201)

    async def _good(self, _: web.Request) -> web.Response:
        digest = f"md5={b64encode(MD5).decode()}"
        return web.Response(body=DATA, headers={"Digest": digest, "Content-Type": "image/fits"})

    async def _empty(self, _: web.Request) -> web.Response:
        return web.Response(body=b"")

    async def _wrong(self, _: web.Request) -> web.Response:
        return web.Response(body=DATA, headers={"Repr-Digest": f"sha-256=:{b64encode(b'x' * 32).decode()}:"})

    async def _unreadable(self, _: web.Request) -> web.Response:
        return web.Response(body=DATA, headers={"Digest": "md5=?"})

    async def _short(self, request: web.Request) -> web.StreamResponse:
        return await self._partly(request, {})

    async def _chunked(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(DATA)
        return response

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(DATA)

    async def _open(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.0 200 OK\r\n\r\nas far as it goes")
        request.transport.close()
        return web.Response()

    async def _packed(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, x-chunked\r\n\r\nas far as it goes")
        request.transport.close()
        return web.Response()

    async def _ranges(self, request: web.Request) -> web.StreamResponse:
        return await self._partly(request, {"Accept-Ranges": "bytes", "ETag": '"v1"'})

    async def _dated(self, request: web.Request) -> web.StreamResponse:
        return await self._partly(request, {"Accept-Ranges": "bytes", "Last-Modified": formatdate(0, usegmt=True)})

    async def _changing(self, request: web.Request) -> web.StreamResponse:
        changed = {"Accept-Ranges": "bytes", "ETag": f'"v{len(self.requests)}"'}
        return web.Response(body=DATA) if "Range" in request.headers else await self._partly(request, changed)

    async def _lying(self, request: web.Request) -> web.StreamResponse:
        if "Range" not in request.headers:
            return await self._partly(request, {"Accept-Ranges": "bytes", "ETag": '"v1"'})
        span = {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}
        return web.Response(status=206, body=DATA, headers=span)

    async def _heedless(self, request: web.Request) -> web.StreamResponse:
        """Go on with another version, as servers do that know no If-Range."""
        tag = f'"v{len(self.requests)}"'
        if "Range" not in request.headers:
            return await self._partly(request, {"Accept-Ranges": "bytes", "ETag": tag})
        first = int(request.headers["Range"][6:-1])
        span = {"Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}", "ETag": tag}
        return web.Response(status=206, body=DATA[first:], headers=span)

    async def _boundless(self, request: web.Request) -> web.StreamResponse:
        """Tell a range with a number that nobody can read."""
        if "Range" not in request.headers:
            return await self._partly(request, {"Accept-Ranges": "bytes", "ETag": '"v1"'})
        return web.Response(status=206, headers={"Content-Range": f"bytes 0-{'9' * 5000}/1"})

    async def _abridged(self, request: web.Request) -> web.StreamResponse:
        """Break off in the middle of a file of unknown size, and go on with less than is told."""
        first = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if first:
            span = {"Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"}
            return web.Response(status=206, body=DATA[first:-1], headers=span)
        response = web.StreamResponse(headers={"Accept-Ranges": "bytes", "ETag": '"v1"'})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(DATA[:1000])
        assert request.transport is not None
        await asyncio.sleep(0.05)
        request.transport.abort()
        return response

    async def _stuck(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA))})
        await response.prepare(request)
        await response.write(DATA[:1000])
        await asyncio.sleep(30)
        return response

    async def _partly(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        """Send a third of what is asked for, or the rest when it is small, and break off."""
        first = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if first:
            assert request.headers["If-Range"] == (headers.get("ETag") or headers["Last-Modified"])
            headers = {**headers, "Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"}
        response = web.StreamResponse(status=206 if first else 200, headers=headers)
        response.content_length = len(DATA) - first
        await response.prepare(request)
        last = min(first + len(DATA) // 3 + 1, len(DATA))
        await response.write(DATA[first:last])
        if last < len(DATA):
            assert request.transport is not None
            await asyncio.sleep(0.05)
            request.transport.abort()
        return response


@pytest.fixture
async def far() -> AsyncIterator[tuple[Far, str]]:
    handler = Far()
    async with remote(handler.answer) as server:
        yield handler, f"http://127.0.0.1:{server.port}"


async def test_pull_stores_what_is_there(site: Site, far: tuple[Far, str]) -> None:
    job = await site.pull(f"{far[1]}/good")
    assert site.content() == DATA
    file = site.catalogue.node(7).stored
    assert file is not None
    assert (file.size, file.md5, file.sha256, file.content_type) == (len(DATA), MD5, SHA256, "image/fits")
    assert job.progress == Progress(bytes_done=len(DATA), bytes_total=len(DATA))


@pytest.mark.parametrize(("path", "content"), [("empty", b""), ("chunked", DATA), ("ranges", DATA), ("dated", DATA)])
async def test_pull_of_every_honest_kind(site: Site, far: tuple[Far, str], path: str, content: bytes) -> None:
    await site.pull(f"{far[1]}/{path}")
    assert site.content() == content


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("404", "HTTP status 404"),
        ("206", "HTTP status 206"),
        ("short", "the connection broke off"),
        ("wrong", "SHA-256 of the bytes received"),
        ("unreadable", "not a md5 digest"),
        ("open", "does not tell where the file ends"),
        ("packed", "does not tell where the file ends"),
        ("endless", "more than 10000000 bytes"),
        ("changing", "the connection broke off"),
        ("lying", "the connection broke off"),
        ("heedless", "the connection broke off"),
        ("boundless", "the connection broke off"),
        ("abridged", "the body ended after"),
    ],
)
async def test_pull_of_what_is_not_whole_fails(site: Site, far: tuple[Far, str], path: str, words: str) -> None:
    with pytest.raises(TransferFailed, match=words) as caught:
        await site.pull(f"{far[1]}/{path}?sig=geheim")
    assert "geheim" not in str(caught.value)
    assert site.content() is None
    assert site.catalogue.node(7).writer is None


async def test_protocols_are_tried_in_turn_until_one_works(site: Site, far: tuple[Far, str]) -> None:
    base = far[1]
    await site.pull(
        Protocol(CORE + "ftpget", f"{base}/good"),
        Protocol(HTTPS_GET, f"{base}/good"),
        Protocol(HTTP_GET, f"{base}/good", security_methods=(SSO_CERTIFICATE,)),
        Protocol(HTTP_GET),
        f"{base}/500",
        "http://169.254.169.254/latest",
        f"{base}/short",
        Protocol(HTTP_PUT, base.replace("//", "//me:geheim@") + "/good", security_methods=(SSO_BASIC,)),
        f"{base}/chunked",
    )
    assert [(one.method, one.path) for one in far[0].requests] == [("GET", "/500"), ("GET", "/short"), ("GET", "/good")]
    assert far[0].requests[-1].headers["Authorization"] == "Basic bWU6Z2VoZWlt"
    assert site.content() == DATA


async def test_failure_names_what_was_tried_and_no_secret(site: Site, far: tuple[Far, str]) -> None:
    base = far[1]
    with pytest.raises(TransferFailed) as caught:
        await site.pull(f"{base.replace('//', '//me:geheim@')}/404?geheim", "ftp://geheim", "http://10.0.0.1/geheim")
    assert caught.value.detail == (
        f"tried httpget {base}: HTTP status 404; "
        "httpget an endpoint is no URL that begins with http:// or https:// and names a host; "
        "httpget http://10.0.0.1: 10.0.0.1 is not at a public address; the operator does not allow it"
    )


@pytest.mark.parametrize("fault", [NodeBusy("busy"), PermissionDenied("withdrawn"), InsufficientStorage("full")])
async def test_what_no_other_endpoint_mends_ends_the_job(site: Site, far: tuple[Far, str], fault: Fault) -> None:
    site.catalogue.before = FailAt("claim_pull", fault)
    with pytest.raises(type(fault)):
        await site.pull(f"{far[1]}/good", f"{far[1]}/good")
    assert len(far[0].requests) == 1
    assert site.content() is None


async def test_abort_stops_at_once_and_leaves_nothing(site: Site, far: tuple[Far, str]) -> None:
    task = asyncio.create_task(site.pull(f"{far[1]}/stuck", f"{far[1]}/good"))
    while site.catalogue.node(7).writer is None:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert site.content() is None
    assert site.catalogue.node(7).writer is None
    assert len(far[0].requests) == 1


async def test_push_sends_everything_and_is_complete_when_the_far_side_says_so(
    site: Site, far: tuple[Far, str]
) -> None:
    await site.pull(f"{far[1]}/good")
    far[0].requests.clear()
    job = await site.push(f"{far[1]}/403", f"{far[1]}/hasty", f"{far[1]}/target", f"{far[1]}/never")
    assert site.completed == [job]
    assert [one.path for one in far[0].requests] == ["/403", "/hasty", "/target"]
    assert far[0].got["/target"] == DATA
    headers = far[0].requests[-1].headers
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["Content-Type"] == "image/fits"
    assert headers["Digest"] == f"md5={b64encode(MD5).decode()}"
    assert headers["Repr-Digest"] == f"sha-256=:{b64encode(SHA256).decode()}:"
    assert "Transfer-Encoding" not in headers
    assert job.progress == Progress(bytes_done=len(DATA), bytes_total=len(DATA))


async def test_push_that_nobody_takes_fails(site: Site, far: tuple[Far, str]) -> None:
    await site.pull(f"{far[1]}/good")
    with pytest.raises(TransferFailed, match=r"tried httpput .*HTTP status 507"):
        await site.push(f"{far[1]}/507")
    assert site.completed == []


async def test_push_of_a_node_without_bytes(site: Site, far: tuple[Far, str]) -> None:
    site.catalogue.node(7)
    await site.push(f"{far[1]}/target")
    assert far[0].got["/target"] == b""
    assert far[0].requests[-1].headers["Content-Length"] == "0"


async def test_push_of_what_may_not_be_read_any_more_sends_nothing(site: Site, far: tuple[Far, str]) -> None:
    site.catalogue.before = FailAt("claim_download", PermissionDenied("withdrawn"))
    with pytest.raises(PermissionDenied):
        await site.push(f"{far[1]}/target")
    assert far[0].requests == []


def test_passwords_are_kept_apart_from_what_is_shown() -> None:
    wanted = Transfer(
        "vos://a/b", Direction.PULL_TO_VOSPACE, protocols=(Protocol(HTTP_GET, "http://u:geheim@h/p?a@b"),)
    )
    packed: dict[str, Any] = pack(wanted)
    assert packed["protocols"][0]["endpoint"] == "http://h/p?a@b"
    assert packed["protocols"][0]["user"] == "u:geheim"
