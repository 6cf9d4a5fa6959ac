"""Random operations on files of a mount and on local files, side by side, as fsx does.

    python -m tests.fuse.fsx --minutes 10 [--seed N] [--over space|passthrough]

Whatever a call gives, bytes or an error, must be the same on both sides. The seed repeats a run.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.mounts import Mount, cleared, of_space, passthrough
from tests.support.pair import running_pair
from tests.support.postgres import postgres_server

NAMES = ("one", "two", "three and more")
LARGEST = 9 << 20
"""Bytes of a file: more than two blocks of the cache."""
Result = bytes | int | str | None


def _done(act: Callable[[], Result]) -> Result:
    """Give what a call gives, or the name of its error."""
    try:
        return act()
    except OSError as error:
        return f"{type(error).__name__} {error.errno}"


@dataclass
class Twins:
    """A directory of a mount and a local one, to which the same things happen."""

    mounted: Path
    local: Path
    chance: random.Random
    remount: Callable[[], None]
    opened: dict[str, tuple[int, int]] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)

    def same(self, words: str, act: Callable[[Path], Result]) -> None:
        """Do something on both sides, by path."""
        self._compare(words, _done(lambda: act(self.mounted)), _done(lambda: act(self.local)))

    def same_open(self, words: str, name: str, act: Callable[[int], Result]) -> None:
        """Do something on both sides, by descriptors that stay open."""
        if name not in self.opened:
            pair = [os.open(side / name, os.O_RDWR | os.O_CREAT, 0o644) for side in (self.mounted, self.local)]
            self.opened[name] = (pair[0], pair[1])
        mounted, local = self.opened[name]
        self._compare(f"{words} [open]", _done(lambda: act(mounted)), _done(lambda: act(local)))

    def _compare(self, words: str, ours: Result, theirs: Result) -> None:
        self.history.append(words)
        if ours != theirs:
            last = "\n".join(self.history[-30:])
            raise AssertionError(f"{_short(ours)} instead of {_short(theirs)} after\n{last}{_difference(ours, theirs)}")

    def close(self, name: str) -> None:
        """Close both sides."""
        for descriptor in self.opened.pop(name, ()):
            os.close(descriptor)

    def close_all(self) -> None:
        """Close all files."""
        for name in list(self.opened):
            self.close(name)

    def check(self) -> None:
        """Compare everything, from the names on."""
        self.same("names", lambda side: "/".join(sorted(os.listdir(side))))
        for name in NAMES:
            self.same(f"size of {name}", lambda side, name=name: os.stat(side / name).st_size)  # type: ignore[misc]
            self.same(f"content of {name}", lambda side, name=name: (side / name).read_bytes())  # type: ignore[misc]

    def extent(self) -> tuple[int, int]:
        """Choose an offset and a size: most are small, some cross blocks, some touch edges."""
        size = int(2 ** self.chance.uniform(0, 20)) if self.chance.random() < 0.97 else self.chance.randrange(2 << 20)
        offset = self.chance.randrange(LARGEST - size)
        kind = self.chance.random()
        if kind < 0.3:
            offset = self.chance.randrange(1 << 16)
        elif kind < 0.45:
            offset = max(0, (4 << 20) - self.chance.randrange(size + 1))
        elif kind < 0.6:
            offset &= ~4095
        return offset, size


def _short(result: Result) -> str:
    return f"{len(result)} bytes" if isinstance(result, bytes) else repr(result)


def _difference(ours: Result, theirs: Result) -> str:
    if not isinstance(ours, bytes) or not isinstance(theirs, bytes):
        return ""
    first = next((place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), -1)
    return f"\nfirst difference at {first}: {ours[first : first + 16]!r} instead of {theirs[first : first + 16]!r}"


def _write(twins: Twins, name: str) -> None:
    offset, size = twins.extent()
    data = twins.chance.randbytes(size)
    twins.same_open(f"write {name} {offset}+{size}", name, lambda file: os.pwrite(file, data, offset))


def _read(twins: Twins, name: str) -> None:
    offset, size = twins.extent()
    twins.same_open(f"read {name} {offset}+{size}", name, lambda file: os.pread(file, size, offset))


def _truncate(twins: Twins, name: str) -> None:
    size = twins.extent()[0]
    if twins.chance.random() < 0.5:
        twins.same_open(f"truncate {name} {size}", name, lambda file: os.ftruncate(file, size))
    else:
        twins.same(f"truncate {name} {size}", lambda side: os.truncate(side / name, size))


def _append(twins: Twins, name: str) -> None:
    data = twins.chance.randbytes(twins.chance.randrange(1, 10_000))

    def act(side: Path) -> Result:
        with (side / name).open("ab") as file:
            return file.write(data)

    twins.same(f"append {name} {len(data)}", act)
    if os.stat(twins.local / name).st_size > LARGEST:
        twins.same(f"truncate {name}", lambda side: os.truncate(side / name, 1000))


def _map_write(twins: Twins, name: str) -> None:
    offset, size = twins.extent()
    data = twins.chance.randbytes(size)

    def act(file: int) -> Result:
        length = os.fstat(file).st_size
        if length == 0 or offset >= length:
            return None
        with mmap.mmap(file, length) as mapped:
            piece = data[: length - offset]
            mapped[offset : offset + len(piece)] = piece
        return None

    twins.same_open(f"map and write {name} {offset}+{size}", name, act)


def _map_read(twins: Twins, name: str) -> None:
    offset, size = twins.extent()

    def act(file: int) -> Result:
        length = os.fstat(file).st_size
        if length == 0:
            return b""
        with mmap.mmap(file, length, prot=mmap.PROT_READ) as mapped:
            return mapped[offset : offset + size]

    twins.same_open(f"map and read {name} {offset}+{size}", name, act)


def _sync(twins: Twins, name: str) -> None:
    twins.same_open(f"fsync {name}", name, os.fsync)


def _forget(twins: Twins, name: str) -> None:
    words = f"drop pages of {name}"
    twins.same_open(words, name, lambda file: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED))


def _reopen(twins: Twins, name: str) -> None:
    twins.history.append(f"close {name}")
    twins.close(name)


def _whole(twins: Twins, name: str) -> None:
    twins.same(f"read all of {name}", lambda side: (side / name).read_bytes())


def _replace(twins: Twins, name: str) -> None:
    data = twins.chance.randbytes(twins.chance.randrange(100_000))
    twins.close(name)
    twins.same(f"replace {name} {len(data)}", lambda side: (side / name).write_bytes(data))


def _rename(twins: Twins, name: str) -> None:
    other = twins.chance.choice([one for one in NAMES if one != name])
    twins.close(other)
    twins.same(f"rename {name} to {other}", lambda side: os.rename(side / name, side / other))
    if name in twins.opened and not (twins.local / name).exists():
        twins.opened[other] = twins.opened.pop(name)


def _unlink(twins: Twins, name: str) -> None:
    if name in twins.opened:
        twins.same(f"unlink {name}", lambda side: os.unlink(side / name))
        _read(twins, name)
        _write(twins, name)
        _read(twins, name)
        twins.close(name)
    else:
        twins.same(f"unlink {name}", lambda side: os.unlink(side / name))


def _mount_again(twins: Twins, _: str) -> None:
    twins.history.append("mount again")
    twins.close_all()
    twins.remount()
    twins.check()


OPERATIONS: dict[Callable[[Twins, str], None], int] = {
    _write: 30, _read: 30, _truncate: 8, _append: 5, _map_write: 5, _map_read: 5, _sync: 3, _forget: 5, _reopen: 8,
    _whole: 3, _replace: 3, _rename: 3, _unlink: 2, _mount_again: 0,
}  # fmt: skip
"""How often each comes; mounting again comes as often as a run wants it."""


def run(twins: Twins, *, operations: int | None = None, until: float | None = None, remounts: int = 0) -> int:
    """Do random things, so many or so long; give how many."""
    kinds, weights = list(OPERATIONS), list(OPERATIONS.values())
    count = 0
    remounting = set(twins.chance.sample(range(operations or 2000), remounts))
    for name in NAMES:
        twins.same(f"create {name}", lambda side, name=name: (side / name).write_bytes(b"begin"))  # type: ignore[misc]
    while (operations is None or count < operations) and (until is None or time.monotonic() < until):
        kind = _mount_again if count % (operations or 2000) in remounting else twins.chance.choices(kinds, weights)[0]
        kind(twins, twins.chance.choice(NAMES))
        count += 1
    twins.close_all()
    twins.check()
    _mount_again(twins, "")
    return count


@contextmanager
def _mounted(over: str, folder: Path, life: float) -> Iterator[Mount]:
    with ExitStack() as stack:
        if over == "passthrough":
            mount = passthrough(folder / "passthrough")
        else:
            server = stack.enter_context(postgres_server())
            name = stack.enter_context(server.clone())
            dsn, storage_dsn = server.dsn(name), server.dsn(name, STORAGE_ROLE)
            pair = stack.enter_context(running_pair(dsn, folder, storage_dsn=storage_dsn))
            mount = of_space(pair, folder / "of space")
        stack.enter_context(cleared(mount))
        mount.life = life
        mount.start()
        yield mount


def main() -> int:
    """Run for minutes."""
    parser = argparse.ArgumentParser(description="Random operations on a mount and on local files.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 30))
    parser.add_argument("--over", choices=("space", "passthrough"), default="space")
    options = parser.parse_args()
    life = 900 + 120 * options.minutes
    with tempfile.TemporaryDirectory() as name, _mounted(options.over, Path(name), life) as mount:
        mounted, local = mount.path / "fsx", Path(name) / "local"
        mounted.mkdir()
        local.mkdir()
        twins = Twins(mounted, local, random.Random(options.seed), mount.again)
        print(f"seed {options.seed}", flush=True)
        try:
            count = run(twins, until=time.monotonic() + 60 * options.minutes, remounts=4)
        except AssertionError as error:
            print(f"{error}\n{mount.log()[-5000:]}\nseed {options.seed}")
            return 1
        print(f"{count} operations, all the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
