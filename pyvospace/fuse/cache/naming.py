"""Names of files that are kept beside others, and of the places of caches."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pyvospace.fuse.cache.records import Names
from pyvospace.model.uris import MAX_NAME_BYTES

_SUFFIX: Final = re.compile(r"(?:\.tar)?\.[A-Za-z0-9]{1,12}")
_USER: Final = re.compile(r"[^A-Za-z0-9_@-]+")


def beside(path: Names, why: str, user: str) -> Names:
    """Name a file that is kept beside another: ``NAME.WHY-USER-20261121T193020Z.EXT``."""
    *above, name = path
    stem, suffix = name, ""
    found = next((match for match in _SUFFIX.finditer(name, 1) if match.end() == len(name)), None)
    if found is not None:
        stem, suffix = name[: found.start()], found[0]
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    mark = f".{why}-{_USER.sub('_', user)[:40] or 'unknown'}-{stamp}"
    room = MAX_NAME_BYTES - len((mark + suffix).encode())
    return (*above, stem.encode()[:room].decode(errors="ignore") + mark + suffix)


def cache_directory(url: str, user: str, authority: str, base: Path | None = None) -> Path:
    """Give the place for caches of mounts of one space by one user, below `base` or the usual directory.

    What is unsent of one space must never come to another, nor to another user's name.
    """
    if base is None:
        home = os.environ.get("XDG_CACHE_HOME")
        base = (Path(home) if home else Path.home() / ".cache") / "pyvospace" / "mounts"
    return base / hashlib.sha256("\n".join((url.rstrip("/"), user, authority)).encode()).hexdigest()[:32]
