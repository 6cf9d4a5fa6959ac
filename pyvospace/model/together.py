"""Group commit, of whatever it may be: what several ask for at about the same time is done in one go."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Final, Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

PATIENCE: Final = 0.02
"""Seconds after which a group that is not done does not hold up the next one."""
STUCK: Final = 0.5
"""Seconds after which a group does not count any more among those that are under way."""


class Together(Generic[T, R]):
    """Does in one go what several ask for: while one group is under way the next one gathers.

    Who comes when nothing is under way waits for nobody but those of the same turn of the loop. A group that takes
    long, because of a slow disk or a lock, holds up nobody for longer than a moment: nor can several, each with one who
    waits for what somebody keeps locked.

    Parameters
    ----------
    work
        Does it for some, in their order; what it gives for each of them, or an exception, is what the one gets. It
        runs in a context of its own, on behalf of nobody.
    size
        Most in one group.
    groups
        Most groups under way, besides those that are stuck.
    alone
        If `work` raises one of these for a group, nothing was done: it is called again for each by himself.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R | BaseException]]],
        *,
        size: int = 64,
        groups: int = 4,
        alone: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._size = size
        self._groups = groups
        self._alone = alone
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._stuck: set[asyncio.Task[None]] = set()
        self._next: asyncio.Handle | None = None
        """What will begin the next group, if that is not the end of another one."""

    async def do(self, one: T) -> R:
        """Have it done, and give what came out.

        Who is cancelled when it has begun hears of it at its end: nothing that it uses is in use any more then.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, future))
        self._plan()
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove((one, future))
                raise
            await _outlast(future)
            raise

    def _plan(self) -> None:
        """See that what waits begins some time."""
        if self._next is not None or not self._waiting or len(self._under_way) >= self._groups:
            return
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(PATIENCE, self._begin) if self._under_way else loop.call_soon(self._begin)

    def _begin(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._waiting and len(self._under_way) < self._groups:
            group = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
            task = asyncio.get_running_loop().create_task(self._carry_out(group), context=Context())
            self._under_way.add(task)
            alarm = asyncio.get_running_loop().call_later(STUCK, self._pass_over, task)
            task.add_done_callback(partial(self._ended, alarm))
        self._plan()

    def _pass_over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._stuck.add(task)
        self._begin()

    def _ended(self, alarm: asyncio.Handle, task: asyncio.Task[None]) -> None:
        alarm.cancel()
        self._under_way.discard(task)
        self._stuck.discard(task)
        self._begin()

    async def _carry_out(self, group: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            found = _require(await self._work([one for one, _ in group]), len(group))
        except BaseException as error:  # noqa: BLE001 (whatever it is, those who wait are to hear of it)
            if len(group) > 1 and isinstance(error, self._alone):
                log.debug("a group of %d is done one by one: %s", len(group), error)
                await asyncio.gather(*(self._carry_out([one]) for one in group))
                return
            found = [error] * len(group)
        for (_, future), result in zip(group, found, strict=True):
            _settle(future, result)


def _require(found: Sequence[R | BaseException], number: int) -> Sequence[R | BaseException]:
    if len(found) != number:  # some would wait for ever, or get what is not theirs
        raise RuntimeError(f"{len(found)} answers for a group of {number}")
    return found


def _settle(future: asyncio.Future[R], result: R | BaseException) -> None:
    if isinstance(result, asyncio.CancelledError):
        future.cancel()
    elif isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


async def _outlast(future: asyncio.Future[R]) -> None:
    """Wait for the end, however often we are cancelled meanwhile."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
