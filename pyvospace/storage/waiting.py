"""How coroutines wait for threads; for backends with pools of their own too (else `backend.in_thread` will do)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run(pool: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread and wait for it, whatever happens.

    A cancelled call that runs already is waited for before CancelledError goes on, so that the
    caller may close files that the thread uses.
    """
    return await outlast(pool.submit(function, *args, **kwargs))


async def outlast(future: Future[T]) -> T:
    """Wait for a call in a thread as `run` does."""
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except asyncio.CancelledError:
        await ended(future)
        raise


async def ended(future: Future[T]) -> None:
    """Take the call back, or if it runs already see it end, however often we are cancelled meanwhile.

    Its result does not matter any more; who cancelled us will do so again.
    """
    if future.done() or future.cancel():
        return
    waiting = asyncio.wrap_future(future)
    while not waiting.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waiting])
    waiting.exception()
