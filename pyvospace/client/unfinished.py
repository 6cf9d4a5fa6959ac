"""What a client remembers of uploads that it has not finished, so that another run goes on with them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Self

log = logging.getLogger(__name__)

_MOST = 64 << 10


def state_directory() -> Path:
    """Give where it is kept: ``uploads`` in the user's state directory."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "pyvospace" / "uploads"


class Unfinished:
    """The URL of one upload, in a file of its own that is locked as long as this is entered.

    Another process that sends the same finds it locked, and remembers nothing. Neither does one that may not write.

    Parameters
    ----------
    what
        Tells the upload from all others, and the bytes from those that may stand there later.
    """

    def __init__(self, what: list[object]) -> None:
        self._what = json.dumps(what, default=str)
        self._path = state_directory() / f"{hashlib.sha256(self._what.encode()).hexdigest()[:32]}.json"
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        """Open and lock it."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = FileIO(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+")
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise
        except OSError as error:
            log.info("%s: %s; an upload that breaks off can be resumed by this run only", self._path, error)
        else:
            self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; without a URL it is of no use."""
        if self._file is None:
            return
        if not os.fstat(self._file.fileno()).st_size:
            with suppress(OSError):
                self._path.unlink()
        self._file.close()

    @property
    def url(self) -> str | None:
        """Where the upload is; None: nowhere yet."""
        found: Any = None
        if self._file is not None:
            self._file.seek(0)
            with suppress(ValueError):
                found = json.loads(self._file.read(_MOST) or b"null")
        if not isinstance(found, dict) or found.get("what") != self._what or not isinstance(found.get("url"), str):
            return None
        return str(found["url"])

    def remember(self, url: str | None) -> None:
        """Remember where it is; None: forget it."""
        if self._file is None:
            return
        self._file.seek(0)
        self._file.truncate()
        if url is not None:
            self._file.write(json.dumps({"what": self._what, "url": url}).encode())
