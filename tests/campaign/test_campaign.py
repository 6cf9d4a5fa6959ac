"""A short campaign; `python -m tests.campaign` runs as long as you like (docs/howto/fault-campaign.md)."""

from __future__ import annotations

import os
import random

import pytest

from tests.campaign.faults import FAULTS
from tests.campaign.running import Plan, run
from tests.campaign.sandbox import Sandbox

VARIABLE = "PYVOSPACE_CAMPAIGN_SEED"
_SECONDS = 8.0


def test_nothing_is_lost_whatever_fails() -> None:
    """Bytes that were acknowledged stay, no others are served, nothing is left over (I1 to I4, I9, I33, I36)."""
    seed = int(os.environ.get(VARIABLE) or random.randrange(1 << 16))
    print("seed", seed)  # noqa: T201 - shown if the test fails
    report = run(Plan(_SECONDS, seed, pause=0.3, patient=False))
    print(report)  # noqa: T201
    assert sum(report.struck.values()) >= 2
    assert report.tally.done["upload"] >= 3
    assert report.tally.done["read"] >= 10


def test_disk_and_network_take_part() -> None:
    if reason := Sandbox.missing():
        left_out = [one.name for one in FAULTS if one.needs_sandbox]
        pytest.skip(f"left out: {', '.join(left_out)}: {reason}")
