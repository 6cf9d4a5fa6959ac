"""Run campaigns: python -m tests.campaign --minutes 10."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from pathlib import Path

from tests.campaign.faults import FAULTS, named
from tests.campaign.running import Plan, run

_LONGEST = 180.0


def main() -> None:
    """Run campaigns, each on an installation of its own, until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--faults", type=named, default=FAULTS, metavar="NAME,...", help="names, or how they begin")
    parser.add_argument("--seed", type=int, default=None, help="of the first; the others follow it")
    parser.add_argument("--each", type=float, default=_LONGEST, help="seconds of one")
    parser.add_argument("--keep", type=Path, default=None, help="an empty directory for one campaign; it stays")
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the double of the store, which is cut off often
    end = time.monotonic() + 60 * options.minutes
    seed = options.seed if options.seed is not None else random.randrange(1 << 16)
    while (left := end - time.monotonic()) > 0:
        sys.stdout.write(f"seed {seed}\n")
        sys.stdout.flush()
        plan = Plan(min(left, options.each), seed, options.faults)
        sys.stdout.write(f"{run(plan, options.keep)}\n")
        sys.stdout.flush()
        seed += 1
        if options.keep:
            break


if __name__ == "__main__":
    main()
