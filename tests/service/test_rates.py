"""Who asks too often waits, and nobody else does (T16, T27, I34, I35)."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.config.settings import LogSettings, RateSettings
from pyvospace.model.faults import ServiceBusy
from pyvospace.service.faults import edge
from pyvospace.service.logs import AccessLog
from pyvospace.service.rates import CLIENTS, Rates, limiting


class Clock:
    """Time that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def rates(clock: Clock, **settings: float) -> Rates:
    return Rates(RateSettings.model_validate(settings), clock=clock)


def test_a_burst_is_free_and_the_rest_waits_its_turn() -> None:
    clock = Clock()
    tested = rates(clock, requests=10, burst=3)
    delays = [tested.delay("greedy", reading=True) for _ in range(6)]
    assert delays == pytest.approx([0, 0, 0, 0, 0.1, 0.2])
    assert tested.delay("other", reading=True) == 0
    clock.now += 10
    assert tested.delay("greedy", reading=True) == 0


def test_only_who_reads_is_refused_and_a_refusal_costs_nothing() -> None:
    tested = rates(Clock(), requests=1, burst=1, longest_delay=2)
    assert [tested.delay("x", reading=True) for _ in range(4)] == pytest.approx([0, 0, 1, 2])
    for _ in range(3):
        with pytest.raises(ServiceBusy) as caught:
            tested.delay("x", reading=True)
        assert caught.value.retry_after == 3
    assert tested.delay("x", reading=False) == pytest.approx(3)
    assert tested.delay("x", reading=False) == pytest.approx(4)


def test_nobody_waits_if_it_is_turned_off() -> None:
    tested = rates(Clock(), requests=0)
    assert {tested.delay("x", reading=True) for _ in range(100_000)} == {0.0}
    assert len(tested) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), max_size=100))
def test_no_client_gets_more_than_his_rate(steps: list[tuple[float, int]]) -> None:
    """Whatever others do: what begins within any second is the burst and the rate at the most."""
    clock = Clock()
    tested = rates(clock, requests=5, burst=2)
    begun: dict[int, list[float]] = {}
    for pause, client in steps:
        clock.now += pause
        begun.setdefault(client, []).append(clock.now + tested.delay(str(client), reading=False))
    for times in begun.values():
        assert times == sorted(times)
        for first in times:
            assert sum(first <= one < first + 1 for one in times) <= 2 + 5 + 2


def test_strangers_fill_no_memory_and_wash_no_debt_away() -> None:
    clock = Clock()
    tested = rates(clock, requests=10, burst=1)
    for _ in range(50):
        tested.delay("greedy", reading=False)
    for number in range(3 * CLIENTS):
        tested.delay(str(number), reading=True)
        assert len(tested) <= CLIENTS + 1
    assert tested.delay("greedy", reading=False) > 4


async def test_answers_of_a_server() -> None:
    """A read that would wait for too long is told so; a write waits and is done; who looks after the server passes."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="done")

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="alive")

    limited = Rates(RateSettings(requests=20, burst=1, longest_delay=0.01))
    app = web.Application(middlewares=[edge(AccessLog(LogSettings(level="error"))), limiting(limited, free={live})])
    app.router.add_route("*", "/", answer)
    app.router.add_get("/livez", live)
    async with TestClient(TestServer(app)) as client:
        statuses = []
        for method in ("GET", "PUT", "PUT", "GET", "PUT", "POST", "DELETE"):
            async with client.request(method, "/") as response:
                statuses.append((method, response.status))
                if response.status == 503:
                    assert response.headers["Retry-After"] == "1"
        assert {status for method, status in statuses if method != "GET"} == {200}
        assert next(status for method, status in statuses if method == "GET") == 200
        assert 429 not in dict(statuses).values()
        async with client.get("/livez") as response:
            assert response.status == 200
