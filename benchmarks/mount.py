"""One command: our mount beside a passthrough mount, sshfs and rclone, in the same run and in turn.

    python -m benchmarks.mount [--quick] [--rounds N] [--large BYTES] [--minutes N] [--only NAME;...] [--json FILE]

It measures on the disk of --folder (default: the working directory). All figures are rates: more is better. Quote
ratios and medians. A peer that is not installed is named. When the minutes are over (10) no further round begins.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import secrets
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from benchmarks import arguments
from benchmarks.measures import Series
from benchmarks.mounts import NAMES, OURS, PASSTHROUGH, RCLONE, RCLONE_FULL, SLOW, SSHFS, Mounted, missing, mounted
from benchmarks.systems import scratch, space

_MIB = 1 << 20
_BLOCK = 4096
_PATIENCE = 300.0
_WARM = "sequential read, warm"
CEILING = 0.5
"""Of the passthrough, what we promise for warm sequential reads."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    rounds: int
    large: int
    reads: int
    entries: int
    small: int
    tree: int


@dataclass(frozen=True, slots=True)
class Tree:
    """An archive of a source tree."""

    archive: Path
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Sources:
    """What is written to the mounts."""

    large: Path
    other: Path
    """As large, and changed whenever it is brought somewhere: what a mount reads it has never seen."""
    tree: Tree
    few: Tree


Rates = dict[str, tuple[str, float]]
"""Unit and rate of each measure of a round."""


def main() -> None:
    """Measure and report."""
    options = _options()
    sizes: Sizes = options.sizes
    lacking = {name: what for name in options.only if (what := missing(name))}
    found: dict[str, dict[str, Series]] = {}
    with scratch(options.folder) as folder, space(folder) as ours, contextlib.ExitStack() as stack:
        sources = _sources(folder, sizes)
        mounts = [
            stack.enter_context(mounted(name, folder / f"mount-{number}", ours))
            for number, name in enumerate(options.only)
            if name not in lacking
        ]
        started = time.monotonic()
        for turn in range(sizes.rounds):
            if turn and time.monotonic() - started > 60 * options.minutes:
                break
            # Whoever is first in a round is last in the next.
            _round(mounts if turn % 2 == 0 else mounts[::-1], sources, sizes, found)
    report = _report(found, lacking, options)
    print(_text(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _round(mounts: list[Mounted], sources: Sources, sizes: Sizes, found: dict[str, dict[str, Series]]) -> None:
    """Measure everything once, in turn."""
    for measure in (_large, _listing, _small, _untar):
        for one in mounts:
            for name, (unit, rate) in measure(one, sources, sizes).items():
                found.setdefault(name, {}).setdefault(one.name, Series(one.name, unit)).values.append(rate)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure our mount beside others.")
    parser.add_argument("--quick", action="store_true", help="one round of little: does it work?")
    parser.add_argument("--rounds", type=arguments.count)
    parser.add_argument("--large", type=arguments.count, help="bytes of a large file")
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no further round after so many")
    usual = ";".join(name for name in NAMES if name != RCLONE)
    parser.add_argument("--only", default=usual, help="mounts, with semicolons between them")
    parser.add_argument("--folder", type=arguments.folder, help="where to measure (a folder on the disk in question)")
    parser.add_argument("--json", type=arguments.file, help="write all figures to this file")
    options = parser.parse_args()
    options.only = options.only.split(";")
    if unknown := set(options.only) - set(NAMES):
        parser.error(f"no such mount: {', '.join(unknown)} (there are {'; '.join(NAMES)})")
    if options.quick:
        options.sizes = Sizes(options.rounds or 1, options.large or 8 * _MIB, 1000, 500, 50, 100)
    else:
        options.sizes = Sizes(options.rounds or 3, options.large or 256 * _MIB, 20_000, 10_000, 500, 2000)
    return options


def _sources(folder: Path, sizes: Sizes) -> Sources:
    """Make large files and archives of source trees, the same bytes each time."""
    chance = random.Random(6)
    large, other = folder / "large", folder / "other"
    for path in (large, other):
        with path.open("wb") as file:
            for _ in range(sizes.large // _MIB):
                file.write(chance.randbytes(_MIB))
    tree, few = _tree(folder / "tree.tar", sizes.tree), _tree(folder / "few.tar", sizes.tree // 10)
    return Sources(large, other, tree, few)


def _tree(archive: Path, files: int) -> Tree:
    chance, written = random.Random(files), 0
    with tarfile.open(archive, "w") as tar:
        for number in range(files):
            # Most files of a source tree are small, few are not.
            content = chance.randbytes(int(chance.lognormvariate(8.0, 1.2)))
            member = tarfile.TarInfo(f"tree/package{number % 40:02}/part{number % 7}/module{number:04}.py")
            member.size, member.mtime, member.mode = len(content), 1_700_000_000 + number, 0o644
            tar.addfile(member, BytesIO(content))
            written += len(content)
    return Tree(archive, files, written)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _wait_for(one: Mounted, folder: str, files: int, size: int) -> None:
    """Wait until all is where the mount brings it."""
    end = time.monotonic() + _PATIENCE
    while (there := one.behind.arrived(folder)) != (files, size):
        if time.monotonic() > end:
            raise RuntimeError(f"{one.name}: {there} files and bytes arrived, not {(files, size)}")
        time.sleep(0.02)


def _large(one: Mounted, sources: Sources, sizes: Sizes) -> Rates:
    """Write a large file; read others that the mount has never seen, and again."""
    folder, size, megabytes = secrets.token_hex(6), sources.large.stat().st_size, sizes.large / 1e6
    one.behind.make(folder)
    path = one.notice(folder)
    started = time.perf_counter()
    _write(sources.large, path / "written")
    closed = time.perf_counter() - started
    _wait_for(one, folder, 1, size)
    arrived = time.perf_counter() - started
    one.behind.remove(folder)
    read = secrets.token_hex(6)
    one.behind.make(read)
    for name in ("large", "random"):
        with sources.other.open("r+b") as file:
            file.write(os.urandom(16))
        one.behind.put(read, name, sources.other)
    path = one.notice(read)
    large, other = path / "large", path / "random"
    cold = _timed(lambda: _read(large, size))
    _drop(large)
    warm = _timed(lambda: _read(large, size))
    kept = _timed(lambda: _read(large, size))
    few = sizes.reads // 100
    first = _timed(lambda: _read_somewhere(other, size, few))
    from_cold_on = first + _timed(lambda: _read_somewhere(other, size, sizes.reads - few))
    _drop(large)
    random_warm = _timed(lambda: _read_somewhere(large, size, sizes.reads))
    one.behind.remove(read)
    return {
        "sequential write, until closed": ("MB/s", megabytes / closed),
        "sequential write, until it is there": ("MB/s", megabytes / arrived),
        "sequential read, cold": ("MB/s", megabytes / cold),
        _WARM: ("MB/s", megabytes / warm),
        "sequential read, pages of the kernel kept": ("MB/s", megabytes / kept),
        f"random reads of 4 KiB, the first {few}": ("1/s", few / first),
        f"random reads of 4 KiB, {sizes.reads:,} from cold on": ("1/s", sizes.reads / from_cold_on),
        "random reads of 4 KiB, warm": ("1/s", sizes.reads / random_warm),
    }


def _write(source: Path, target: Path) -> None:
    with source.open("rb") as file, target.open("wb", buffering=0) as written:
        while block := file.read(_MIB):
            written.write(block)


def _read(path: Path, size: int) -> None:
    buffer, done = bytearray(_MIB), 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            done += count
    if done != size:
        raise RuntimeError(f"{path} has {done} bytes, not {size}")


def _read_somewhere(path: Path, size: int, number: int) -> None:
    chance = random.Random(number)
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(number):
        if len(os.pread(descriptor, _BLOCK, chance.randrange(size // _BLOCK) * _BLOCK)) != _BLOCK:
            raise RuntimeError(f"{path} is short")
    os.close(descriptor)


def _drop(path: Path) -> None:
    """Have the kernel forget the pages of a file of the mount, so that it must ask again."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _listing(one: Mounted, _: Sources, sizes: Sizes) -> Rates:
    """List a large directory that the mount has never seen, and again."""
    folder = secrets.token_hex(6)
    one.behind.make(folder)
    one.behind.fill(folder, sizes.entries)
    path = one.notice(folder)
    rates: Rates = {}
    for name in ("ls -l, cold", "ls -l, again"):
        started = time.perf_counter()
        listed = subprocess.run(["ls", "-l", str(path)], capture_output=True, check=True).stdout
        rates[name] = ("entries/s", sizes.entries / (time.perf_counter() - started))
        if listed.count(b"\n") != sizes.entries + 1:
            raise RuntimeError(f"{one.name} does not list all")
    if one.name != OURS:
        one.behind.remove(folder)
    return rates


def _small(one: Mounted, _: Sources, sizes: Sizes) -> Rates:
    """Create files of 1 KiB, one after the other."""
    folder, content = secrets.token_hex(6), os.urandom(1024)
    files = sizes.small // 10 if one.name in SLOW else sizes.small
    path = one.path / folder
    path.mkdir()
    started = time.perf_counter()
    for number in range(files):
        (path / f"{number}.dat").write_bytes(content)
    closed = time.perf_counter() - started
    _wait_for(one, folder, files, files * len(content))
    arrived = time.perf_counter() - started
    one.behind.remove(folder)
    return {
        "small files, until closed": ("files/s", files / closed),
        "small files, until they are there": ("files/s", files / arrived),
    }


def _untar(one: Mounted, sources: Sources, _: Sizes) -> Rates:
    """Unpack a source tree."""
    folder, tree = secrets.token_hex(6), sources.few if one.name in SLOW else sources.tree
    path = one.path / folder
    path.mkdir()
    command = ["tar", "-xf", str(tree.archive), "--no-same-owner", "-C", str(path)]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    returned = time.perf_counter() - started
    _wait_for(one, folder, tree.files, tree.size)
    arrived = time.perf_counter() - started
    one.behind.remove(folder)
    return {
        "untar, until tar returns": ("files/s", tree.files / returned),
        "untar, until all is there": ("files/s", tree.files / arrived),
    }


def _report(
    found: dict[str, dict[str, Series]], lacking: dict[str, str], options: argparse.Namespace
) -> dict[str, object]:
    return {
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "sizes": asdict(options.sizes),
        "missing": lacking,
        "measures": {
            name: {one: asdict(series) | {"median": series.median} for one, series in rows.items()}
            for name, rows in found.items()
        },
        "ratios": {name: _ratios({one: series.median for one, series in rows.items()}) for name, rows in found.items()},
        "promised": {f"{_WARM} / {PASSTHROUGH}": CEILING, f"everything / {SSHFS}, {RCLONE}, {RCLONE_FULL}": 1.0},
    }


def _ratios(medians: dict[str, float]) -> dict[str, float]:
    """Compare ours with each of the others."""
    if OURS not in medians:
        return {}
    return {name: medians[OURS] / rate for name, rate in medians.items() if name != OURS}


def _text(report: dict[str, object]) -> str:
    names = [name for name in NAMES if any(name in rows for rows in report["measures"].values())]  # type: ignore[attr-defined]
    lines = [f"{'medians':48}" + "".join(f"{name:>20}" for name in names)]
    for measure, rows in report["measures"].items():  # type: ignore[attr-defined]
        cells = (f"{rows[name]['median']:20,.0f}" if name in rows else f"{'':20}" for name in names)
        unit = next(iter(rows.values()))["unit"]
        lines.append(f"{measure + ', ' + unit:48}" + "".join(cells))
    peers = [name for name in names if name != OURS]
    if OURS in names:
        lines += ["", f"{'ours to theirs':48}" + " " * 20 + "".join(f"{name:>20}" for name in peers)]
        for measure, ratios in report["ratios"].items():  # type: ignore[attr-defined]
            cells = (f"{ratios[name]:20.2f}" if name in ratios else f"{'':20}" for name in peers)
            lines.append(f"{measure:48}" + " " * 20 + "".join(cells))
    lines += [f"not measured: {name} (missing: {what})" for name, what in report["missing"].items()]  # type: ignore[attr-defined]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
