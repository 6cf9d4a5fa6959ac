"""Transfers that were negotiated by SFTP: one job, one file, one user and password."""

from __future__ import annotations

import asyncio
import os
import re
import urllib.error
from itertools import chain
from pathlib import Path

import asyncssh
import psutil
import pytest
from asyncssh import FXF_CREAT, FXF_READ, FXF_WRITE

from pyvospace.doors.sftp.order import Ordered
from pyvospace.doors.sftp.sessions import LONGEST_READ, SESSIONS, Server
from pyvospace.model.faults import InvalidArgument
from tests.doors.clients import (
    HTTP_GET,
    HTTP_PUT,
    PROTOCOL,
    Way,
    block,
    connected,
    endpoint,
    negotiate,
    openssh,
    read_http,
)
from tests.support.pair import Pair

BIG = os.urandom(3_000_007)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(BIG)
    return found


def test_openssh_with_the_url_as_it_is(sftp_pair: Pair, file: Path) -> None:
    url = endpoint(sftp_pair, "pushToVoSpace", "openssh.bin")
    put = openssh(url.rpartition("/")[0], f"put {file} openssh.bin", "ls -l")
    assert (put.returncode, put.stderr) == (0, "")
    assert read_http(sftp_pair, "openssh.bin") == BIG
    url = endpoint(sftp_pair, "pullFromVoSpace", "openssh.bin")
    got = openssh(url.rpartition("/")[0], "ls", f"get openssh.bin {file}.back", "rm openssh.bin")
    assert "openssh.bin" in got.stdout
    assert "Permission denied" in got.stderr or "Operation unsupported" in got.stderr
    assert Path(f"{file}.back").read_bytes() == BIG
    log = sftp_pair.log("storage")
    assert str(Way.of(url).password) not in log
    assert "Traceback" not in log


def test_order_of_the_client(sftp_pair: Pair) -> None:
    asked = [HTTP_PUT, PROTOCOL, "ivo://example.org#pigeon"]
    for wanted in (asked, asked[::-1]):
        told = negotiate(sftp_pair, "pushToVoSpace", "order", *wanted)
        assert re.findall('protocol uri="([^"]*)"', told) == [one for one in wanted if "pigeon" not in one]
        assert "SHA256:" in told
    with pytest.raises(urllib.error.HTTPError):
        read_http(sftp_pair, "order")
    assert "sftp" not in negotiate(sftp_pair, "pushToVoSpace", "order", HTTP_PUT)


async def test_password_and_reads_anywhere(sftp_pair: Pair) -> None:
    put = Way.of(endpoint(sftp_pair, "pushToVoSpace", "ranges"))
    async with connected(put) as client:
        async with client.open("whatever", FXF_WRITE | FXF_CREAT, encoding=None) as file:
            half = len(BIG) // 2
            await asyncio.gather(file.write(BIG[half:], half), file.write(BIG[:half], 0))
        assert (await client.stat("whatever")).size == len(BIG)
    async with connected(Way.of(endpoint(sftp_pair, "pullFromVoSpace", "ranges"))) as client:
        assert [name for name in await client.listdir() if name != "."] == ["ranges"]
        async with client.open("ranges", "rb") as file:
            assert await block(file, 1000, 2_999_000) == BIG[2_999_000:3_000_000]
            assert await block(file, 70_000, 5) == BIG[5:70_005]
            assert await block(file, 10, 4_000_000) == b""
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await client.open("ranges", "wb")


async def test_cut_in_the_middle_leaves_the_old(sftp_pair: Pair, file: Path) -> None:
    way = Way.of(endpoint(sftp_pair, "pushToVoSpace", "cut"))
    async with connected(way) as client, client.open("cut", "wb") as old:
        await old.write(b"old")
    way = Way.of(endpoint(sftp_pair, "pushToVoSpace", "cut"))
    connection = await asyncssh.connect(
        way.host, way.port, username=way.user, password=way.password, known_hosts=None, config=None, agent_path=None
    )
    client = await connection.start_sftp_client()
    handle = await client.open("cut", "wb")
    await handle.write(BIG)
    connection.abort()
    await connection.wait_closed()
    assert read_http(sftp_pair, "cut") == b"old"
    async with connected(way) as client:  # which waits until the lease has been given back
        for _ in range(100):
            try:
                async with client.open("cut", "wb") as again:
                    await again.write(b"new")
                break
            except asyncssh.SFTPFailure:
                await asyncio.sleep(0.05)
    assert read_http(sftp_pair, "cut") == b"new"


async def test_wrong_passwords(sftp_pair: Pair) -> None:
    way = Way.of(endpoint(sftp_pair, "pushToVoSpace", "secret"))
    other = Way.of(endpoint(sftp_pair, "pushToVoSpace", "other"))
    for wrong in (Way(way.host, way.port, other.user, way.password), Way(way.host, way.port, way.user, "x" * 60)):
        with pytest.raises(asyncssh.PermissionDenied):
            async with connected(wrong):
                pass


async def test_who_reads_no_answers_is_not_asked_for_more(sftp_pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(LONGEST_READ + 1))
    way = Way.of(endpoint(sftp_pair, "pushToVoSpace", "large"))
    async with connected(way) as client:
        await client.put(tmp_path / "large", "large")
    way = Way.of(endpoint(sftp_pair, "pullFromVoSpace", "large"))
    server = psutil.Process(sftp_pair.processes["storage"].pid)
    async with connected(way) as client:
        raw = client._handler
        handle = await raw.open(b"large", FXF_READ, asyncssh.SFTPAttrs())
        before = server.memory_info().rss
        asked = [asyncio.create_task(raw.read(handle, 0, 0xFFFF_FFFF)) for _ in range(60)]
        most = before
        for answer in asyncio.as_completed(asked):
            data, _ = await answer
            assert len(data) == LONGEST_READ
            most = max(most, server.memory_info().rss)
        assert most - before < 12 * LONGEST_READ


async def test_one_client_cannot_have_everything(sftp_pair: Pair) -> None:
    way = Way.of(endpoint(sftp_pair, "pullFromVoSpace", "large"))
    async with connected(way) as client:
        raw = client._handler
        with pytest.raises(asyncssh.SFTPFailure, match="too many"):
            await asyncio.gather(*(raw.opendir(b"/") for _ in range(100)))
        with pytest.raises(asyncssh.SFTPFailure, match="too many"):
            await asyncio.gather(*(raw.open(b"large", FXF_READ, asyncssh.SFTPAttrs()) for _ in range(100)))
    async with asyncssh.connect(
        way.host, way.port, username=way.user, password=way.password, known_hosts=None, config=None, agent_path=None
    ) as connection:
        for _ in range(SESSIONS):
            await connection.start_sftp_client()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()


def test_pieces_without_bytes_are_held_too() -> None:
    order = Ordered(1 << 20)
    with pytest.raises(InvalidArgument):
        list(chain.from_iterable(order.take(offset, b"") for offset in range(1, 1 << 20)))


def test_not_for_what_is_computed(sftp_pair: Pair) -> None:
    told = negotiate(sftp_pair, "pullFromVoSpace", "", PROTOCOL, HTTP_GET)
    assert PROTOCOL not in told


def test_nothing_is_left_of_the_files_of_this_machine() -> None:
    harmless = {
        "channel", "connection", "env", "logger", "convert_attrs", "format_user", "format_group", "format_longname",
        "map_path", "reverse_map_path", "exit",
    }  # fmt: skip
    served = {name for name in vars(asyncssh.SFTPServer) if not name.startswith("_")}
    assert served - harmless <= vars(Server).keys()
