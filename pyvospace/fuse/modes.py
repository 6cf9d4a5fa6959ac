"""Permissions as the mount shows them: what programs have set, as far as the space grants it.

A mode that ``chmod`` or the maker of a file has set is kept in the property ``ivo://pyvospace#mode`` and comes back
whole, so that archives and copies through the mount lose nothing. No ``chmod`` changes who may do what in the space:
bits that the space does not grant are taken away, and a node that everybody may read shows that.
"""

from __future__ import annotations

import stat
from typing import Final

_ALL: Final = 0o777
_READ: Final = 0o444
_WRITE: Final = 0o222
_SEARCH: Final = 0o111
_EARLIEST: Final = -(1 << 63)
_LATEST: Final = (1 << 63) - 1


def shown_mode(kind: int, *, readable: bool, writable: bool, public: bool, kept: int | None) -> int:
    """Give the mode of a node, kind included.

    Parameters
    ----------
    kind
        S_IFREG, S_IFDIR or S_IFLNK.
    readable, writable
        What the user of the mount may do.
    kept
        What was set; None: nothing, then there are bits for the user of the mount alone.
    """
    if kind == stat.S_IFLNK:
        return kind | _ALL
    is_directory = kind == stat.S_IFDIR
    mode = (0o700 if is_directory else 0o600) if kept is None else kept & _ALL
    if public:
        mode |= _READ | _SEARCH if is_directory else _READ
    if not writable:
        mode &= ~_WRITE
    if not readable:
        mode &= ~_READ
    return kind | mode


def kept_mode(asked: int) -> int:
    """Give what is kept of a mode that a program asks for."""
    return asked & _ALL


def kept_time(asked: int) -> int:
    """Give what is kept of a time in nanoseconds: from 1677 to 2262, the nearest of these, as file systems do it.

    Neither the journal nor a space has room for all that a program may ask for.
    """
    return min(max(asked, _EARLIEST), _LATEST)
