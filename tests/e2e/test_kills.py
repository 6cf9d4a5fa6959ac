"""Kills at random moments: what was acknowledged stays, nothing is half, leftovers are swept (I1 to I4, I23, I36)."""

from __future__ import annotations

import os
import random

from tests.e2e.kills import run

VARIABLE = "PYVOSPACE_KILL_MINUTES"
"""Makes the campaign of the test run as long as this; `python -m tests.e2e.kills` does the same by itself."""
_SECONDS = 15.0


def test_nothing_is_lost() -> None:
    minutes = os.environ.get(VARIABLE)
    seed = random.randrange(1 << 16)
    print("seed", seed)  # noqa: T201 - shown if the test fails
    tally = run(60 * float(minutes) if minutes else _SECONDS, seed)
    print(tally)  # noqa: T201
    assert tally.kills.total() >= 3
    assert tally.answers["PUT 201"] >= 10
