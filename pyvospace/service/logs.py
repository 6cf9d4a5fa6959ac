"""Logs: one line for each record, no control character of a user's making, no secret.

The token of an endpoint stands in its path, so that paths are masked wherever they are logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyvospace.config.settings import LogSettings

request_id: ContextVar[str] = ContextVar("pyvospace_request", default="")
"""Id of the request that is being served; it stands in the log and in the answer."""

_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def masked(text: str) -> str:
    """Replace what looks like a token of ours, and escape control characters."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", _TOKEN.sub("[token]", text))


class TextFormatter(logging.Formatter):
    """Lines to read."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line, and behind it the traceback of a defect."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname:<7} {_message(record)}"
        if record.exc_info:
            line += "\n" + _TOKEN.sub("[token]", self.formatException(record.exc_info))
        return line


class JsonFormatter(logging.Formatter):
    """Lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one object on one line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "request": getattr(record, "request", "") or request_id.get(),
        }
        if record.exc_info:
            entry["traceback"] = _TOKEN.sub("[token]", self.formatException(record.exc_info))
        return json.dumps(entry)


def _message(record: logging.LogRecord) -> str:
    return masked(record.getMessage())


def set_up_logs(settings: LogSettings) -> None:
    """Write logs to standard error in the configured manner."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
