"""Downloads: headers, conditions, ranges, and bytes that cannot be delivered."""

import asyncio
import base64
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from email.utils import format_datetime
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

import pytest
import trustme

from pyvospace.config import Settings
from pyvospace.storage.backend import ByteRange, Download, DownloadJob, FileBytes, Redirect, StreamBytes
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.testing.doubles import FailAt
from tests.storage.serving import Answer, Server, make_settings, open_files, serving, stored, until

DATA = bytes(range(100))


async def test_headers(storage_server: Server) -> None:
    await storage_server.put(DATA, Content_Type="image/fits")
    answer = await storage_server.get()
    headers = answer.headers
    assert answer.body == DATA
    assert headers["content-length"] == "100"
    assert headers["content-type"] == "image/fits"
    assert headers["digest"] == "md5=" + base64.b64encode(hashlib.md5(DATA).digest()).decode()
    assert headers["repr-digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"
    assert headers["etag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert headers["accept-ranges"] == "bytes"
    assert headers["last-modified"] == format_datetime(storage_server.catalogue.node(1).modified, usegmt=True)
    assert headers["content-disposition"] == "inline; filename=\"data.fits\"; filename*=UTF-8''data.fits"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "private, no-cache"
    assert headers["server"] == "pyvospace"
    assert "connection" not in headers


@pytest.mark.parametrize("content_type", [None, "", "rubbish", "text/plain\x01", "téxt/plain", "a/" + "b" * 300])
async def test_type_that_cannot_stand_in_a_header(storage_server: Server, content_type: str | None) -> None:
    await storage_server.put(DATA)
    node = storage_server.catalogue.node(1)
    assert node.stored is not None
    object.__setattr__(node.stored, "content_type", content_type)
    assert (await storage_server.get()).headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("content_type", ["téxt/plain", "a/" + "b" * 300, ""])
async def test_type_that_nobody_could_send_back(storage_server: Server, content_type: str) -> None:
    assert (await storage_server.put(DATA, Content_Type=content_type)).status == 201
    node = storage_server.catalogue.node(1).stored
    assert node is not None
    assert node.content_type is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=90-", slice(90, None)),
        ("bytes=-1", slice(99, None)),
        ("bytes=50-1000", slice(50, None)),
    ],
)
async def test_range(any_storage_server: Server, header: str, expected: slice) -> None:
    whole = await any_storage_server.put(DATA)
    answer = await any_storage_server.get(Range=header)
    assert (answer.status, answer.body) == (206, DATA[expected])
    start, stop, _ = expected.indices(100)
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/100"
    assert answer.headers["digest"] == whole.headers["digest"]


@pytest.mark.parametrize("header", ["bytes=9-0", "lines=1-2", "bytes=abc", "bytes"])
async def test_range_that_is_passed_over(storage_server: Server, header: str) -> None:
    await storage_server.put(DATA)
    answer = await storage_server.get(Range=header)
    assert (answer.status, answer.body) == (200, DATA)
    assert "content-range" not in answer.headers


async def test_range_behind_the_end(storage_server: Server) -> None:
    await storage_server.put(DATA)
    answer = await storage_server.get(Range="bytes=100-")
    assert answer.status == 416
    assert answer.headers["content-range"] == "bytes */100"
    assert answer.body.startswith(b"RangeNotSatisfiable")


async def test_large_ranges(any_storage_server: Server, big: bytes) -> None:
    await any_storage_server.put(big)
    for start, stop in (
        (0, len(big)),
        (1, len(big) - 1),
        (3_000_001, 3_000_001 + 70_000),
        (len(big) - 66_000, len(big)),
    ):
        answer = await any_storage_server.get(Range=f"bytes={start}-{stop - 1}")
        assert answer.body == big[start:stop]


async def test_keep_alive_behind_sendfile(any_storage_server: Server, big: bytes) -> None:
    await any_storage_server.put(big)
    connection = await any_storage_server.connect()
    for _ in range(3):
        await connection.send(connection.head("GET", "/files/get-1/x", {}) * 2)
        assert (await connection.answer()).body == big
        assert (await connection.answer()).body == big


async def test_conditions(storage_server: Server) -> None:
    tag = (await storage_server.put(DATA)).headers["etag"]
    modified = (await storage_server.get()).headers["last-modified"]
    for header in ({"If_None_Match": tag}, {"If_None_Match": f'"x", W/{tag}'}, {"If_Modified_Since": modified}):
        answer = await storage_server.get(headers=header)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in answer.headers
        assert (await storage_server.get(method="HEAD", headers=header)).status == 304
    assert (await storage_server.get(If_Match='"x"')).status == 412
    assert (await storage_server.get(If_Match=tag)).status == 200
    assert (await storage_server.get(If_Range=tag, Range="bytes=0-0")).status == 206
    assert (await storage_server.get(If_Range=modified, Range="bytes=0-0")).status == 206
    assert (await storage_server.get(If_Range='"x"', Range="bytes=0-0")).status == 200
    assert (await storage_server.get(If_Range='"x"', Range="bytes=1000-")).status == 200


async def test_conditional_upload(storage_server: Server) -> None:
    first = await storage_server.put(b"first", If_None_Match="*")
    assert first.status == 201
    assert (await storage_server.put(b"x", If_None_Match="*")).status == 412
    assert (await storage_server.put(b"x", If_Match='"other"')).status == 412
    assert (await storage_server.get()).body == b"first"
    assert (await storage_server.put(b"second", If_Match=first.headers["etag"])).status == 201
    long_ago = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert (await storage_server.put(b"third", If_Unmodified_Since=long_ago)).status == 201


async def test_head(storage_server: Server) -> None:
    await storage_server.put(DATA, Content_Type="image/fits")
    got = await storage_server.get()
    head = await storage_server.get(method="HEAD", Range="bytes=0-3")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": "", "x-request-id": ""} == {**got.headers, "date": "", "x-request-id": ""}


async def test_head_of_an_upload_endpoint(storage_server: Server) -> None:
    connection = await storage_server.connect()
    head = connection.head("HEAD", "/files/put-1/x", {})
    await connection.send(head)
    before = await connection.answer("HEAD")
    assert (before.status, before.headers["content-length"]) == (200, "0")
    assert "digest" not in before.headers
    digest = (await storage_server.put(DATA)).headers["digest"]
    await connection.send(head)
    after = await connection.answer("HEAD")
    assert (after.status, after.headers["content-length"], after.headers["digest"]) == (200, "100", digest)


async def test_node_without_bytes(storage_server: Server) -> None:
    storage_server.catalogue.node(1)
    answer = await storage_server.get()
    assert (answer.status, answer.headers["content-length"]) == (200, "0")
    assert "digest" not in answer.headers


async def test_node_without_bytes_as_opencadc_has_it(tmp_path: Path) -> None:
    settings = make_settings(tmp_path).model_copy(update={"interop": "opencadc"})
    async with serving(settings) as server:
        server.catalogue.node(1)
        assert (await server.get()).status == 204
        assert (await server.get(method="HEAD")).status == 200


async def test_empty_file(storage_server: Server) -> None:
    await storage_server.put(b"")
    answer = await storage_server.get()
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["digest"] == "md5=1B2M2Y8AsgTpgAmY7PhCfg=="
    assert (await storage_server.get(Range="bytes=0-")).status == 416
    assert (await storage_server.get(Range="bytes=-5")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/files/put-1/x", 403),
        ("PUT", "/files/get-1/x", 403),
        ("GET", "/files/other/x", 403),
        ("GET", "/files/get-99/x", 404),
        ("GET", "/files/", 404),
        ("GET", "/files/get-1", 404),
        ("GET", "/", 404),
        ("POST", "/files/get-1/x", 405),
        ("DELETE", "/files/put-1/x", 405),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("POST", "/livez", 405),
    ],
)
async def test_what_is_served(storage_server: Server, method: str, path: str, status: int) -> None:
    connection = await storage_server.connect()
    await connection.send(connection.head(method, path, {"Authorization": "Bearer abc", "Content_Length": "0"}))
    answer = await connection.answer()
    assert answer.status == status
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("name", ["x", "", "a/b", "%C3%A9", "a%2Fb", "..%2f..%2fetc", "a?b=c"])
async def test_the_name_in_the_url_does_not_matter(storage_server: Server, name: str) -> None:
    await storage_server.put(DATA)
    connection = await storage_server.connect()
    await connection.send(connection.head("GET", f"/files/get-1/{name}", {}))
    assert (await connection.answer()).body == DATA


async def test_base_path(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, public_url="https://data.example/store/1")) as server:
        await server.put(DATA)
        connection = await server.connect()
        await connection.send(connection.head("GET", "/store/1/files/get-1/x", {}))
        assert (await connection.answer()).body == DATA


async def test_unready(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path)) as server:
        server.catalogue.before = FailAt("ready")
        connection = await server.connect()
        await connection.send(connection.head("GET", "/readyz", {}))
        assert (await connection.answer()).status == 503


async def test_store_that_cannot_be_written(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with serving(settings) as server:
        (settings.storage.path / "staging").rmdir()
        connection = await server.connect()
        await connection.send(connection.head("GET", "/readyz", {}))
        assert (await connection.answer()).status == 503


async def test_delivery_is_told_once_it_is_complete(storage_server: Server, big: bytes) -> None:
    await storage_server.put(big * 6)  # more than the buffers of two sockets
    storage_server.catalogue.node(1).waiting_job = "job"
    deliveries = storage_server.catalogue.deliveries
    await storage_server.get(method="HEAD")
    await storage_server.get(Range="bytes=0-9")
    connection = await storage_server.connect()
    await connection.send(connection.head("GET", "/files/get-1/x", {}))
    connection.writer.transport.abort()
    await asyncio.sleep(0.1)
    assert deliveries == []
    await storage_server.get(Range="bytes=10-")
    await until(lambda: deliveries == ["job"])
    await storage_server.get()
    await until(lambda: deliveries == ["job", "job"])


@pytest.mark.parametrize("step", ["delivered"])
async def test_delivery_that_cannot_be_told(storage_server: Server, step: str) -> None:
    await storage_server.put(DATA)
    storage_server.catalogue.node(1).waiting_job = "job"
    storage_server.catalogue.before = FailAt(step)
    assert (await storage_server.get()).body == DATA


@pytest.mark.parametrize("damage", ["missing", "short", "long", "link"])
async def test_damaged_file_is_not_served(storage_server: Server, storage_settings: Settings, damage: str) -> None:
    await storage_server.put(DATA)
    [path] = stored(storage_settings)
    path.unlink()
    if damage in {"short", "long"}:
        path.write_bytes(DATA[:-1] if damage == "short" else DATA + b"x")
    if damage == "link":
        (path.parent / "elsewhere").write_bytes(DATA)
        path.symlink_to(path.parent / "elsewhere")
    answer = await storage_server.get()
    assert answer.status == 500
    assert answer.body.startswith(b"InternalFault")
    assert str(storage_settings.storage.path).encode() not in answer.body


async def test_readers_keep_what_they_began_to_read(storage_server: Server, big: bytes) -> None:
    big *= 6  # more than the buffers of two sockets
    await storage_server.put(big)
    connection = await storage_server.connect()
    await connection.send(connection.head("GET", "/files/get-1/x", {}))
    await connection.reader.readexactly(10)
    await storage_server.put(big[::-1])
    for location in await storage_server.catalogue.take_obsolete(grace=0, limit=9):
        await storage_server.backend.delete(location)
    rest = await connection.reader.readuntil(b"\r\n\r\n")
    assert rest
    assert await connection.reader.readexactly(len(big)) == big
    assert (await storage_server.get()).body == big[::-1]


async def test_reader_that_stops_reading_is_cut(tmp_path: Path) -> None:
    data = bytes(64 << 20)
    async with serving(make_settings(tmp_path, idle_timeout=0.5)) as server:
        await server.put(data)
        before = open_files()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        await loop.sock_sendall(sock, b"GET /files/get-1/x HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(600):
            await asyncio.sleep(0.05)
            if open_files() <= before + 1:  # only our own end is left
                break
        else:
            pytest.fail("the server still serves who does not listen")
        sock.close()


class OtherBackend(PosixBackend):
    """Answers in other ways than with a file."""

    reads_small_at_once = False
    kind = "stream"
    handed_out: AsyncIterator[bytes]

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        span = byte_range or ByteRange(0, job.size)
        source = cast("FileBytes", await super().download(job, byte_range))
        if self.kind == "redirect":
            source.file.close()
            return Redirect(f"https://elsewhere.example/{job.filename}")
        if self.kind == "offset":
            return FileBytes(_behind_a_head(source.file), offset=1000)
        self.handed_out = self._pieces(source.file, span)
        return StreamBytes(self.handed_out)

    async def _pieces(self, file: BinaryIO, span: ByteRange) -> AsyncIterator[bytes]:
        with file:
            file.seek(span.start)
            left = span.length - (self.kind == "short") + (self.kind == "long")
            while left > 0:
                piece = file.read(min(left, 300_000)) or b"?"
                left -= len(piece)
                yield piece
                if self.kind == "broken":
                    raise RuntimeError("the plugin broke")


def _behind_a_head(file: BinaryIO) -> BinaryIO:
    with file:
        data = file.read()
    path = Path(f"/tmp/pyvospace-test-{uuid4().hex}")
    path.write_bytes(bytes(1000) + data)
    opened = path.open("rb", buffering=0)
    path.unlink()
    return cast("BinaryIO", opened)


@pytest.mark.parametrize("kind", ["stream", "offset"])
@pytest.mark.parametrize("tls", [True, False])
async def test_other_sources(tmp_path: Path, authority: trustme.CA, big: bytes, kind: str, tls: bool) -> None:
    backend = OtherBackend(tmp_path / "store")
    backend.kind = kind
    async with serving(make_settings(tmp_path), backend=backend, authority=authority if tls else None) as server:
        await server.put(big)
        assert (await server.get()).body == big
        assert (await server.get(Range="bytes=5-10")).body == big[5:11]
        assert (await server.get(Range="bytes=100000-")).body == big[100_000:]


async def test_redirect(tmp_path: Path) -> None:
    backend = OtherBackend(tmp_path / "store")
    backend.kind = "redirect"
    async with serving(make_settings(tmp_path), backend=backend) as server:
        await server.put(DATA)
        answer = await server.get()
        assert (answer.status, answer.headers["location"]) == (307, "https://elsewhere.example/data.fits")


@pytest.mark.parametrize("kind", ["short", "long", "broken"])
async def test_stream_of_the_wrong_length_cuts_the_connection(tmp_path: Path, big: bytes, kind: str) -> None:
    """The client must not take what it got for the whole, nor an error text for bytes."""
    backend = OtherBackend(tmp_path / "store")
    backend.kind = kind
    async with serving(make_settings(tmp_path), backend=backend) as server:
        await server.put(big)
        connection = await server.connect()
        await connection.send(connection.head("GET", "/files/get-1/x", {}))
        head = await connection.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await connection.reader.readexactly(len(big) + (kind == "long"))
        assert server.catalogue.deliveries == []


async def test_a_file_comes_behind_the_answers_before_it(storage_server: Server, big: bytes) -> None:
    """A client that pipelines and does not read: answers queue up in the transport, the file must wait for them."""
    small = big[:60_000]
    await storage_server.put(small, 2)
    await storage_server.put(big, 1)
    connection = await storage_server.connect()
    heads = [connection.head("GET", f"/files/get-{node}/x", {}) for node in [2] * 150 + [1, 2]]
    sending = asyncio.create_task(connection.send(b"".join(heads)))
    await asyncio.sleep(0.3)
    for _ in range(150):
        assert (await connection.answer()).body == small
    assert (await connection.answer()).body == big
    assert (await connection.answer()).body == small
    await sending


class Plain(PosixBackend):
    """Opens each file by itself."""

    reads_small_at_once = False


@pytest.mark.parametrize("size", [0, 1, 100, 65536, 65537])
def test_small_files_read_together_come_as_if_read_one_by_one(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    together = asyncio.run(_all_answers(make_settings(tmp_path), PosixBackend(tmp_path / "together"), data))
    assert together == asyncio.run(_all_answers(make_settings(tmp_path), Plain(tmp_path / "plain"), data))


async def _all_answers(settings: Settings, backend: PosixBackend, data: bytes) -> list[tuple[object, ...]]:
    """Ask at the same time for one file in many ways, and for some others."""
    asked: list[dict[str, str]] = [{"Range": span} for span in ("bytes=0-9", "bytes=-7", "bytes=50-", "bytes=3-3,7-9")]
    asked += [{}, {"Range": "bytes=70000-"}, {"If-None-Match": f'"{hashlib.sha256(data).hexdigest()}"'}]
    async with serving(settings, backend=backend) as server:
        assert (await server.put(data, headers={"Content-Type": "text/plain"})).status == 201
        for node in range(2, 5):
            await server.put(str(node).encode(), node)
        answers = await asyncio.gather(*(server.get(headers=one) for one in asked), *map(server.get, range(2, 5)))
        return [(one.status, _lasting(one), _parts(one)) for one in answers]


def _lasting(answer: Answer) -> dict[str, str]:
    """Give the headers that are the same whenever the bytes came and whoever asks."""
    passing = {"date", "last-modified", "x-request-id"}
    told = {name: value for name, value in answer.headers.items() if name not in passing}
    return told | {"content-type": told.get("content-type", "").partition("boundary=")[0]}


def _parts(answer: Answer) -> bytes:
    boundary = answer.headers.get("content-type", "").partition("boundary=")[2].encode()
    return answer.body.replace(boundary, b"") if boundary else answer.body


async def test_small_files_that_are_gone_or_cut_are_a_fault_of_their_own(
    storage_server: Server, storage_settings: Settings
) -> None:
    places = {}
    for node in range(1, 5):
        await storage_server.put(DATA, node)
        stored_file = storage_server.catalogue.node(node).stored
        assert stored_file is not None
        places[node] = storage_settings.storage.path / "data" / stored_file.location
    places[2].unlink()
    places[3].write_bytes(DATA[:50])
    answers = await asyncio.gather(*map(storage_server.get, range(1, 5)))
    assert [one.status for one in answers] == [200, 500, 500, 200]
    assert answers[0].body == answers[3].body == DATA
