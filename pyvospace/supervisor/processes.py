"""Programs that are started, watched, started again when they fall, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from pyvospace.supervisor.accounts import Account, launch
from pyvospace.supervisor.errors import SupervisorError

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
"""Seconds before a program that fell is started again; doubled each time."""
LONGEST_PAUSE = 30.0
ANNOUNCED = 2.0
"""Seconds of stopping after which it is said why it takes so long."""
SETTLED = 60.0
"""Seconds after which a program counts as healthy and its pauses begin anew."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run and how to end it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    account: Account | None = None
    on_orphaned: signal.Signals = signal.SIGKILL
    """Sent by the kernel when this process dies: nothing is to hold ports and files then."""
    stop_with: signal.Signals = signal.SIGTERM
    patience: float | None = 90.0
    """Seconds to end in before it is killed; None: never killed."""
    log: Path | None = None
    """File for what it prints; None: it shares ours."""
    prepare: Callable[[], Awaitable[None]] | None = None
    """Awaited before each start."""


class Supervised:
    """A program that runs until it is stopped."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.falls = 0
        """How often it ended by itself."""
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._started = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Wait until its process is there; whether it can do its work yet is not known."""
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait({started, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            started.cancel()
            await self._task

    async def stop(self) -> None:
        """End it, by force when its patience is over or somebody hurries, and wait for the end."""
        self._stopping.set()
        self._signal(self.program.stop_with)
        hurried = asyncio.create_task(self._hurried.wait())
        waits: set[asyncio.Task[bool] | asyncio.Task[None]] = {hurried, self._task}
        notice = asyncio.get_running_loop().call_later(ANNOUNCED, self._ask_for_patience)
        await asyncio.wait(waits, timeout=self.program.patience, return_when=asyncio.FIRST_COMPLETED)
        notice.cancel()
        hurried.cancel()
        if not self._task.done():
            log.warning("%s does not end, it is killed", self.program.name)
            self._signal(signal.SIGKILL)
        with contextlib.suppress(SupervisorError, OSError):  # said when it happened
            await self._task

    def _ask_for_patience(self) -> None:
        if self.program.patience is not None:
            log.info("%s lets transfers end, for at most %g s; Ctrl-C again ends it now",
                     self.program.name, self.program.patience)  # fmt: skip

    def hurry(self) -> None:
        """Have no more patience while stopping; not with what is never killed."""
        if self.program.patience is not None:
            self._hurried.set()

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            end = await self._run_once()
            if self._stopping.is_set():
                return
            self.falls += 1
            if time.monotonic() - begun > SETTLED:
                pause = FIRST_PAUSE
            log.error("%s ended (%s), it is started again in %g s", self.program.name, end, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_once(self) -> str:
        try:
            if self.program.prepare:
                await self.program.prepare()
            self._process = await self._spawn()
        except (SupervisorError, OSError) as error:
            if not self._started.is_set():
                raise
            return str(error)
        self._started.set()
        if self._stopping.is_set():  # asked for while it was being started
            self._signal(self.program.stop_with)
        code = await self._process.wait()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    async def _spawn(self) -> asyncio.subprocess.Process:
        program = self.program
        command = launch(list(program.command), account=program.account, on_orphaned=program.on_orphaned)
        with _opened(program.log) as output:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(program.environment),
                start_new_session=True,  # Ctrl-C in the terminal is for us alone: we stop all in order
            )

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class Processes:
    """Programs that are stopped together."""

    def __init__(self) -> None:
        self._running: list[Supervised] = []

    async def __aenter__(self) -> Self:
        """Begin with none."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all at once and wait for the last."""
        await asyncio.gather(*(supervised.stop() for supervised in self._running))

    async def start(self, program: Program) -> Supervised:
        """Start a program and watch it from now on."""
        supervised = Supervised(program)
        self._running.append(supervised)
        await supervised.start()
        return supervised

    def hurry(self) -> None:
        """Have no more patience while stopping."""
        for supervised in self._running:
            supervised.hurry()


async def until_signalled(body: Coroutine[None, None, None], processes: Processes) -> None:
    """Run something until it ends, or SIGINT, SIGTERM or SIGHUP cancels it; the second signal hurries the processes."""
    task = asyncio.create_task(body)
    signalled = False

    def handle() -> None:
        nonlocal signalled
        if signalled:
            processes.hurry()
        else:
            task.cancel()
        signalled = True

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def reap_adopted(pause: float = 2.0) -> None:
    """Bury dead processes that are not our own, until cancelled: the duty of process 1 of a container.

    Our own are taken by asyncio at once, so a zombie that is still there at the next look is an adopted one.
    """
    seen: set[int] = set()
    while True:
        await asyncio.sleep(pause)
        children = psutil.Process().children()
        zombies = {child.pid for child in children if _status(child) == psutil.STATUS_ZOMBIE}
        for pid in seen & zombies:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 (does not wait)
        seen = zombies


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return ""


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[int | None]:
    if path is None:
        yield None
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
