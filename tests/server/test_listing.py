"""Lists that are sent as they come: while one piece is sent, the next one is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from pyvospace.server.handlers.listing import ahead


async def pieces(made: list[int], number: int) -> AsyncGenerator[bytes]:
    try:
        for one in range(number):
            made.append(one)
            yield b"%d" % one
    finally:
        made.append(-1)


@pytest.mark.parametrize("number", [0, 1, 5])
async def test_all_of_them_in_their_order(number: int) -> None:
    made: list[int] = []
    assert [piece async for piece in ahead(pieces(made, number))] == [b"%d" % one for one in range(number)]
    assert made == [*range(number), -1]


async def test_no_more_than_one_ahead() -> None:
    made: list[int] = []
    following = ahead(pieces(made, 5))
    assert await anext(following) == b"0"
    for _ in range(5):
        await asyncio.sleep(0)
    assert made == [0, 1]
    await following.aclose()
    assert made == [0, 1, -1]


async def test_what_is_begun_ends_with_the_reader() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncGenerator[bytes]:
        yield b"first"
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    following = ahead(endless())
    assert await anext(following) == b"first"
    await begun.wait()
    await following.aclose()
    assert ended.is_set()


async def test_faults_come_in_their_place() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"first"
        raise ConnectionError("the database is away")

    following = ahead(broken())
    assert await anext(following) == b"first"
    with pytest.raises(ConnectionError):
        await anext(following)
