"""The address on this machine at which a browser brings back what a provider says (RFC 8252, section 7.3)."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from aiohttp import web

_PATH: Final = "/callback"
_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>pyvospace</title></head>
<body><h1>{title}</h1><p>{words}</p></body></html>
"""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
}


class Loopback:
    """Listens at a port that was free, on 127.0.0.1 alone, and takes one answer: that with our state.

    Parameters
    ----------
    state
        What the provider sends back of what it was sent. Whoever else comes does not know it.
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self._answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        app = web.Application()
        app.router.add_get(_PATH, self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}{_PATH}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        await self._runner.cleanup()

    async def answer(self) -> Mapping[str, str]:
        """Wait for the parameters with which the browser comes."""
        return await self._answer

    async def _take(self, request: web.Request) -> web.Response:
        told = dict(request.query)
        if not hmac.compare_digest(told.get("state", "").encode(), self._state.encode()):
            return _page("This is not for pyvospace", "The state is not ours: nothing has happened.", status=400)
        if not self._answer.done():
            self._answer.set_result(told)
        if "code" not in told:
            return _page("Not logged in", "The provider has refused; the command line says why.")
        return _page("Logged in", "You can close this window and go back to the command line.")


def _page(title: str, words: str, *, status: int = 200) -> web.Response:
    text = _PAGE.format(title=title, words=words)
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)
