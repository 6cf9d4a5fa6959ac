"""A server of somebody else, from which the service fetches files."""

from __future__ import annotations

import random

from aiohttp import web


class Source:
    """Serves what it is given; now and then it breaks off."""

    def __init__(self, chance: random.Random) -> None:
        self.base = ""
        self._chance = chance
        self._files: dict[str, bytes] = {}
        self._runner = web.ServerRunner(web.Server(self._answer))

    async def start(self, host: str) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, 0).start()
        self.base = f"http://{host}:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop."""
        await self._runner.cleanup()

    def offer(self, data: bytes) -> str:
        """Serve bytes; give their URL."""
        name = f"/{len(self._files)}"
        self._files[name] = data
        return self.base + name

    def withdraw(self, url: str) -> None:
        """Serve them no longer; the name is not given again."""
        self._files[url.removeprefix(self.base)] = b""

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        data = self._files.get(request.path, b"")
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        broken = data and self._chance.random() < 0.1
        await response.write(data[: len(data) // 2] if broken else data)
        if broken and request.transport is not None:
            request.transport.close()
        return response
