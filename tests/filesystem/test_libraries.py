"""Libraries of the community read and write a space through fsspec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from astropy.io import fits
from zarr.storage import FsspecStore

from pyvospace.client.reader import Reader
from pyvospace.filesystem import VOSpaceFileSystem
from tests.support.pair import Pair


@pytest.fixture
def options(pair: Pair) -> dict[str, Any]:
    return {"endpoint_url": pair.url, "token": pair.token}


@pytest.fixture
def url(fs: VOSpaceFileSystem, top: str) -> str:
    return f"pyvospace://{top}"


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes come with each part of a file."""
    counts: list[int] = []
    read = Reader.read

    async def counting(self: Reader, start: int, stop: int) -> bytes:
        data = await read(self, start, stop)
        counts.append(len(data))
        return data

    monkeypatch.setattr(Reader, "read", counting)
    return counts


def test_astropy_reads_what_it_shows(
    fs: VOSpaceFileSystem, url: str, top: str, options: dict[str, Any], read_bytes: list[int]
) -> None:
    image = np.arange(4_000_000, dtype="f4").reshape(2000, 2000)
    with fs.open(f"{top}/image.fits", "wb") as opened:
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI")]).writeto(opened)
    how = {**options, "block_size": 50_000, "cache_type": "bytes"}
    with fits.open(f"{url}/image.fits", use_fsspec=True, fsspec_kwargs=how) as hdus:
        cutout = hdus["SCI"].section[1000:1010, 500:520]
    assert (cutout == image[1000:1010, 500:520]).all()
    assert sum(read_bytes) < image.nbytes / 20


def test_pandas(url: str, options: dict[str, Any]) -> None:
    table = pd.DataFrame({"ra": [10.5, 20.25], "name": ["M31", "größer"]})
    for name in ("table.csv", "table.csv.gz"):
        table.to_csv(f"{url}/{name}", index=False, storage_options=options)
        assert pd.read_csv(f"{url}/{name}", storage_options=options).equals(table)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_xarray_and_zarr(url: str, options: dict[str, Any]) -> None:
    data = xr.Dataset({"flux": (("y", "x"), np.random.default_rng(1).random((20, 30)))})
    for _ in range(2):
        data.to_zarr(f"{url}/cube.zarr", mode="w", storage_options=options)
    with xr.open_zarr(f"{url}/cube.zarr", chunks=None, storage_options=options) as opened:
        assert opened.identical(data)


async def _contents(store: FsspecStore) -> list[str]:
    return sorted([key async for key in store.list()])


async def test_zarr_asks_for_parts(url: str, options: dict[str, Any]) -> None:
    made = FsspecStore.from_url(f"{url}/array.zarr", storage_options=options)
    array = zarr.create_array(made, shape=(40, 40), chunks=(10, 10), shards=(20, 20), dtype="i4")
    values = np.arange(1600).reshape(40, 40)
    array[:] = values
    found = zarr.open_array(FsspecStore.from_url(f"{url}/array.zarr", storage_options=options), mode="r")
    assert np.array_equal(np.asarray(found[5:25, 18:22]), values[5:25, 18:22])
    assert "zarr.json" in await _contents(FsspecStore.from_url(f"{url}/array.zarr", storage_options=options))


def test_files_are_kept_here(
    fs: VOSpaceFileSystem, url: str, top: str, options: dict[str, Any], tmp_path: Path
) -> None:
    fs.pipe(f"{top}/file", b"one")
    for expected in (b"one", b"two"):
        chain = f"filecache::{url}/file"
        kept = {"cache_storage": str(tmp_path), "check_files": True}
        with fsspec.open(chain, pyvospace=options, filecache=kept) as opened:
            assert opened.read() == expected
        fs.pipe(f"{top}/file", b"two")
