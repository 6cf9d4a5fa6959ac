"""Groups: everybody gets his own result, in one go with others."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from pyvospace.model.together import Together

_who: ContextVar[str] = ContextVar("who", default="nobody")


class Work:
    """Doubles numbers, when it is let; odd things go wrong."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.let = asyncio.Event()
        self.let.set()
        self.whole: Exception | None = None

    async def __call__(self, group: Sequence[int]) -> Sequence[int | BaseException]:
        self.groups.append(list(group))
        assert _who.get() == "nobody"
        await self.let.wait()
        if self.whole is not None and len(group) > 1:
            raise self.whole
        return [2 * one if one >= 0 else ValueError(str(one)) for one in group]


async def test_those_of_one_turn_go_together_and_get_their_own() -> None:
    work = Work()
    together = Together(work)
    _who.set("somebody")
    assert await asyncio.gather(*map(together.do, range(10))) == [2 * one for one in range(10)]
    assert work.groups == [list(range(10))]


async def test_the_next_group_gathers_while_one_is_under_way() -> None:
    work = Work()
    work.let.clear()
    together = Together(work, groups=1)
    first = asyncio.create_task(together.do(0))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(together.do(one)) for one in range(1, 6)]
    await asyncio.sleep(0.05)
    assert work.groups == [[0]]
    work.let.set()
    assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]
    assert work.groups == [[0], [1, 2, 3, 4, 5]]


async def test_a_group_that_takes_long_does_not_hold_up_the_next() -> None:
    work = Work()
    work.let.clear()
    together = Together(work, groups=2)
    waiting = []
    for one in range(3):
        waiting.append(asyncio.create_task(together.do(one)))
        await asyncio.sleep(0.05)
    assert work.groups == [[0], [1]]
    work.let.set()
    await asyncio.gather(*waiting)
    assert work.groups == [[0], [1], [2]]


async def test_groups_that_are_stuck_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.model.together.STUCK", 0.05)
    stuck = asyncio.Event()

    async def work(group: Sequence[int]) -> Sequence[int]:
        if group[0] < 0:
            await stuck.wait()
        return group

    together = Together(work, size=1, groups=2)
    waiting = [asyncio.create_task(together.do(-one)) for one in range(1, 6)]
    await asyncio.sleep(0)
    other = asyncio.create_task(together.do(7))
    await asyncio.wait([other], timeout=10)
    passed = other.done()
    stuck.set()
    assert passed
    assert await asyncio.gather(*waiting) == [-1, -2, -3, -4, -5]


async def test_too_few_answers_are_a_failure_of_all() -> None:
    async def work(group: Sequence[int]) -> Sequence[int]:
        return group[1:]

    found = await asyncio.gather(*map(Together(work).do, (1, 2)), return_exceptions=True)
    assert [type(one) for one in found] == [RuntimeError] * 2


async def test_no_group_is_larger_than_agreed() -> None:
    work = Work()
    together = Together(work, size=4)
    await asyncio.gather(*map(together.do, range(10)))
    assert [len(one) for one in work.groups] == [4, 4, 2]


async def test_what_goes_wrong_for_one_goes_wrong_for_him_alone() -> None:
    together = Together(Work())
    found = await asyncio.gather(*map(together.do, (1, -1, 2)), return_exceptions=True)
    assert found[0] == 2
    assert isinstance(found[1], ValueError)
    assert found[2] == 4


async def test_a_group_that_fails_is_done_one_by_one() -> None:
    work = Work()
    work.whole = OSError("too many at once")
    assert await asyncio.gather(*map(Together(work, alone=(OSError,)).do, [1, 2])) == [2, 4]
    assert work.groups == [[1, 2], [1], [2]]


async def test_without_that_all_hear_of_it() -> None:
    work = Work()
    work.whole = OSError("too many at once")
    found = await asyncio.gather(*map(Together(work, alone=(KeyError,)).do, (1, 2)), return_exceptions=True)
    assert found == [work.whole, work.whole]


async def test_who_is_cancelled_before_it_begins_takes_no_part() -> None:
    work = Work()
    work.let.clear()
    together = Together(work, groups=1)
    first = asyncio.create_task(together.do(0))
    await asyncio.sleep(0.01)
    gone, stays = asyncio.create_task(together.do(1)), asyncio.create_task(together.do(2))
    await asyncio.sleep(0.01)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    work.let.set()
    assert (await first, await stays) == (0, 4)
    assert work.groups == [[0], [2]]


@pytest.mark.parametrize("number", [1, -1])
async def test_who_is_cancelled_meanwhile_waits_for_the_end(number: int) -> None:
    work = Work()
    work.let.clear()
    together = Together(work)
    task = asyncio.create_task(together.do(number))
    await asyncio.sleep(0.01)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
    work.let.set()
    with pytest.raises(asyncio.CancelledError):
        await task
