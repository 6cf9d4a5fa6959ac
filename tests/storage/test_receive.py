"""Uploads on every path, and what may go wrong with them."""

import asyncio
import base64
import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pyvospace.config import Settings
from pyvospace.storage.receive import SMALL
from tests.storage.serving import Server, make_settings, open_files, serving, staged, stored, until


def chunked(data: bytes, size: int = 300_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


Header = Callable[[bytes], dict[str, str]]


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@pytest.mark.parametrize("size", [0, 1, 1024, SMALL, SMALL + 1, 7 * (1 << 20) + 12345])
async def test_what_is_put_is_got(
    any_storage_server: Server, storage_settings: Settings, big: bytes, size: int
) -> None:
    data = big[:size]
    answer = await any_storage_server.put(data, Content_Type="image/fits; x=y")
    assert answer.status == 201
    assert answer.headers["content-length"] == "0"
    assert answer.headers["digest"] == f"md5={md5(data)}"
    assert answer.headers["repr-digest"] == f"sha-256=:{sha256(data)}:"
    assert answer.headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    [file] = stored(storage_settings)
    assert file.read_bytes() == data
    assert staged(storage_settings) == []
    node = any_storage_server.catalogue.node(1).stored
    assert node is not None
    assert (node.size, node.content_type) == (size, "image/fits; x=y")
    got = await any_storage_server.get()
    assert (got.status, got.body) == (200, data)


@pytest.mark.parametrize(
    "announced", [{}, {"Content_MD5": "0" * 32}, {"If_None_Match": "*"}, {"Content_Length": "301"}]
)
async def test_a_body_that_is_there_is_taken_as_one_that_comes(
    storage_server: Server, big: bytes, announced: dict[str, str]
) -> None:
    """Whether it comes with its head, behind it, or letter by letter."""
    data, answers = big[:60], []
    for node, step in enumerate((0, 60, 1), 1):
        connection = await storage_server.connect()
        head = connection.head("PUT", f"/files/put-{node}/x", {"Content_Length": "60"} | announced)
        pieces = [head, *(data[at : at + step] for at in range(0, 60, step))] if step else [head + data]
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(0.001)
        answer = await connection.answer()
        answers.append((answer.status, answer.body, answer.headers.get("digest")))
    assert answers[0] == answers[1] == answers[2]
    assert (answers[0][0] == 201) == (not announced or "If_None_Match" in announced)


@pytest.mark.parametrize("size", [0, 1, SMALL, 7 * (1 << 20) + 12345])
async def test_chunked(any_storage_server: Server, big: bytes, size: int) -> None:
    connection = await any_storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {"Transfer_Encoding": "chunked"}))
    for piece in chunked(big[:size]):
        await connection.send(piece)
    answer = await connection.answer()
    assert (answer.status, answer.closed) == (201, False)
    assert answer.headers["digest"] == f"md5={md5(big[:size])}"


async def test_body_without_length_is_empty(storage_server: Server) -> None:
    connection = await storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {}))
    assert (await connection.answer()).status == 201
    assert (await storage_server.get()).body == b""


async def test_small_uploads_share_a_connection(any_storage_server: Server) -> None:
    connection = await any_storage_server.connect()
    for node in range(1, 4):
        assert not (await connection.put(b"x" * node, node)).closed


async def test_pipelined_uploads(any_storage_server: Server) -> None:
    connection = await any_storage_server.connect()
    data = b"".join(
        connection.head("PUT", f"/files/put-{node}/x", {"Content_Length": "3"}) + b"abc" for node in range(1, 40)
    )
    await connection.send(data)
    for _ in range(1, 40):
        assert (await connection.answer()).status == 201
    assert (await any_storage_server.get(39)).body == b"abc"


@pytest.mark.parametrize("first", [0, 1, 100_000, 3_000_000])
async def test_what_aiohttp_has_read_already_is_not_lost(storage_server: Server, big: bytes, first: int) -> None:
    """Bytes that came with the head, or before the socket was taken, are in aiohttp's buffer."""
    storage_server.catalogue.before = lambda _: None
    connection = await storage_server.connect()
    head = connection.head("PUT", "/files/put-1/x", {"Content_Length": str(len(big))})
    await connection.send(head + big[:first])
    await asyncio.sleep(0.05)
    await connection.send(big[first:])
    answer = await connection.answer()
    assert (answer.status, answer.closed) == (201, True)
    assert answer.headers["digest"] == f"md5={md5(big)}"


async def test_slow_claim_fills_the_buffer(storage_server: Server, big: bytes) -> None:
    """While the claim waits for the database the client sends on: aiohttp pauses in the middle of a read."""
    original = storage_server.catalogue.claim_upload

    async def slow(*args: object, **kwargs: object) -> object:
        await asyncio.sleep(0.2)
        return await original(*args, **kwargs)  # type: ignore[arg-type]

    storage_server.catalogue.claim_upload = slow  # type: ignore[method-assign, assignment]
    answer = await storage_server.put(big)
    assert answer.status == 201
    assert (await storage_server.get()).body == big


async def test_request_behind_a_large_body_is_not_taken_for_it(storage_server: Server, big: bytes) -> None:
    connection = await storage_server.connect()
    head = connection.head("PUT", "/files/put-1/x", {"Content_Length": str(len(big))})
    connection.writer.write(head + big + connection.head("GET", "/livez", {}))
    with suppress(ConnectionError):  # unread bytes make the kernel reset the connection; the client comes again
        assert (await connection.answer()).closed
    assert (await storage_server.get()).body == big


@pytest.mark.parametrize("size", [10, 7 * (1 << 20) + 12345])
async def test_expect_continue(any_storage_server: Server, big: bytes, size: int) -> None:
    connection = await any_storage_server.connect()
    headers = {"Content_Length": str(size), "Expect": "100-continue"}
    await connection.send(connection.head("PUT", "/files/put-1/x", headers))
    assert (await connection.answer()).status == 100
    await connection.send(big[:size])
    assert (await connection.answer()).status == 201
    assert (await any_storage_server.get()).body == big[:size]


async def test_refused_upload_is_not_asked_for_its_body(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, idle_timeout=0.5)) as server:
        connection = await server.connect()
        headers = {"Content_Length": "100000000", "Expect": "100-continue"}
        await connection.send(connection.head("PUT", "/files/get-1/x", headers))
        answer = await connection.answer()
        assert (answer.status, answer.closed) == (403, True)


async def test_expect_with_the_body_already_there(any_storage_server: Server) -> None:
    connection = await any_storage_server.connect()
    headers = {"Content_Length": "3", "Expect": "100-continue"}
    await connection.send(connection.head("PUT", "/files/put-1/x", headers) + b"abc")
    statuses = [(await connection.answer()).status]
    if statuses == [100]:
        statuses.append((await connection.answer()).status)
    assert statuses[-1] == 201


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity", "rubbish"])
@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_content_encoding_is_never_undone(storage_server: Server, big: bytes, encoding: str, size: int) -> None:
    answer = await storage_server.put(big[:size], Content_Encoding=encoding)
    assert answer.status == 201
    got = await storage_server.get()
    assert got.body == big[:size]
    assert "content-encoding" not in got.headers


@pytest.mark.parametrize("size", [3000, 3_000_000])
@pytest.mark.parametrize("sent", [0, 1, 0.5, 1.0])
async def test_cut_connection_leaves_nothing(
    any_storage_server: Server, storage_settings: Settings, big: bytes, size: int, sent: float
) -> None:
    """The old bytes stay, the staging file goes, the lease is given back."""
    assert (await any_storage_server.put(b"old")).status == 201
    connection = await any_storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(size)}))
    await connection.send(big[: int(sent if sent == 1 else sent * (size - 1))])
    await asyncio.sleep(0.02)
    connection.writer.close()
    await until(lambda: bool(any_storage_server.catalogue.released))
    assert staged(storage_settings) == []
    assert (await any_storage_server.get()).body == b"old"
    assert (await any_storage_server.put(b"new")).status == 201


async def test_cut_chunked_body(any_storage_server: Server, storage_settings: Settings, big: bytes) -> None:
    connection = await any_storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {"Transfer_Encoding": "chunked"}))
    await connection.send(next(chunked(big)))
    connection.writer.close()
    await until(lambda: bool(any_storage_server.catalogue.released))
    assert (staged(storage_settings), stored(storage_settings)) == ([], [])


async def test_broken_chunk(tmp_path: Path) -> None:
    """aiohttp tells nobody that the rest of such a body cannot be read, so it takes the idle time-out."""
    settings = make_settings(tmp_path, idle_timeout=0.5)
    async with serving(settings) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Transfer_Encoding": "chunked"}))
        await connection.send(b"5\r\nabcde\r\n")
        await asyncio.sleep(0.02)
        await connection.send(b"nonsense\r\n")
        assert (await connection.answer()).status in {400, 408}
        assert (staged(settings), stored(settings)) == ([], [])


async def test_client_that_stops_sending_but_listens(storage_server: Server, big: bytes) -> None:
    connection = await storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(len(big))}))
    await connection.send(big[:-1])
    connection.writer.write_eof()
    answer = await connection.answer()
    assert answer.status == 400
    assert f"{len(big) - 1} of {len(big)}".encode() in answer.body


async def test_reset_connection(storage_server: Server, storage_settings: Settings, big: bytes) -> None:
    connection = await storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(len(big))}))
    await connection.send(big[:3_000_000])
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.writer.transport.abort()
    await until(lambda: bool(storage_server.catalogue.released))
    assert (staged(storage_settings), stored(storage_settings)) == ([], [])


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_silent_client(tmp_path: Path, big: bytes, size: int) -> None:
    settings = make_settings(tmp_path, idle_timeout=0.3)
    async with serving(settings) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(size)}))
        await connection.send(big[: size - 1])
        answer = await connection.answer()
        assert (answer.status, answer.closed) == (408, True)
        assert (staged(settings), server.catalogue.node(1).writer) == ([], None)


@pytest.mark.parametrize("size", [100, 2_000_000])
async def test_trickling_client(tmp_path: Path, size: int) -> None:
    settings = make_settings(tmp_path, idle_timeout=0.5, least_rate=100)
    async with serving(settings) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(size)}))

        async def trickle() -> None:
            while True:
                await connection.send(b"x")
                await asyncio.sleep(0.1)

        trickling = asyncio.create_task(trickle())
        answer = await connection.answer(wait=False)
        trickling.cancel()
        assert answer.status == 408


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_pausing_client_is_waited_for(any_storage_server: Server, big: bytes, size: int) -> None:
    connection = await any_storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(size)}))
    for third in range(3):
        await connection.send(big[third * size // 3 : (third + 1) * size // 3])
        await asyncio.sleep(0.15)
    assert (await connection.answer()).status == 201
    assert (await any_storage_server.get()).body == big[:size]


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize(
    "header",
    [
        lambda data: {"Digest": f"md5={md5(data)}"},
        lambda data: {"Digest": f"SHA-256={sha256(data)},MD5={md5(data)}"},
        lambda data: {"Repr_Digest": f"sha-256=:{sha256(data)}:"},
        lambda data: {"Content_MD5": md5(data)},
        lambda data: {"Content_MD5": hashlib.md5(data).hexdigest()},
        lambda data: {"Digest": "crc32c=AAAA", "Content_MD5": md5(data)},
    ],
)
async def test_announced_digest(
    storage_server: Server, storage_settings: Settings, big: bytes, size: int, header: Header
) -> None:
    data = big[:size]
    assert (await storage_server.put(data, headers=header(data))).status == 201
    wrong = await storage_server.put(data, headers=header(b"something else"))
    assert wrong.status == 412
    assert wrong.body.startswith(b"checksum mismatch")
    assert (await storage_server.get()).body == data
    assert (len(stored(storage_settings)), staged(storage_settings)) == (1, [])
    assert (await storage_server.put(b"next try", headers=header(b"next try"))).status == 201


@pytest.mark.parametrize(
    "header",
    [{"Digest": "md5=rubbish"}, {"Content_MD5": "AAAA"}, {"Digest": "md5=" + "0" * 32, "Content_MD5": "1" * 32}],
)
async def test_digest_that_is_none(storage_server: Server, header: dict[str, str]) -> None:
    assert (await storage_server.put(b"x", headers=header)).status == 400


@pytest.mark.parametrize("size", [11, 3_000_000])
async def test_limit(tmp_path: Path, authority: object, big: bytes, size: int) -> None:
    settings = make_settings(tmp_path, limits={"upload_bytes": size - 1})
    async with serving(settings) as server:
        assert (await server.put(big[: size - 1])).status == 201
        assert (await server.put(big[:size])).status == 413
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Transfer_Encoding": "chunked"}))
        for piece in chunked(big[:size]):
            await connection.send(piece)
        assert (await connection.answer()).status == 413
        assert (await server.get()).body == big[: size - 1]
        assert (len(stored(settings)), staged(settings)) == (1, [])


async def test_reserve_is_kept(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, reserve=0.99999)) as server:
        answer = await server.put(b"x")
        assert answer.status == 507
        assert answer.body.startswith(b"InsufficientStorage there is no room")


async def test_descriptors_are_not_leaked(storage_server: Server, big: bytes) -> None:
    async def round_trip(node: int) -> None:
        assert (await storage_server.put(big, node)).status == 201
        assert (await storage_server.get(node)).body == big
        connection = await storage_server.connect()
        await connection.send(connection.head("PUT", f"/files/put-{node}/x", {"Content_Length": str(len(big))}))
        await connection.send(big[: 1 << 21])
        connection.writer.close()

    await round_trip(1)
    await storage_server.hang_up()
    before = open_files()
    await asyncio.gather(*(round_trip(node) for node in range(2, 12)))
    await storage_server.hang_up()
    await until(lambda: len(storage_server.catalogue.released) == 11)
    await until(lambda: open_files() <= before)


async def test_more_clients_than_threads(tmp_path: Path, big: bytes) -> None:
    settings = make_settings(tmp_path, threads=4)
    async with serving(settings) as server:
        answers = await asyncio.gather(*(server.put(big[node:], node) for node in range(20)))
        assert {answer.status for answer in answers} == {201}
        for node in range(20):
            assert (await server.get(node)).body == big[node:]


async def test_silent_clients_do_not_hold_up_others(tmp_path: Path, big: bytes) -> None:
    settings = make_settings(tmp_path, threads=2)
    async with serving(settings) as server:
        idle = []
        for node in range(10, 20):
            connection = await server.connect()
            await connection.send(connection.head("PUT", f"/files/put-{node}/x", {"Content_Length": str(len(big))}))
            await connection.send(big[:2_000_000])
            idle.append(connection)
        assert (await server.put(big, 1)).status == 201
        for connection in idle:
            await connection.send(big[2_000_000:])
        for connection in idle:
            assert (await connection.answer()).status == 201
