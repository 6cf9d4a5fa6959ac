"""Parts of a file past the event loop, from storage servers that misbehave: what is told of is right."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from pyvospace.client import ContentChanged, Space
from pyvospace.client.reader import Reader
from tests.client.double import Double, Handler, answers, hangs_up, redirects

SIZE = (2 << 20) + 11


@dataclass
class Sink:
    """A file, and how its bytes came."""

    path: Path
    start: int = 0
    written: int = 0
    """By a thread."""
    given: int = 0
    """By the loop."""
    heard: Callable[[], None] = field(default=lambda: None)

    def __post_init__(self) -> None:
        self.path.touch()

    def mark(self) -> int:
        return 7

    def wrote(self, count: int, mark: int) -> None:
        assert mark == 7
        self.written += count
        self.heard()

    def take(self, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.start + self.written + self.given)
            file.write(data)
        self.given += len(data)
        self.heard()

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()[self.start :]


@pytest.fixture
def content(double: Double) -> bytes:
    double.extended = True
    double.content = os.urandom(SIZE)
    return double.content


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    return Sink(tmp_path / "part")


async def opened(space: Space) -> Reader:
    return await space.reader("vos:x")


async def test_threads_write_what_plain_connections_bring(double: Double, content: bytes, sink: Sink) -> None:
    async with double.space() as space:
        reader = await opened(space)
        sink.start = 5
        await reader.fill(5, SIZE + 9, sink)
        assert (sink.written, sink.given) == (SIZE - 5, 0)
        assert sink.data == content[5:]
        await reader.fill(7, 7, sink)
    sent = double.storage.of("GET")
    assert len(sent) == 1
    assert sent[0].headers["If-Match"] == f'"{hashlib.sha256(content).hexdigest()}"'


def other_range(double: Double) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=206,
            body=double.content[1:101],
            headers=dict(double.headers()) | {"Content-Range": f"bytes 1-100/{SIZE}"},
        )

    return handler


def other_version(double: Double) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=206,
            body=bytes(100),
            headers={"Content-Range": f"bytes 0-99/{SIZE}", "ETag": f'"{"0" * 64}"'},
        )

    return handler


def whole(double: Double) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=double.content, headers=double.headers())

    return handler


@pytest.mark.parametrize("wrong", [other_range, other_version, whole, lambda _: answers(503), lambda _: hangs_up])
async def test_any_doubt_is_left_to_others(
    double: Double, content: bytes, sink: Sink, wrong: Callable[[Double], Handler]
) -> None:
    async with double.space() as space:
        reader = await opened(space)
        double.storage.plan = [wrong(double)]
        await reader.fill(0, 100, sink)
        assert (sink.written, sink.given) == (0, 100)
        assert sink.data == content[:100]
        await reader.fill(100, 200, sink)
        assert sink.written == 100
        assert sink.data == content[:200]


async def test_redirects_are_followed_by_others_alone(double: Double, content: bytes, sink: Sink) -> None:
    async with double.space() as space:
        reader = await opened(space)
        elsewhere = double.storage.url("/elsewhere")
        for number in range(4):
            double.storage.plan = [redirects(elsewhere)] * (1 if number > 2 else 2)
            await reader.fill(sink.given, sink.given + 10, sink)
    assert (sink.written, sink.data) == (0, content[:40])
    assert not double.storage.plan, "after three doubts nobody tries again"


async def test_connections_that_break_in_the_middle(double: Double, content: bytes, sink: Sink) -> None:
    async with double.space() as space:
        reader = await opened(space)
        double.storage.plan = [double.cut_after(1 << 20)]
        await reader.fill(0, SIZE, sink)
    assert sink.data == content
    assert 0 < sink.written < 1 << 20, "what came before is not fetched again"
    assert double.storage.of("GET")[1].headers["Range"] == f"bytes={sink.written}-{SIZE - 1}"


async def test_another_version_is_told(double: Double, content: bytes, sink: Sink) -> None:
    async with double.space() as space:
        reader = await opened(space)
        double.content = os.urandom(SIZE)
        with pytest.raises(ContentChanged):
            await reader.fill(0, SIZE, sink)
    assert (sink.written, sink.given) == (0, 0)


async def test_connections_that_a_server_has_closed(double: Double, content: bytes, sink: Sink) -> None:
    async with double.space() as space:
        reader = await opened(space)
        await reader.fill(0, 10, sink)
        await double.storage.restart()
        await reader.fill(10, 20, sink)
    assert (sink.written, sink.data) == (20, content[:20])


async def test_whoever_is_cancelled_waits_for_nothing(double: Double, content: bytes, sink: Sink) -> None:
    silent = asyncio.Event()

    async def stops(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}", "ETag": double.headers()["ETag"]}
        response = web.StreamResponse(status=206, headers=headers)
        response.content_length = SIZE
        await response.prepare(request)
        await response.write(content[: 1 << 20])
        await silent.wait()
        return response

    came = asyncio.Event()
    sink.heard = came.set
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with double.space() as space:
        reader = await opened(space)
        double.storage.plan = [stops]
        filling = asyncio.create_task(reader.fill(0, SIZE, sink))
        await came.wait()
        filling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await filling
        told = sink.written
        silent.set()
        await asyncio.sleep(0.1)
        assert sink.written == told, "nobody hears of anything any more"
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


async def test_files_that_cannot_be_written(double: Double, content: bytes, sink: Sink) -> None:
    async with double.space() as space:
        reader = await opened(space)
        given: list[bytes] = []
        sink.path.unlink()
        sink.take = given.append  # type: ignore[assignment,method-assign]
        await reader.fill(0, SIZE, sink)
    assert (sink.written, b"".join(given)) == (0, content)
