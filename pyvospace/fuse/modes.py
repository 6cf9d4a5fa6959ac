"""Permissions as the mount shows them: what the caller may do in the space, and what ``chmod`` has set.

Bits of the owner say what the user of the mount may do: the service has decided it. Bits of group and others say
whether everybody may read the node in the space. Execution bits of files, and a write bit that was taken away, are kept
in the property ``ivo://pyvospace#mode``; no ``chmod`` changes who may do what.
"""

from __future__ import annotations

import stat
from typing import Final

_EXECUTE: Final = 0o111
_OTHERS: Final = 0o055
_USUAL: Final = 0o644


def shown_mode(kind: int, *, readable: bool, writable: bool, public: bool, kept: int | None) -> int:
    """Give the mode of a node, kind included.

    Parameters
    ----------
    kind
        S_IFREG, S_IFDIR or S_IFLNK.
    kept
        What ``chmod`` has set; None: nothing.
    """
    if kind == stat.S_IFLNK:
        return kind | 0o777
    mode = 0o400 if readable else 0
    if writable and (kept is None or kept & 0o200):
        mode |= 0o200
    if kind == stat.S_IFDIR:
        mode |= 0o100
    elif kept is not None:
        mode |= kept & 0o100
    if public:
        mode |= (mode >> 3 | mode >> 6) & _OTHERS
    return kind | mode


def kept_mode(asked: int, kept: int | None) -> int | None:
    """Give what to keep of a mode that a program asks for; None: nothing, it is as files usually are."""
    bits = asked & 0o777
    usual = bits & 0o200 and not bits & _EXECUTE
    return None if usual and kept is None else (bits if not usual else _USUAL)
