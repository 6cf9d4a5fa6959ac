"""The soak and its judgement: what is a fault's own, what grows, and a short run with two faults."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from benchmarks.measures import Setting
from benchmarks.soak import Done, Late, Load
from benchmarks.soak_clients import Client, Content, Doubt, FailedError, Known
from benchmarks.soak_faults import FAULTS, LARGE, SMALL, Struck, excuse, named
from benchmarks.soak_report import classes, held
from benchmarks.soak_watch import growth

if TYPE_CHECKING:
    from benchmarks.systems import Space

ROOT = Path(__file__).parents[2]
REFUSED = FailedError("storage", "507", "no room")
KILLED = Struck("kill-metadata", 10.0, 12.0, 5.0)
FULL = Struck("full", 10.0, 12.0, 5.0)


def test_short_soak_keeps_its_promises(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.soak", "--minutes", "0.12", "--peak-seconds", "1"),
            *("--clients", "8", "--rate", "30", "--faults", "kill-metadata,full"),
            *("--folder", str(tmp_path), "--json", str(report)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    found = json.loads(report.read_text())
    assert (found["raw"]["wrong"], found["raw"]["unexplained"]) == ([], [])
    assert found["raw"]["done"] > 100
    assert found["tables"][0]["rows"][0][0] == "kill -9 of a metadata worker"
    assert {one["name"] for one in found["plots"]} >= {"soak-latency", "soak-memory"}


@pytest.mark.parametrize(
    ("place", "begun", "ended", "failure", "fault"),
    [
        (SMALL, 11.0, 11.5, REFUSED, "full"),
        (SMALL, 9.0, 10.5, REFUSED, "full"),
        (SMALL, 16.0, 16.5, REFUSED, "full"),
        (SMALL, 17.5, 18.0, REFUSED, ""),
        (SMALL, 9.0, 9.5, REFUSED, ""),
        (LARGE, 11.0, 11.5, REFUSED, ""),
        (LARGE, 11.0, 11.5, FailedError("metadata", "connection", "reset"), "kill-metadata"),
        (LARGE, 11.0, 11.5, FailedError("storage", "connection", "reset"), ""),
        (SMALL, 11.0, 11.5, FailedError("storage", "404", "gone"), ""),
    ],
)
def test_failure_is_that_of_a_fault_that_can_cause_it(
    place: str, begun: float, ended: float, failure: FailedError, fault: str
) -> None:
    assert excuse([KILLED, FULL], place, begun, ended, failure) == fault


def test_faults_by_name() -> None:
    assert named("all") == FAULTS
    assert [one.name for one in named("full,stall")] == ["full", "stall"]
    assert named("") == ()
    with pytest.raises(ValueError, match="earthquake"):
        named("full,earthquake")


def test_growth_leaves_out_how_everything_warms_up() -> None:
    flat = growth(range(8), [1, 5, 10, 10, 10, 10, 10, 10])
    assert (flat.early, flat.late, flat.ratio) == (10, 10, 1.0)
    grown = growth(range(8), [1, 1, 10, 10, 15, 15, 20, 20])
    assert grown.ratio == 2.0
    assert grown.hourly > 0


def test_what_a_client_may_not_be_told() -> None:
    assert FailedError("storage", "507", "").refused
    assert FailedError("metadata", "409", "").refused
    assert not FailedError("storage", "503", "").refused
    assert not FailedError("storage", "connection", "").refused


async def test_name_in_doubt_is_read_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else faults would leave more and more bytes, until the small disk is full of them."""
    space = cast("Space", SimpleNamespace(token="", port=0))
    setting = Setting(space=space, bare=0, nginx=None, folder=Path(), seconds=0, rounds=0, concurrency=0, large=0)
    client = Client(setting, "/top", SMALL, 1)
    before, after = Known(Content.new(random.Random(1)), unread=True), Known(Content.new(random.Random(2)))
    client.doubtful = {"kept": Doubt(before, after, 0.0), "young": Doubt(before, None, float("inf"))}
    client.acknowledged = 2
    assert {client.choose() for _ in range(200)} > {"resolve"}
    asked: list[bytes] = []

    async def read(_: Client, name: str) -> bytes | None:
        return before.content.whole() if before.content else None

    async def meta(_: Client, message: bytes, *__: int) -> None:
        asked.append(message)

    monkeypatch.setattr(Client, "_read", read)
    monkeypatch.setattr(Client, "_meta", meta)
    await client.resolve()
    assert [message.split()[:2] for message in asked] == [[b"DELETE", b"/nodes/top/client-1/kept"]]
    assert (list(client.doubtful), list(client.known), client.read_back) == (["young"], [], 1)
    assert client.unread_in_doubt() == 1


def test_failures_that_nothing_explains_are_counted_by_what_they_were() -> None:
    job = FailedError("metadata", "ERROR", "<uws:message>Service Busy: others</uws:message>")
    done = [Done("push", SMALL, at, at + 1, REFUSED) for at in (30.0, 20.0)] + [Done("move", LARGE, 5.0, 6.0, job)]
    assert classes([(one, "") for one in done] + [(done[0], "full")])["rows"] == [
        ["507", "no", "storage", SMALL, 2, 20.0, 30.0, "push", "no room"],
        [
            "ERROR",
            "Service Busy",
            "metadata",
            LARGE,
            1,
            5.0,
            5.0,
            "move",
            "<uws:message>Service Busy: others</uws:message>",
        ],
    ]


def test_report_says_whether_the_rate_was_held() -> None:
    load = Load({}, struck=[FULL], unsent=[Late(SMALL, 11.0, 22.0)])
    assert "held this rate" in held(load)
    load.unsent.append(Late(SMALL, 30.0, 40.0))
    assert "MORE THAN THE SERVERS HELD: outside of faults 1 operations of 2" in held(load)
