from __future__ import annotations

import asyncio

import pytest

from pyvospace.client import Retry, ServiceUnreachable
from pyvospace.client.retry import Attempts, may_pass, retry_after
from pyvospace.model.faults import DuplicateNode, Fault, NodeNotFound, RequestTimeout, ServiceBusy
from pyvospace.model.nodes import Node
from pyvospace.model.vocabulary import NodeType
from tests.client.double import QUICK, ROOT, Double, answers, hangs_up


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client meant to wait; it does not."""
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


def test_delays_grow_and_end() -> None:
    retry = Retry(first=1, longest=8)
    for failures, grown in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        delays = [retry.delay(failures) for _ in range(100)]
        assert grown / 2 <= min(delays) < max(delays) <= grown


def test_the_service_may_order_a_longer_delay() -> None:
    assert 7 <= Retry(first=1).delay(1, ordered=7) <= 8


async def test_nobody_waits_for_the_end_of_maintenance(double: Double, waited: list[float]) -> None:
    double.service.plan = [answers(503, "ServiceBusy disks are being moved", Retry_After="180")]
    async with double.space() as space:
        with pytest.raises(ServiceBusy, match="disks"):
            await space.authority()
    assert not waited


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("7", 7), (" 7 ", 7), ("", 0), ("-1", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("٣", 0)],
)
def test_retry_after(header: str | None, seconds: int) -> None:
    assert retry_after(header) == seconds


@pytest.mark.parametrize(
    ("fault", "repeatable", "may"),
    [
        (ServiceBusy(), True, True),
        (ServiceBusy(), False, True),
        (RequestTimeout(), True, True),
        (RequestTimeout(), False, False),
        (ServiceUnreachable(), True, True),
        (ServiceUnreachable(), False, False),
        (ServiceUnreachable(sent=False), False, True),
        (ServiceUnreachable(permanent=True), True, False),
        (NodeNotFound(), True, False),
        (Fault(), True, False),
    ],
)
def test_what_may_pass(fault: Fault, repeatable: bool, may: bool) -> None:
    assert may_pass(fault, repeatable=repeatable) is may


async def test_tries_are_counted_anew_after_progress(waited: list[float]) -> None:
    attempts = Attempts(Retry(attempts=2))
    for _ in range(5):
        await attempts.wait_after(ServiceBusy())
        attempts.progressed()
    await attempts.wait_after(ServiceBusy())
    with pytest.raises(ServiceBusy):
        await attempts.wait_after(ServiceBusy())
    assert len(waited) == 6


@pytest.mark.parametrize("status", [408, 502, 503, 504])
async def test_a_request_is_repeated_until_the_service_is_back(double: Double, status: int) -> None:
    double.service.plan = [answers(status), answers(status)]
    async with double.space() as space:
        assert await space.authority() == ROOT.authority
    assert [one.path for one in double.service.seen] == ["/capabilities"] * 3 + ["/nodes"]


async def test_retry_after_is_obeyed(double: Double, waited: list[float]) -> None:
    double.service.plan = [answers(503, "ServiceBusy try later", Retry_After="17")]
    async with double.space() as space:
        await space.authority()
    assert len(waited) == 1
    assert waited[0] >= 17


async def test_tries_are_bounded(double: Double) -> None:
    double.service.plan = [answers(503, "ServiceBusy no connection")] * 20
    async with double.space() as space:
        with pytest.raises(ServiceBusy, match="no connection"):
            await space.authority()
    assert len(double.service.seen) == QUICK.attempts


async def test_a_refusal_is_final(double: Double) -> None:
    async with double.space() as space:
        with pytest.raises(NodeNotFound, match="nope"):
            await space.get_node("vos:nope")
    assert [one.path for one in double.service.seen].count("/nodes/nope") == 1


async def test_a_creation_is_not_repeated_if_it_may_have_happened(double: Double) -> None:
    async with double.space() as space:
        await space.authority()
        double.service.plan = [hangs_up]
        with pytest.raises(ServiceUnreachable):
            await space.create_node(Node(ROOT.child("x"), NodeType.CONTAINER))
    assert len(double.service.of("PUT")) == 1


async def test_a_creation_is_repeated_if_the_service_was_busy(double: Double) -> None:
    async with double.space() as space:
        await space.authority()
        double.service.plan = [answers(503)]
        await space.create_node(Node(ROOT.child("x"), NodeType.CONTAINER))
    assert len(double.service.of("PUT")) == 2


async def test_a_container_that_was_made_though_the_answer_was_lost_is_fine(double: Double) -> None:
    double.nodes["x"] = Node(ROOT.child("x"), NodeType.CONTAINER)
    async with double.space() as space:
        await space.authority()
        double.service.plan = [hangs_up, answers(409, "DuplicateNode x")]
        await space.ensure_container("vos:x")
    assert len(double.service.of("PUT")) == 2


async def test_something_else_in_the_place_of_a_container_is_not_fine(double: Double) -> None:
    double.nodes["x"] = Node(ROOT.child("x"), NodeType.DATA)
    async with double.space() as space:
        await space.authority()
        double.service.plan = [answers(409, "DuplicateNode x")]
        with pytest.raises(DuplicateNode, match="no container"):
            await space.ensure_container("vos:x")


async def test_a_deletion_whose_answer_was_lost_has_happened(double: Double) -> None:
    double.nodes["x"] = Node(ROOT.child("x"), NodeType.DATA)

    async def delete_and_hang_up(request: object) -> object:
        del double.nodes["x"]
        return await hangs_up(request)  # type: ignore[arg-type]

    async with double.space() as space:
        await space.authority()
        double.service.plan = [delete_and_hang_up]  # type: ignore[list-item]
        await space.delete_node("vos:x")
        with pytest.raises(NodeNotFound):
            await space.delete_node("vos:x")
    assert len(double.service.of("DELETE")) == 3


async def test_nobody_there(double: Double) -> None:
    space = double.space()
    await double.stop()
    async with space:
        with pytest.raises(ServiceUnreachable) as failure:
            await space.authority()
    assert not failure.value.sent
    assert failure.value.exit_code == 8
