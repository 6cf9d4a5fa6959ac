"""The headers of every answer, in one table, and what pages of other origins may ask and see (CORS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.service.faults import CALLER, REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler, Middleware

    from pyvospace.config.settings import CorsSettings, ServerSettings

SERVER: Final = "pyvospace"

ALWAYS: Final = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-site",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer, unless a handler says something else. What it says depends on the caller: nobody is to keep it."""

_EXPOSED: Final = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Digest, ETag, Last-Modified, "
    "Location, Repr-Digest, Retry-After, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, "
    "Tus-Version, Upload-Concat, Upload-Defer-Length, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, "
    "WWW-Authenticate, X-OC-Mtime, X-Request-Id, X-VO-Authenticated, X-VO-Bearer"
)
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
_ASKABLE: Final = (
    "Accept, Authorization, Content-MD5, Content-Type, Digest, If-Match, If-Modified-Since, If-None-Match, "
    "If-Range, If-Unmodified-Since, Range, Repr-Digest, Tus-Resumable, Upload-Checksum, Upload-Concat, "
    "Upload-Defer-Length, Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, X-OC-Mtime, "
    "X-Pyvospace-Mode, X-Request-ID, X-Total-Length"
)
_ANYBODY: Final = "*"
_REMEMBERED: Final = "600"
"""Seconds for which a browser need not ask again."""


def fixed(settings: ServerSettings) -> dict[str, str]:
    """Give the headers that do not depend on the request."""
    found = {"Server": SERVER, **ALWAYS}
    if settings.public_url.startswith("https:") and settings.hsts:
        found["Strict-Transport-Security"] = f"max-age={settings.hsts:.0f}"
    return found


class Headers:
    """Puts the headers of every answer on it (signal ``on_response_prepare``).

    Parameters
    ----------
    vary
        Headers of requests on which answers depend.
    """

    def __init__(self, always: Mapping[str, str], *, vary: tuple[str, ...] = (), cors: Cors | None = None) -> None:
        self.always = {**always, "Vary": ", ".join(vary)} if vary else dict(always)
        """Those that do not depend on the request."""
        self._cors = cors

    async def __call__(self, request: web.Request, response: web.StreamResponse) -> None:
        """Complete the headers of an answer."""
        headers = response.headers
        headers["Server"] = SERVER  # aiohttp has named itself already
        headers.merge(self.always)
        caller, number = request.get(CALLER), request.get(REQUEST_ID)
        if caller is not None:
            headers["X-VO-Authenticated"] = caller
        if number is not None:
            headers["X-Request-Id"] = number
        if self._cors is not None and "Origin" in request.headers:
            headers.update(self._cors.allow(request.headers["Origin"]))


class Cors:
    """Which pages may ask: those of the origins in the settings. They never come with cookies or certificates.

    Parameters
    ----------
    open_to_all
        If any page may, every page may: for URLs that are a credential themselves. A browser that was sent on from
        another origin does not even say where the page is from.
    """

    def __init__(self, settings: CorsSettings, *, open_to_all: bool) -> None:
        self._origins = frozenset(settings.origins)
        self._anybody = open_to_all or _ANYBODY in self._origins
        self.vary = () if self._anybody else ("Origin",)

    @classmethod
    def of(cls, settings: CorsSettings, *, open_to_all: bool = False) -> Cors | None:
        """Give the rules; None: no page of another origin may ask anything."""
        return cls(settings, open_to_all=open_to_all) if settings.origins else None

    def allow(self, origin: str) -> dict[str, str]:
        """Give the headers that let a page of an origin see an answer; none if it may not."""
        if self._anybody:
            return {"Access-Control-Allow-Origin": _ANYBODY, "Access-Control-Expose-Headers": _EXPOSED}
        if origin in self._origins:
            return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}
        return {}

    def middleware(self) -> Middleware:
        """Make the middleware that answers browsers which ask whether a page may ask."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
                return await handler(request)
            return self._answer(request)

        return middleware

    def _answer(self, request: web.Request) -> web.Response:
        """Answer for every path alike: what there is, is told to nobody here."""
        response = web.Response(status=204)
        if self.allow(request.headers.get("Origin", "")):
            headers = response.headers
            headers["Access-Control-Allow-Methods"] = _METHODS
            headers["Access-Control-Allow-Headers"] = _ASKABLE
            headers["Access-Control-Max-Age"] = _REMEMBERED
            if request.headers.get("Access-Control-Request-Private-Network") == "true":
                headers["Access-Control-Allow-Private-Network"] = "true"
        return response


HEADERS: Final[web.AppKey[Headers]] = web.AppKey("headers", Headers)


def dress(app: web.Application, settings: ServerSettings, *, vary: tuple[str, ...], cors: Cors | None) -> None:
    """Put the headers of every answer on the answers of an application."""
    app[HEADERS] = Headers(fixed(settings), vary=(*vary, *(cors.vary if cors else ())), cors=cors)
    app.on_response_prepare.append(app[HEADERS])
