"""Memory that all uploads of a process share."""

import asyncio
from collections import deque
from typing import Final

from pyvospace.model.faults import ServiceBusy

_PATIENCE: Final = 20.0
"""Seconds that an upload waits for memory before its client is told to come again."""


class Budget:
    """Bytes that may be held together; who waits longest is served first."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._size = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> int:
        """Wait for `size` bytes, or for all there are if there are not so many; tell how many it is.

        Raises
        ------
        ServiceBusy
            Others hold them.
        """
        wanted = min(size, self._size)
        if not self._waiting and self.try_take(wanted):
            return wanted
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, turn))
        try:
            async with asyncio.timeout(_PATIENCE):
                await turn
        except BaseException as error:
            self._withdraw(wanted, turn)
            if isinstance(error, TimeoutError):
                raise ServiceBusy("too many uploads at once") from None
            raise
        return wanted

    def try_take(self, size: int) -> bool:
        """Take `size` bytes if they are there."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        """Give back `size` bytes."""
        self._left += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._left -= size
                turn.set_result(None)

    def _withdraw(self, size: int, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():
            self.give(size)
        else:
            turn.cancel()
            self._waiting = deque(waiter for waiter in self._waiting if waiter[1] is not turn)
            self._serve()
