"""Points at which a test makes a process die as if by a power cut."""

import os
import signal

UPLOAD_POINTS = frozenset(
    {
        "after-tmp",
        "after-fsync",
        "after-rename",
        "after-dirsync",
        "before-commit",
        "after-commit-before-answer",
    }
)
"""Those on the way of every upload."""
POINTS = UPLOAD_POINTS | frozenset(
    {
        "gc-row-deleted",
        "job-claimed",
        "unpack-mid",
        "move-mid",
        "copy-mid",
        "delete-mid",
        "properties-mid",
        "search-mid",
        "tus-append",
        "repair-mid",
        "fsck-mid",
    }
)
VARIABLE = "PYVOSPACE_CRASH"


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL if the environment variable PYVOSPACE_CRASH names this point.

    Raises
    ------
    ValueError
        The point is not in `POINTS`, so that no test waits for one that does not exist.
    """
    if name not in POINTS:
        raise ValueError(name)
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
