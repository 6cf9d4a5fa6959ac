"""Logs: one line for each record, no control character of a user's making, no secret.

Nothing of ours logs a secret by intent. But the token of an endpoint stands in its path, URLs of other services hold
passwords, and the text of an exception may repeat what a stranger has sent: so all that is logged is masked.
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
from urllib.parse import unquote

if TYPE_CHECKING:
    from pyvospace.config.settings import LogSettings

request_id: ContextVar[str] = ContextVar("pyvospace_request", default="")
"""Id of the request that is being served; it stands in the log and in the answer."""

trace_id: ContextVar[str] = ContextVar("pyvospace_trace", default="")
"""What connects the log lines of both servers about one transfer: from the client's ``traceparent``, or the id of its
job, or of the request with which it began. Endpoints carry it on."""

_TRACE = re.compile("00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_FLUSH = 0.2
"""Seconds for which lines of the access log gather."""
_SECRETS = re.compile(
    # Whatever a stranger sends is gone through once: each part begins where a word does, or at a fixed text, and
    # ends within a fixed length, or where it can begin only once.
    r"""
      (?P<token> (?<![\w-]) eyJ[\w-]* (?: \.[\w-]* ){1,4} )           # a JWT: of an endpoint, of a provider
    | (?P<hex> (?<![\w-]) [0-9a-f]{64} (?![\w-]) )                  # an API token
    | (?P<url> :// ) [^/\s'"<>]* @                                 # user and password in a URL
    | (?P<scheme> (?<![\w-]) (?: bearer | basic | ivoa_bearer ) ) \s [\w.~+/=:-]{4,}
    | (?P<header> (?<![\w-]) (?: (?: proxy- )? authorization | (?: set- )? cookie | x-vo-bearer
                              | x-cadc-delegationtoken | x-proxy-secret ) ['"]? \s? [:=,] \s? ) [^\r\n]*
    | (?P<name> (?<![\w-]) [\w-]{0,40}? (?: password | passwd | secret | token | assertion | api_?key | signature )
                ['"]? \s? (?: = | :\s ) \s? ['"]? ) [^\s&'",;]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SIGNS = ("eyj", "@", "bearer", "basic", "cookie", "auth", "token", "pass", "secret", "assertion", "key", "signature")
"""One of them is in all that `_SECRETS` finds, API tokens aside: to look for them is quicker."""
_HEX = re.compile(r"[0-9a-f]{64}")
_SHOWN = frozenset({"detail", "limit", "order", "sort", "uri", "accept", "target", "direction", "protocol", "view",
                    "request", "phase", "wait", "last", "after", "right", "user", "dryrun"})  # fmt: skip
"""Parameters of a query whose values are logged: none of them is for a secret."""
_PARAMETERS = 100
_SHORT = 60
"""A path of this length has no room for an API token."""
_LONG = 4000
"""Characters of a path that are logged, and the same of a query."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def trace_of(header: str | None) -> str | None:
    """Read the trace from a header ``traceparent`` (W3C Trace Context); None: there is none."""
    found = _TRACE.fullmatch(header) if header else None
    return found[1] if found else None


def masked(text: str) -> str:
    """Replace what looks like a secret, and escape control characters."""
    text = _without_secrets(text)
    return text if text.isprintable() else _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _without_secrets(text: str) -> str:
    folded = text.lower()
    if any(sign in folded for sign in _SIGNS) or _HEX.search(folded):
        return _SECRETS.sub(_mask, text)
    return text


def _mask(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    if kind in {"token", "hex"}:
        return "[token]"
    return f"{match[kind]} [secret]" if kind == "scheme" else f"{match[kind]}[secret]{'@' * (kind == 'url')}"


def shown_path(path: str) -> str:
    """Write the path of a request, and of its query what is known to be no secret."""
    path, mark, query = path.partition("?")
    if len(path) > _SHORT or "eyJ" in path or "%" in path or "@" in path or not path.isprintable():
        path = _shown(path)
    if not mark:
        return path
    pairs = query.split("&", _PARAMETERS)[:_PARAMETERS]
    return f"{path}?{'&'.join(map(_shown_parameter, pairs))[:_LONG]}"


def _shown(encoded: str) -> str:
    """Write encoded text; what holds a secret that only decoding shows is left out."""
    if len(encoded) > _LONG:
        encoded = encoded[:_LONG].rpartition("/")[0] + "/..."  # no part of a secret
    shown = masked(encoded)
    if "%" in shown and (plain := unquote(shown)) != _without_secrets(plain):
        return "..."
    return shown


def _shown_parameter(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return "..." if name else ""
    if name in _SHOWN and value.isalnum() and len(value) <= _SHORT:  # as nearly always: neither a secret nor encoded
        return pair
    return f"{_shown(name)}={_shown(value) if name.lower() in _SHOWN else '...'}"


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
            "trace": trace_id.get(),
        }
        if record.exc_info:
            entry["traceback"] = _without_secrets(self.formatException(record.exc_info))
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
        """Write the line of one request; `path` may hold secrets, which are masked."""
        if not self._wanted:
            return
        shown = shown_path(path)
        if self._json:
            line = json.dumps(
                {
                    "time": _stamp(time.time()),
                    "level": "INFO",
                    "logger": "pyvospace.access",
                    "request": request_id.get(),
                    "trace": trace_id.get(),
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
