"""Several ranges in one answer."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.ranges import MOST_RANGES, UNSATISFIABLE, ByteRange, parse_range, parse_ranges
from tests.storage.serving import Server

DATA = bytes(range(256)) * 1000


async def parts_of(server: Server, wanted: str) -> list[tuple[str, bytes]]:
    answer = await server.get(Range=wanted)
    assert answer.status == 206
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + answer.body, policy=HTTP.clone(max_line_length=None))
    assert isinstance(message, EmailMessage)
    return [(part["Content-Range"], part.get_content()) for part in message.iter_parts()]


async def test_several_ranges(any_storage_server: Server) -> None:
    await any_storage_server.put(DATA, Content_Type="image/fits")
    found = await parts_of(any_storage_server, "bytes=1000-1009, 0-0,-200000,9999999-")
    size = len(DATA)
    assert found == [
        (f"bytes 1000-1009/{size}", DATA[1000:1010]),
        (f"bytes 0-0/{size}", DATA[:1]),
        (f"bytes {size - 200000}-{size - 1}/{size}", DATA[-200000:]),
    ]


@pytest.mark.parametrize(
    "wanted", ["bytes=0-9,5-20", "bytes=0-0," + ",".join(f"{2 * i}-{2 * i}" for i in range(1, 200))]
)
async def test_work_is_never_multiplied(storage_server: Server, wanted: str) -> None:
    await storage_server.put(DATA)
    answer = await storage_server.get(Range=wanted)
    assert (answer.status, answer.body) == (200, DATA)


async def test_nothing_is_left(storage_server: Server) -> None:
    await storage_server.put(DATA)
    assert (await storage_server.get(Range="bytes=9999999-,8888888-")).status == 416
    single = await storage_server.get(Range="bytes=9999999-,0-1")
    assert (single.status, single.headers["content-range"], single.body) == (206, f"bytes 0-1/{len(DATA)}", DATA[:2])


@given(st.text("0123456789-,= bytes\t", max_size=300), st.integers(0, 1000))
def test_any_header(text: str, size: int) -> None:
    found = parse_ranges(text, size)
    if isinstance(found, tuple):
        assert 0 < len(found) <= MOST_RANGES
        assert sum(one.length for one in found) <= size
    if "," not in text:
        one = parse_range(text, size)
        assert found == ((one,) if isinstance(one, ByteRange) else one)
    assert found is None or found is UNSATISFIABLE or isinstance(found, tuple)
