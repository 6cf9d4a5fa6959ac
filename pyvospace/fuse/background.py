"""The process of a mount: in the foreground as it is, in the background as one of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import Fault

if TYPE_CHECKING:
    from pyvospace.fuse.mounting import Wanted


_GARBAGE: Final = 20_000
"""New objects after which the youngest are looked through for garbage."""


def run(wanted: Wanted, *, debug: bool, ready: Callable[[], None] = lambda: None) -> int:
    """Serve a mount in this process; gives how many files the space does not have at the end."""
    from pyvospace.fuse.mounting import serve  # noqa: PLC0415 (needs pyfuse3)

    _log_to(wanted.log, debug=debug)
    # Inodes live long and are many: to look through all of them again and again finds nothing.
    gc.freeze()
    gc.set_threshold(_GARBAGE, 20, 100)
    return asyncio.run(serve(wanted, ready))


def start(wanted: Wanted, *, debug: bool) -> None:
    """Serve a mount in a process of its own, and return once it answers.

    Raises
    ------
    Fault, OSError
        Why it cannot be mounted.
    """
    # What is wanted holds secrets, so it travels through a pipe and not in arguments, which anybody can read.
    process = subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=_log_of(wanted),
        start_new_session=True,
        cwd="/",
    )
    try:
        said = _told(process, pickle.dumps((wanted, debug)))
    except KeyboardInterrupt:
        process.terminate()
        raise
    process.returncode = 0  # it goes on, and nobody waits for it
    failure = pickle.loads(said) if said else OSError(f"the mount ended at once; {wanted.log} says why")  # noqa: S301 (our own child)
    if failure is not None:
        raise failure


def _told(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    """Give what the process says of its beginning; it closes its output then."""
    if process.stdin is None or process.stdout is None:
        return b""
    with process.stdin as channel:
        channel.write(wanted)
    with process.stdout as channel:
        return channel.read()


def _log_of(wanted: Wanted) -> int:
    file = Path(wanted.log or os.devnull)
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _log_to(file: str | None, *, debug: bool) -> None:
    if file is not None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        filename=file,
    )
    for chatty in ("asyncio", "pyfuse3", "aiohttp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if not debug:  # of each single try; the mount says once that it waits
        logging.getLogger("pyvospace.client.retry").setLevel(logging.ERROR)


def main() -> int:
    """Be the process of a mount: what is wanted comes on standard input, how it went goes to standard output."""
    wanted, debug = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 (from `start`)
    answer: Callable[[Exception | None], None] = _Answer()
    try:
        return min(run(wanted, debug=debug, ready=lambda: answer(None)), 1)
    except (Fault, OSError) as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 (its words are all that there is to say)
        answer(error)
        return 1


class _Answer:
    """Tells the process that waits how the mount began, once."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, failure: Exception | None) -> None:
        if not self._told:
            self._told = True
            sys.stdout.buffer.write(pickle.dumps(failure))
            sys.stdout.buffer.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
