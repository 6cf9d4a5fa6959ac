"""A layer passes the contract of the backends, above any of them."""

from pathlib import Path
from typing import Self

import pytest
from sealed_blocks import SealedBlocks

from pyvospace.storage.backend import BackendConfig, ByteRange
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.testing.contract import BackendContract
from pyvospace.storage.testing.rig import read, rigged

KEY = bytes(range(32))


class SealedFiles(SealedBlocks):
    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        return cls(PosixBackend.configure(config), KEY)


class TestSealedFiles(BackendContract):
    backend_class = SealedFiles
    pooled = 0
    large = 24 << 20


@pytest.mark.asyncio
async def test_what_is_kept(tmp_path: Path) -> None:
    """Sealed bytes in the place, clear ones for clients; damage is found, and a range needs its own blocks alone."""
    data = b"secret" * 50_000
    async with rigged(SealedFiles.configure(BackendConfig(tmp_path))) as rig:
        stored = await rig.put(data)
        kept = tmp_path / "data" / stored.location
        assert (stored.size, kept.stat().st_size) == (300_000, 300_000 + 8 + 5 * 16)
        assert b"secret" not in kept.read_bytes()
        with kept.open("r+b") as file:
            file.seek(200_000)
            file.write(bytes(10))
        assert await read(await rig.open(stored, ByteRange(100_000, 190_000)), ByteRange(0, 1)) == data[100_000:190_000]
        with pytest.raises(OSError, match="block 3 is damaged"):
            await read(await rig.open(stored), ByteRange(0, stored.size))
