"""Transfers that are under way, so that a server that stops can see them end."""

import asyncio
from typing import Self


class Ongoing:
    """Counts the tasks that have entered it. aiohttp cancels handlers at the end, but does not wait for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def __enter__(self) -> Self:
        """Count the current task."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        return self

    def __exit__(self, *_: object) -> None:
        """Count it no more."""
        self._tasks.discard(asyncio.current_task())

    def __len__(self) -> int:
        """Tell how many there are."""
        return len(self._tasks)

    async def end(self) -> None:
        """Cancel what is not cancelled yet, and wait until all have cleaned up behind themselves."""
        tasks = set(self._tasks)
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)
