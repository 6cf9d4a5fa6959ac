"""moto's server: S3 in memory, quick, and lenient: it believes every signature and every checksum."""

from __future__ import annotations

import sys

from tests.support.engines.keeper import Keeper, answers
from tests.support.engines.stores import Engine
from tests.support.pair import free_ports


def start(keeper: Keeper) -> Engine:
    """Start it."""
    (port,) = free_ports(1)
    keeper.start(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    keeper.wait(lambda: answers(f"http://127.0.0.1:{port}"))
    return Engine(f"http://127.0.0.1:{port}", "moto", "moto-secret", str(keeper.folder))
