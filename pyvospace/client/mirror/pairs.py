"""Two listings as one: what stands under each name on either side."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from pyvospace.client.mirror.items import Item

Pair = tuple[Item | None, Item | None]


async def paired(here: AsyncGenerator[Item], there: AsyncGenerator[Item] | None) -> AsyncGenerator[Pair]:
    """Merge two listings that are ordered by name; None: a folder that is not there."""
    async with aclosing(here), aclosing(there or nothing()) as others:
        other = await anext(others, None)
        async for item in here:
            while other is not None and other.key < item.key:
                yield None, other
                other = await anext(others, None)
            if other is not None and other.key == item.key:
                yield item, other
                other = await anext(others, None)
            else:
                yield item, None
        while other is not None:
            yield None, other
            other = await anext(others, None)


async def nothing() -> AsyncGenerator[Item]:
    """List nothing."""
    none: tuple[Item, ...] = ()
    for item in none:
        yield item
