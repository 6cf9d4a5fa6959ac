"""Logs: one line a record, no secret, nothing of a stranger's making that looks like ours (T22)."""

from __future__ import annotations

import json
import logging

import pytest

from pyvospace.config.settings import LogSettings
from pyvospace.service.logs import AccessLog, JsonFormatter, TextFormatter, masked, shown_path

API = "0123456789abcdef" * 4
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJvcCI6ImdldCJ9.c2lnbmF0dXJl"


def record(message: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, None)
    return logging.LogRecord("pyvospace.x", logging.ERROR, "x.py", 1, message, args, exc_info)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/nodes/a", "/nodes/a"),
        (f"/files/{TOKEN}/a", "/files/[token]/a"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x1b[31m\x00\x7f\x9b", "\\x1b[31m\\x00\\x7f\\x9b"),
        ("a\u2028b", "a\\x2028b"),
        ("é\U0001f52d", "é\U0001f52d"),
        (f"Authorization: Bearer {API}", "Authorization: [secret]"),
        (f"{{'authorization': 'Basic {API}'}}", "{'authorization': [secret]"),
        ("Cookie: a=b; c=d", "Cookie: [secret]"),
        ("sent bearer abc.def and went", "sent bearer [secret] and went"),
        (f"a token {API} was", "a token [token] was"),
        ("('X-VO-Bearer', 'x')", "('X-VO-Bearer', [secret]"),
        ("X-CADC-DelegationToken=x", "X-CADC-DelegationToken=[secret]"),
        ("https://me:pa@ss@host/a@b", "https://[secret]@host/a@b"),
        ("postgresql://u:p@h/db", "postgresql://[secret]@h/db"),
        ("{'password': 'x y', 'client_secret': 'z'}", "{'password': '[secret] y', 'client_secret': '[secret]'}"),
        ("?a=1&access_token=x&b=2", "?a=1&access_token=[secret]&b=2"),
        ("the token is wrong; a secret: none", "the token is wrong; a secret: [secret]"),
        ("a home of alice@example.org", "a home of alice@example.org"),
    ],
)
def test_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nodes/a%20b?limit=0&uri=vos:%2f%2fx", "/nodes/a%20b?limit=0&uri=vos:%2f%2fx"),
        (f"/files/{TOKEN}/a", "/files/[token]/a"),
        (f"/files/{TOKEN.replace('.', '%2e')}/a", "..."),
        (f"/nodes/{API}/a", "/nodes/[token]/a"),
        ("/x?access_token=s&LIMIT=1&s&a=", "/x?access_token=...&LIMIT=1&...&a=..."),
        ("/x?target=https%3A%2F%2Fme%3As%40host&view=https://me:s@host", "/x?target=...&view=https://[secret]@host"),
        (f"/x?{TOKEN}", "/x?..."),
        (f"/x?{TOKEN}=1", "/x?[token]=..."),
    ],
)
def test_shown_path(path: str, expected: str) -> None:
    assert shown_path(path) == expected


def test_what_strangers_send_is_gone_through_once() -> None:
    """Twice as much takes twice as long, not four times (T19): a square would not end."""
    for piece in ("eyJ", "eyJ.", "eyJ-", "a-", "://", "token", "password ", "cookie", "0" * 63 + " ", "bearer ", "x="):
        flood = piece * ((1 << 19) // len(piece))
        masked(flood)
        shown_path(f"/{flood}?{flood}")


def test_lines_of_text() -> None:
    line = TextFormatter().format(record("refused %s\n2026 INFO forged", f"/files/{TOKEN}/a"))
    assert "\n" not in line
    assert "[token]" in line
    assert line.split()[1] == "ERROR"


def test_traceback_in_text() -> None:
    error = ValueError(f"bad\n2026-01-01T00:00:00.000Z INFO    forged \x1b[2J {TOKEN}")
    first, *rest = TextFormatter().format(record("defect", error=error)).split("\n")
    assert first.endswith("defect")
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in "".join(rest)
    assert TOKEN not in "".join(rest)


def test_objects_of_json() -> None:
    line = JsonFormatter().format(record("a\n%s", TOKEN, error=ValueError(TOKEN)))
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["level"], entry["message"]) == ("ERROR", "a\\x0a[token]")
    assert TOKEN not in line


@pytest.mark.parametrize("form", ["text", "json"])
async def test_access(capsys: pytest.CaptureFixture[str], form: str) -> None:
    access = AccessLog(LogSettings(format=form))
    access.write(remote="::1", caller="", method="GET", path=f"/files/{TOKEN}/a\n", status=200, seconds=0.5)
    access.flush()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert TOKEN not in line
    assert "200" in line


async def test_access_is_quiet_above_info(capsys: pytest.CaptureFixture[str]) -> None:
    access = AccessLog(LogSettings(level="warning"))
    access.write(remote="::1", caller="", method="GET", path="/", status=200, seconds=0.5)
    access.flush()
    assert capsys.readouterr().err == ""
