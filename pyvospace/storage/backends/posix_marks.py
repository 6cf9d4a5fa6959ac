"""Files that say what a directory is: which storage, which directory of it. For worker threads."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

STORAGE: Final = "storage.json"
"""In the first directory: the identity of the storage."""
DIRECTORY: Final = "directory.json"
"""In every other one: its id, and the storage it belongs to. Not there: this disk is not mounted."""
KNOWN: Final = "directories"
"""In the first directory: a file for each other one that was ever taken into use, named by its id."""


def read_mark(path: Path) -> dict[str, str] | None:
    """Give what a mark says; None if it is not there.

    Raises
    ------
    ValueError
        It is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = json.loads(text)
    if not (isinstance(found, dict) and isinstance(found.get("id"), str)):
        raise ValueError(f"{path} is damaged: it says no id")  # noqa: TRY004 (it is the file that is wrong)
    return found


def keep_mark(path: Path, make: Callable[[], Mapping[str, str]]) -> dict[str, str]:
    """Read a mark, made if it is not there.

    Several processes may start on a new directory at once: link() lets one of them win.
    """
    while True:
        found = read_mark(path)
        if found is not None:
            return found
        draft = path.with_name(f"{path.stem}-{uuid4().hex}.draft")
        with draft.open("x", encoding="utf-8") as file:
            file.write(json.dumps({**make(), "made": datetime.now(UTC).isoformat()}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        _link_durably(draft, path)


def _link_durably(draft: Path, path: Path) -> None:
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
