"""Questions and calls that come at the same time: one statement, in one transaction.

To begin a statement of many joins, and to send what it says to Python, costs several times what it costs to find one
row. See decision 48.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from pyvospace.db.errors import Unavailable
from pyvospace.db.holding import forbid_second
from pyvospace.model.faults import Fault
from pyvospace.model.together import Together

if TYPE_CHECKING:
    Arguments = tuple[Any, ...]

_SEVERAL: Final = 32


def as_arrays(asked: Sequence[Sequence[object]]) -> Sequence[object]:
    """Make an array of each argument, in the order of those who ask."""
    return [list(values) for values in zip(*asked, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What can be asked by one or by several, and gives each of them a row."""

    one: str
    """The statement for one."""
    several: str
    """The statement for some: as many rows in the same order, or none if there is none for anybody."""
    arrays: Callable[[Sequence[Arguments]], Sequence[object]] = as_arrays
    """Makes the arguments of the second from those that each of them has for the first."""


class _PartedError(Exception):
    """The database did not answer several: it may be because of one of them."""


def _may_be_of_one(fault: Fault) -> bool:
    """Tell what was refused from what nobody could have been told."""
    return isinstance(fault.__cause__, asyncpg.PostgresError) and not isinstance(fault, Unavailable)


class Gathering:
    """Asks what several want to know, or to have done.

    A statement begins after each of its askers has come, so that it sees what he has seen. What is refused to some,
    because of one of them, was done for nobody: each is then asked for alone, and hears of his own fault only.

    Parameters
    ----------
    fetch
        Runs a statement with its arguments by itself and gives its rows.
    """

    def __init__(self, fetch: Callable[..., Awaitable[list[asyncpg.Record]]]) -> None:
        self._fetch = fetch
        self._together: dict[Question, Together[Arguments, asyncpg.Record | None]] = {}

    async def ask(self, question: Question, *arguments: object) -> asyncpg.Record | None:
        """Give the row that the statement for one gives; no share of a client is taken for it."""
        forbid_second()
        together = self._together.get(question)
        if together is None:
            together = self._together[question] = self._for(question)
        return await together.do(arguments)

    def _for(self, question: Question) -> Together[Arguments, asyncpg.Record | None]:
        async def answer(asked: Sequence[Arguments]) -> Sequence[asyncpg.Record | None]:
            if len(asked) == 1:
                return await self._fetch(question.one, *asked[0]) or [None]
            try:
                rows = await self._fetch(question.several, *question.arrays(asked))
            except Fault as fault:
                if _may_be_of_one(fault):
                    raise _PartedError from fault
                raise
            return rows or [None] * len(asked)

        return Together(answer, size=_SEVERAL, alone=(_PartedError,))
