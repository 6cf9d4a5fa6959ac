"""The scrubber at full speed, beside ``sha256sum`` and ``md5sum`` of the same files.

    python -m benchmarks.scrub [--size MIB] [--files N] [--rounds N] [--folder DIR]

The files are dropped from the memory of the system before each round (the scrubber does so by itself), and read in the
same order. Medians of MiB a second are printed. Both programs together do what a comparison with both digests needs;
the scrubber computes SHA-256 alone, as bytes that have it have the right MD5 too.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import arguments
from pyvospace.model.integrity import Named
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.checking import free_of_charge, verify

_MIB = 1 << 20


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="MiB of a file")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=arguments.folder)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pyvospace-bench-", dir=given.folder) as name:
        root = Path(name)
        files = _make(root / "data" / "abc", given.files, given.size * _MIB)
        rates: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            for what, work in (("scrubber", _scrub), ("sha256sum, md5sum", _programs)):
                _forget(files)
                begun = time.monotonic()
                work(root, files)
                rates.setdefault(what, []).append(given.files * given.size / (time.monotonic() - begun))
    medians = {what: statistics.median(values) for what, values in rates.items()}
    for what, value in medians.items():
        print(f"{what:20} {value:8.0f} MiB/s")
    print(f"{'ratio':20} {medians['scrubber'] / medians['sha256sum, md5sum']:8.2f}")


Files = dict[Path, bytes]
"""Files and their digests."""


def _make(folder: Path, number: int, size: int) -> Files:
    folder.mkdir(parents=True)
    made = {}
    for one in range(number):
        file = folder / f"{one:032x}"
        digest = hashlib.sha256()
        with file.open("wb") as opened:
            for _ in range(size // _MIB):
                piece = os.urandom(_MIB)
                opened.write(piece)
                digest.update(piece)
            opened.flush()
            os.fsync(opened.fileno())
        made[file] = digest.digest()
    return made


def _forget(files: Files) -> None:
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _programs(_: Path, files: Files) -> None:
    for program in ("sha256sum", "md5sum"):
        subprocess.run([program, *map(str, files)], check=True, stdout=subprocess.DEVNULL)


def _scrub(root: Path, files: Files) -> None:
    asyncio.run(_verify(root, files))


async def _verify(root: Path, files: Files) -> None:
    backend = PosixBackend(root)
    await backend.start()
    with ThreadPoolExecutor(1) as pool:
        for file, digest in files.items():
            named = Named(f"abc/{file.name}", (await backend.size(f"abc/{file.name}")), None, digest)
            if await verify(backend, named, pool=pool, spend=free_of_charge) is not None:
                raise AssertionError(file)
    await backend.close()


if __name__ == "__main__":
    main()
