"""Bytes that are fetched into files."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import aiofiles

from pyvospace.client.download import fetch
from pyvospace.client.failures import ContentChanged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyvospace.client.download import Reading

log = logging.getLogger(__name__)

_VERSIONS: Final = 3
"""How often a pull begins anew because the bytes became others."""


async def bring(begin: Callable[[], Reading], target: Path | BinaryIO) -> None:
    """Bring bytes to an open file or to a path; `begin` begins to read them, as often as it takes."""
    if not isinstance(target, Path):
        await _write_to(lambda piece: asyncio.to_thread(target.write, piece), begin())
    elif await asyncio.to_thread(_is_special, target):
        async with aiofiles.open(target, "wb", buffering=0) as file:
            await _write_to(file.write, begin())
    else:
        await bring_file(begin, await asyncio.to_thread(target.resolve))


async def _write_to(write: Callable[[bytes], Awaitable[object]], reading: Reading) -> None:
    async with aclosing(reading.pieces()) as bytes_of:
        async for piece in bytes_of:
            await write(piece)


async def bring_file(begin: Callable[[], Reading], target: Path) -> None:
    """Bring bytes to a path, in place of what stands there, a symbolic link too."""
    for left in reversed(range(_VERSIONS)):
        try:
            await fetch(begin(), target)
        except ContentChanged as fault:
            if not left:
                raise
            log.info("%s; beginning anew", fault)
        else:
            return


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode)
