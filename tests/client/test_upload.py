"""Pushes to storage servers that misbehave."""

from __future__ import annotations

import asyncio
import gc
import io
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from unittest import mock

import pytest
from aiohttp import web

from pyvospace.client import ContentChanged, Retry, ServiceUnreachable, Timeouts, resumable, sources
from pyvospace.client.digests import Digester, Digests
from pyvospace.client.direct import FileBody
from pyvospace.client.sources import SMALL
from pyvospace.model.faults import (
    ChecksumMismatch,
    EndpointUsed,
    Fault,
    InsufficientStorage,
    NodeBusy,
    NodeNotFound,
    PermissionDenied,
    RequestEntityTooLarge,
)
from tests.client.double import QUICK, Double, Handler, answers, hang_up, hangs_up, redirects

WRONG = Digests(b"m" * 16, b"s" * 32)
BIG = SMALL + (1 << 20) + 7


class Meter:
    """Sums up what it hears."""

    def __init__(self) -> None:
        self.total: int | None = -1
        self.moved = 0

    def expect(self, total: int | None) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.moved += count


async def pieces(*given: bytes) -> AsyncGenerator[bytes]:
    for piece in given:
        yield piece


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(BIG))
    return path


async def test_small_files_announce_their_digests(double: Double, tmp_path: Path) -> None:
    (tmp_path / "x.fits").write_bytes(b"SIMPLE")
    async with double.space() as space:
        stored = await space.push(tmp_path / "x.fits", "vos:x", content_type="application/fits")
    [put] = double.storage.seen
    assert double.content == b"SIMPLE"
    assert stored.size == 6
    assert put.headers["Content-Length"] == "6"
    assert put.headers["Content-Type"] == "application/fits"
    assert put.headers["Digest"] == double.digests().headers()["Digest"]
    assert put.headers["Repr-Digest"] == double.digests().headers()["Repr-Digest"]


async def test_large_files_are_read_once(double: Double, big: Path) -> None:
    meter = Meter()
    async with double.space() as space:
        stored = await space.push(big, "vos:x", progress=meter)
    [put] = double.storage.seen
    assert double.content == big.read_bytes()
    assert stored.digests == double.digests()
    assert put.headers["Content-Length"] == str(BIG)
    assert "Digest" not in put.headers
    assert "Content-Type" not in put.headers
    assert (meter.total, meter.moved) == (BIG, BIG)


async def test_streams_are_sent_in_chunks_unless_their_size_is_known(double: Double) -> None:
    async with double.space() as space:
        await space.push(pieces(b"ab", b"", b"cd"), "vos:x")
        await space.push(pieces(b"ab", b"cd"), "vos:x", size=4)
    chunked, counted = double.storage.seen
    assert chunked.headers.get("Transfer-Encoding") == "chunked"
    assert counted.headers.get("Content-Length") == "4"
    assert double.content == b"abcd"


async def test_an_open_file_is_sent_from_where_it_stands(double: Double) -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(3)
    double.storage.plan = [hangs_up]
    async with double.space() as space:
        stored = await space.push(file, "vos:x")
    assert double.content == b"3456789"
    assert stored.size == 7


@pytest.mark.parametrize("content", [b"", b"x"])
async def test_the_smallest_files(double: Double, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    async with double.space() as space:
        for source in (content, tmp_path / "x", io.BytesIO(content), pieces(content)):
            double.content = b"old"
            stored = await space.push(source, "vos:x")
            assert (stored.size, double.content) == (len(content), content)


@pytest.mark.parametrize("failure", [answers(503), answers(502), answers(504), answers(408), hangs_up])
async def test_a_failed_push_is_repeated_on_the_same_endpoint(double: Double, big: Path, failure: Handler) -> None:
    double.storage.plan = [failure]
    meter = Meter()
    async with double.space() as space:
        await space.push(big, "vos:x", progress=meter)
    assert double.content == big.read_bytes()
    assert [one.path for one in double.storage.of("PUT")] == ["/files/a-token/name"] * 2
    assert len(double.service.of("POST")) == 1
    assert meter.moved == BIG


@pytest.mark.parametrize(
    ("status", "text", "fault"),
    [
        (400, "InvalidArgument", Exception),
        (403, "PermissionDenied", PermissionDenied),
        (404, "NodeNotFound", NodeNotFound),
        (409, "NodeBusy", NodeBusy),
        (409, "EndpointUsed", EndpointUsed),
        (413, "RequestEntityTooLarge", RequestEntityTooLarge),
        (507, "InsufficientStorage full", InsufficientStorage),
    ],
)
async def test_a_refused_push_is_not_repeated(double: Double, status: int, text: str, fault: type[Exception]) -> None:
    double.storage.plan = [answers(status, text)]
    async with double.space() as space:
        with pytest.raises(fault):
            await space.push(b"bytes", "vos:x")
    assert len(double.storage.of("PUT")) == 1


async def test_a_stream_cannot_be_repeated(double: Double) -> None:
    double.storage.plan = [hangs_up]
    async with double.space() as space:
        with pytest.raises(ServiceUnreachable):
            await space.push(pieces(b"once"), "vos:x")
    assert len(double.storage.of("PUT")) == 1


async def test_an_answer_that_was_lost_is_found_out(double: Double, big: Path) -> None:
    async def store_and_hang_up(request: web.Request) -> web.StreamResponse:
        await double.deliver(request)
        hang_up(request)
        return web.Response()

    double.storage.plan = [store_and_hang_up]
    async with double.space() as space:
        stored = await space.push(big, "vos:x")
        assert stored.digests == double.digests()
        double.storage.plan = [store_and_hang_up]
        await space.push(pieces(b"even", b" a stream"), "vos:x")
    assert [one.method for one in double.storage.seen] == ["PUT", "HEAD"] * 2


async def test_an_endpoint_that_was_used_up_by_the_lost_try(double: Double) -> None:
    async def lose(request: web.Request) -> web.StreamResponse:
        response = await double.deliver(request)
        double.storage.plan.insert(0, answers(503))  # for HEAD
        hang_up(request)
        return response

    double.storage.plan = [lose, answers(409, "EndpointUsed")]
    async with double.space() as space:
        await space.push(b"bytes", "vos:x")
    assert [one.method for one in double.storage.seen] == ["PUT", "HEAD", "PUT", "HEAD"]


async def test_a_lease_of_the_broken_try_is_waited_for(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(delay: float) -> None:
        waited.append(delay)

    monkeypatch.setattr("pyvospace.client.retry.asyncio.sleep", sleep)
    double.storage.plan = [hangs_up, answers(404), answers(409, "NodeBusy")]  # PUT, HEAD, PUT
    async with double.space() as space:
        await space.push(b"bytes", "vos:x")
    assert double.content == b"bytes"
    assert len(double.service.of("POST")) == 2
    assert waited[-1] >= 10


@pytest.mark.parametrize("words", ["UploadBusy", "NodeBusy"])
async def test_an_upload_in_parts_outwaits_whoever_holds_it(
    double: Double, big: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sources, "RESUMABLE", 1)
    begun, there = answers(201, Location="/tus/1"), answers(200, Upload_Offset="0")
    held, done = answers(423, f"{words} somebody writes"), answers(204, Upload_Offset=str(BIG))
    double.storage.plan = [begun, *[held, there] * 3 * QUICK.attempts, done]
    async with double.space() as space:
        assert (await space.push(big, "vos:x")).size == BIG
        assert not double.storage.plan
        monkeypatch.setattr(resumable, "_LEASE", 0.0)
        double.storage.plan = [begun, *[held, there] * QUICK.attempts]
        with pytest.raises(Fault, match=words):
            await space.push(big, "vos:y")
    assert double.storage.plan == [there]


async def test_an_endpoint_that_expired_between_two_tries_is_replaced(double: Double) -> None:
    double.storage.plan = [answers(503), answers(401, "NotAuthenticated expired")]
    async with double.space() as space:
        await space.push(b"bytes", "vos:x")
    assert double.content == b"bytes"
    assert len(double.service.of("POST")) == 2


async def test_other_bytes_at_the_service_are_sent_once_more(double: Double, big: Path) -> None:
    async def damage(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=201, headers=WRONG.headers())

    double.storage.plan = [damage]
    async with double.space() as space:
        await space.push(big, "vos:x")
        assert double.content == big.read_bytes()
        double.storage.plan = [damage, damage]
        with pytest.raises(ChecksumMismatch) as failure:
            await space.push(big, "vos:x")
        double.storage.plan = [damage]
        with pytest.raises(ChecksumMismatch):
            await space.push(pieces(b"once"), "vos:x")
    assert failure.value.exit_code == 7


async def test_bytes_that_broke_on_their_way_are_sent_once_more(double: Double) -> None:
    double.storage.plan = [answers(412, "checksum mismatch MD5 differs")]
    async with double.space() as space:
        await space.push(b"bytes", "vos:x")
    assert double.content == b"bytes"


async def test_a_service_without_digests_is_believed(double: Double) -> None:
    double.storage.plan = [answers(201)]
    async with double.space() as space:
        assert (await space.push(b"bytes", "vos:x")).size == 5


async def test_a_redirect_of_the_bytes_is_followed(double: Double, big: Path) -> None:
    double.storage.plan = [redirects("/files/other/name")]
    async with double.space() as space:
        await space.push(big, "vos:x")
    assert double.content == big.read_bytes()
    assert double.storage.seen[-1].path == "/files/other/name"


async def test_a_service_that_is_content_too_early(double: Double, big: Path) -> None:
    async def hasty(request: web.Request) -> web.StreamResponse:
        return web.Response(status=201)

    double.storage.plan = [hasty]
    async with double.space(retry=Retry(attempts=1)) as space:
        with pytest.raises(Exception, match="content before"):
            await space.push(big, "vos:x")


async def test_an_early_refusal_is_heard_and_ends_the_sending(double: Double, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 30)

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=413, text="RequestEntityTooLarge 1 GiB")

    double.storage.plan = [refuse]
    meter = Meter()
    async with double.space() as space:
        with pytest.raises(RequestEntityTooLarge):
            await space.push(path, "vos:x", progress=meter)
    assert meter.moved == 0


async def test_a_service_that_stops_taking_bytes_is_given_up(double: Double, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(256 << 20)

    given_up = asyncio.Event()

    async def stall(request: web.Request) -> web.StreamResponse:
        await given_up.wait()
        return web.Response()

    double.storage.plan = [stall] * 2
    timeouts = Timeouts(connect=0.2, read=0.2, finish=0.2)
    async with double.space(timeouts=timeouts, retry=Retry(attempts=1)) as space:
        with pytest.raises(ServiceUnreachable, match=r"no more bytes|no answer"):
            await space.push(path, "vos:x")
    given_up.set()


async def test_a_file_that_changes_while_it_is_sent_is_not_stored(double: Double, big: Path) -> None:
    double.content = b"old"

    class Writer(Meter):
        def advance(self, count: int) -> None:
            super().advance(count)
            if self.moved == 1 << 20:
                os.utime(big, ns=(1, 1))

    async with double.space() as space:
        with pytest.raises(ContentChanged, match=r"big\.bin changed"):
            await space.push(big, "vos:x", progress=Writer())
    assert double.content == b"old"


async def test_a_file_that_shrinks_while_it_is_sent_is_not_stored(double: Double, big: Path) -> None:
    double.content = b"old"

    class Cutter(Meter):
        def advance(self, count: int) -> None:
            super().advance(count)
            os.truncate(big, 3 << 20)

    async with double.space() as space:
        with pytest.raises(ContentChanged, match=r"shorter|changed"):
            await space.push(big, "vos:x", progress=Cutter())
    assert double.content == b"old"


@pytest.mark.parametrize("size", [3, 5])
async def test_a_stream_has_as_many_bytes_as_announced(double: Double, size: int) -> None:
    double.content = b"old"
    async with double.space() as space:
        with pytest.raises(ContentChanged, match=f"{size} bytes|not {size}"):
            await space.push(pieces(b"ab", b"cd"), "vos:x", size=size)
    assert double.content == b"old"


async def test_a_source_that_fails_says_why(double: Double) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"some"
        raise OSError(5, "disk is dying")

    async with double.space(retry=QUICK) as space:
        with pytest.raises(OSError, match="disk is dying"):
            await space.push(broken(), "vos:x")
        with pytest.raises(FileNotFoundError):
            await space.push(Path("/no/such/file"), "vos:x")
        with pytest.raises(Exception, match="is a directory"):
            await space.push(Path("/"), "vos:x")


async def test_a_job_that_failed_says_why(double: Double) -> None:
    usual = double._serve

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/error"):
            return web.Response(text="PermissionDenied")
        if request.path == "/transfers/1/results/transferDetails":
            return web.Response(body=double.no_endpoints(), content_type="text/xml")
        if request.path == "/transfers/1":
            return web.Response(body=double.failed_job("Permission Denied: vos://x/y"), content_type="text/xml")
        return await usual(request)

    double.service.usual = serve
    async with double.space() as space:
        with pytest.raises(PermissionDenied) as failure:
            await space.push(b"bytes", "vos:x")
    assert failure.value.detail == "vos://x/y"


async def test_nobody_complains_of_a_thread_that_fails_when_nobody_waits_any_more(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a server dies: aiohttp notices, and gives up who sends, before the thread does."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    part = sources.FilePart(big, 0, 1, lambda _: None)
    body = FileBody(part, mock.Mock(), Digester())

    def fail(*_: object) -> None:
        body._stopped.wait()
        raise ConnectionResetError

    monkeypatch.setattr(body, "_send", fail)
    carrying = asyncio.create_task(body._carry(os.open(big, os.O_RDONLY)))
    await asyncio.sleep(0.01)
    carrying.cancel()
    await asyncio.wait([carrying])
    assert carrying.cancelled()
    del carrying  # whose last words hold what it used
    gc.collect()
    assert complaints == []
