"""The suite that zarr has for stores, with PYVOSPACE_ALL_CLIENTS=1."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fsspec import url_to_fs
from zarr.core.buffer import Buffer, cpu
from zarr.storage import FsspecStore
from zarr.testing.store import StoreTests

from tests.support.pair import Pair

pytestmark = pytest.mark.skipif(not os.environ.get("PYVOSPACE_ALL_CLIENTS"), reason="PYVOSPACE_ALL_CLIENTS=1")


class TestStore(StoreTests[FsspecStore, cpu.Buffer]):
    store_cls = FsspecStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(self, pair: Pair, top: str) -> dict[str, Any]:
        fs, path = url_to_fs(f"pyvospace://{top}", endpoint_url=pair.url, token=pair.token, asynchronous=True)
        return {"fs": fs, "path": path}

    @pytest.fixture
    async def store(self, store_kwargs: dict[str, Any]) -> AsyncIterator[FsspecStore]:
        made = FsspecStore(**store_kwargs)
        yield made
        await made.fs._close()

    async def get(self, store: FsspecStore, key: str) -> cpu.Buffer:
        return cpu.Buffer.from_bytes(await store.fs._cat_file(f"{store.path}/{key}"))

    async def set(self, store: FsspecStore, key: str, value: Buffer) -> None:
        await store.fs._pipe_file(f"{store.path}/{key}", value.to_bytes())

    def test_store_repr(self, store: FsspecStore) -> None:
        assert "VOSpaceFileSystem" in repr(store)

    def test_store_supports_writes(self, store: FsspecStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: FsspecStore) -> None:
        assert store.supports_listing
