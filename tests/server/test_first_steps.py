"""The shortest way through the whole: a container, bytes in, a listing, bytes out."""

from __future__ import annotations

import aiohttp

from tests.support.pair import Pair


async def test_bytes_come_back_as_sent(pair: Pair) -> None:
    headers = {"Authorization": f"Bearer {pair.token}"}
    content = bytes(range(256)) * 100
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"{pair.url}/files{pair.home}/first%20steps.bin"
        async with session.put(url, data=content, allow_redirects=False) as answer:
            assert answer.status == 307
            endpoint = answer.headers["Location"]
        async with session.put(endpoint, data=content) as answer:
            assert answer.status == 201, await answer.text()
        async with session.get(f"{pair.url}/nodes{pair.home}") as answer:
            assert f"{pair.uri('first%20steps.bin')}" in await answer.text()
        async with session.get(url) as answer:
            assert await answer.read() == content
