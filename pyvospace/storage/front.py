"""An nginx in front that sends files in our place, when we have decided that it may: ``X-Accel-Redirect``.

The answer names an internal location of nginx in place of a body. Rights, digests, conditions and what is damaged stay
with us; nginx reads the file. It would compare conditions with what it knows of a file, and answers odd ranges in its
own way: these requests are answered by us, bytes and all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aiohttp import web

from pyvospace.service.proxies import PROXIES
from pyvospace.storage.backend import FileBytes

if TYPE_CHECKING:
    from pyvospace.storage.backend import ByteRange, Download

_CONDITIONS: Final = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")
_PLAIN_RANGE: Final = re.compile(r"bytes=(?:\d{1,18}-\d{0,18}|-\d{1,18})")


class Front:
    """The nginx in front.

    Parameters
    ----------
    prefix
        Of its internal locations; behind it stands the path of a file.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def hand_over(
        self, request: web.Request, source: Download, wanted: ByteRange | None, headers: dict[str, str]
    ) -> web.Response | None:
        """Answer that it is to send a file, or the range that was asked for; None: we have to do that.

        `wanted` is the range that we have found in the request; None: everything.
        """
        if not isinstance(source, FileBytes) or source.path is None or not self._agrees(request, wanted):
            return None
        # A whole file gets nginx's own Accept-Ranges beside ours, a range does not.
        its = {"Content-Range"} if wanted else {"Content-Range", "Accept-Ranges"}
        headers = {name: value for name, value in headers.items() if name not in its}
        return web.Response(headers={**headers, "X-Accel-Redirect": self._prefix + quote(str(source.path))})

    def _agrees(self, request: web.Request, wanted: ByteRange | None) -> bool:
        """Say whether it is there and will answer just as we would."""
        headers = request.headers
        spans = headers.getall("Range", ())
        return (
            not any(name in headers for name in _CONDITIONS)
            and len(spans) == (wanted is not None)
            and all(map(_PLAIN_RANGE.fullmatch, spans))
            and request.app[PROXIES].carries(request)
        )
