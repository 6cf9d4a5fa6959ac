"""Logs: one line for each record, no control character of a user's making, no secret.

The token of an endpoint stands in its path, so that paths are masked wherever they are logged.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyvospace.config.settings import LogSettings

request_id: ContextVar[str] = ContextVar("pyvospace_request", default="")
"""Id of the request that is being served; it stands in the log and in the answer."""

_FLUSH = 0.2
"""Seconds for which lines of the access log gather."""
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def masked(text: str) -> str:
    """Replace what looks like a token of ours, and escape control characters."""
    if "eyJ" in text:
        text = _TOKEN.sub("[token]", text)
    return text if text.isprintable() else _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


class TextFormatter(logging.Formatter):
    """Lines to read."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line, and behind it the traceback of a defect."""
        line = f"{_stamp(record.created)} {record.levelname:<7} {_message(record)}"
        if record.exc_info:
            # What the exception says may come from a stranger: no line of it is to look like one of ours.
            traceback = self.formatException(record.exc_info).split("\n")
            line = "\n    ".join([line, *map(masked, traceback)])
        return line


class JsonFormatter(logging.Formatter):
    """Lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one object on one line."""
        entry = {
            "time": _stamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "request": request_id.get(),
        }
        if record.exc_info:
            entry["traceback"] = _TOKEN.sub("[token]", self.formatException(record.exc_info))
        return json.dumps(entry)


class AccessLog:
    """A line for each request, without the detours of `logging` and written in batches: it is the hottest log.

    Parameters
    ----------
    settings
        ``level`` above info turns it off.
    """

    def __init__(self, settings: LogSettings) -> None:
        self._wanted = settings.level in {"debug", "info"}
        self._json = settings.format == "json"
        self._lines: list[str] = []
        atexit.register(self.flush)

    def write(self, *, remote: str | None, caller: str, method: str, path: str, status: int, seconds: float) -> None:
        """Write the line of one request; `path` may hold a token, which is masked."""
        if not self._wanted:
            return
        shown = masked(path)
        if self._json:
            line = json.dumps(
                {
                    "time": _stamp(time.time()),
                    "level": "INFO",
                    "logger": "pyvospace.access",
                    "request": request_id.get(),
                    "remote": remote,
                    "caller": caller,
                    "method": method,
                    "path": shown,
                    "status": status,
                    "milliseconds": round(seconds * 1000, 1),
                }
            )
        else:
            who = caller or "-"
            line = f"{_stamp(time.time())} INFO    {remote} {who} {method} {shown} {status} {seconds * 1000:.1f} ms"
        if not self._lines:
            asyncio.get_running_loop().call_later(_FLUSH, self.flush)
        self._lines.append(line + "\n")

    def flush(self) -> None:
        """Write what has gathered."""
        lines, self._lines = self._lines, []
        if lines:
            sys.stderr.write("".join(lines))


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _message(record: logging.LogRecord) -> str:
    return masked(record.getMessage())


def set_up_logs(settings: LogSettings) -> None:
    """Write logs to standard error in the configured manner."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
