"""A space whose bytes come through a proxy that cuts, for uploads that are resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cutting import Cutting, cutting
from tests.support.pair import Pair


class CutPair(Pair):
    """Both servers; clients reach the storage server through `proxy` only."""

    proxy: Cutting


@contextmanager
def cut_pair(dsn: str, storage_dsn: str, data: Path) -> Iterator[CutPair]:
    """Run both servers and the proxy; two processes serve the bytes, in parts of 1 MiB."""
    pair = CutPair(dsn, data, storage_dsn=storage_dsn, workers=2)
    with cutting(pair.storage_port) as proxy:
        pair.proxy = proxy
        pair.environment = {
            "PYVOSPACE_STORAGE__PUBLIC_URL": proxy.url,
            "PYVOSPACE_PARTIAL_UPLOADS__SEGMENT": str(1 << 20),
            "PYVOSPACE_PARTIAL_UPLOADS__USER_UPLOADS": "40",
        }
        try:
            pair.start()
            yield pair
        finally:
            pair.stop()
