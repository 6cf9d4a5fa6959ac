"""Folders to a space: `pyvospace sync` beside `vsync`, and beside `rclone copy` to the same disk.

    python -m benchmarks.sync [--files N] [--size BYTES] [--large N] [--large-size BYTES] [--rounds N] [--json FILE]

Many small files, then a few large ones; each round, each client sends to a container of its own, and then once more
when nothing has changed. A run of vsync that leaves files behind counts as it is, and the table says so. rclone copies
from folder to folder, checks no digest and waits for no disk: it is there to show the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import arguments
from benchmarks.systems import Space, scratch, space

OURS: Final = "pyvospace sync"
VSYNC: Final = "vsync"
RCLONE: Final = "rclone copy"
PROMISED: Final = 3.0
"""How many times quicker than vsync we are, at the least."""
_PIECE: Final = 1 << 20


@dataclass(slots=True)
class Timed:
    """All runs of one client in one case."""

    case: str
    client: str
    seconds: list[float] = field(default_factory=list)
    left_behind: list[int] = field(default_factory=list)
    """Files that were not there afterwards."""

    @property
    def median(self) -> float:
        """The figure to quote."""
        return median(self.seconds)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share."""

    space: Space
    folder: Path
    environment: dict[str, str]

    @property
    def top(self) -> str:
        """Give the URI in which containers are made."""
        return f"vos://{self.space.authority}{self.space.home}"

    def run(self, *command: str) -> float:
        """Run a client; its seconds. What it says is kept for whoever looks into the folder."""
        with (self.folder / "clients.log").open("ab") as log:
            begun = time.monotonic()
            subprocess.run(command, env=self.environment, stdout=log, stderr=log, check=False)
        return time.monotonic() - begun


Client = Callable[[Bench, Path, str], tuple[list[str], Callable[[], int]]]
"""Gives the command that sends a folder to a place of this name, and what counts the files there afterwards."""


def _ours(bench: Bench, source: Path, name: str) -> tuple[list[str], Callable[[], int]]:
    target = f"{bench.top}/{name}"
    return [_program("pyvospace"), "sync", "--quiet", str(source), target], lambda: _in_space(bench, name)


def _vsync(bench: Bench, source: Path, name: str) -> tuple[list[str], Callable[[], int]]:
    target = f"{bench.top}/{name}"
    subprocess.run([_program("pyvospace"), "mkdir", target], env=bench.environment, check=True)
    command = [_program("vsync"), "--token", bench.space.token, "-r", f"{source}/", target]
    return command, lambda: _in_space(bench, name)


def _rclone(bench: Bench, source: Path, name: str) -> tuple[list[str], Callable[[], int]]:
    target = bench.folder / name
    return ["rclone", "copy", str(source), str(target)], lambda: len(list(target.iterdir()))


CLIENTS: Final[dict[str, Client]] = {OURS: _ours, VSYNC: _vsync, RCLONE: _rclone}


def main() -> None:
    """Measure and report."""
    options = _options()
    with scratch(options.folder) as folder, _bench(folder) as bench:
        found: list[Timed] = []
        if options.files:
            source = _files(folder / "small", options.files, options.size)
            found += _measure(bench, f"{options.files:,} files of {options.size:,} B", source, options.rounds)
        if options.large:
            source = _files(folder / "large", options.large, options.large_size)
            case = f"{options.large} files of {options.large_size >> 20:,} MiB"
            found += _measure(bench, case, source, options.rounds)
    report = _report(found, options)
    print(_text(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure sync beside vsync and rclone.")
    parser.add_argument("--files", type=int, default=10_000, help="small files; 0: none")
    parser.add_argument("--size", type=int, default=1000, help="bytes of each")
    parser.add_argument("--large", type=int, default=4, help="large files; 0: none")
    parser.add_argument("--large-size", type=int, default=1 << 30, help="bytes of each")
    parser.add_argument("--rounds", type=arguments.count, default=3)
    parser.add_argument("--folder", type=arguments.folder, help="where to measure (a folder on the disk in question)")
    parser.add_argument("--json", type=arguments.file, help="write all figures to this file")
    return parser.parse_args()


@contextmanager
def _bench(folder: Path) -> Iterator[Bench]:
    with space(folder) as running:
        home = folder / "home"
        registry = home / ".config" / "cadc-registry"
        registry.mkdir(parents=True)
        url = f"http://127.0.0.1:{running.port}"
        # vos looks services up in a registry; it takes its copy of that for good if it is of the future.
        (registry / "resource-caps").write_text(f"ivo://{running.authority.replace('~', '/')} = {url}/capabilities\n")
        os.utime(registry / "resource-caps", (2e9, 2e9))
        access = {"VOSPACE_URL": url, "VOSPACE_TOKEN": running.token, "VOSPACE_AUTHORITY": running.authority}
        yield Bench(running, folder, {**os.environ, **access, "HOME": str(home), "XDG_STATE_HOME": str(home)})


def _files(folder: Path, number: int, size: int) -> Path:
    folder.mkdir()
    for one in range(number):
        with (folder / f"f{one:06}.dat").open("wb") as file:
            for start in range(0, size, _PIECE):
                file.write(secrets.token_bytes(min(_PIECE, size - start)))
    os.sync()
    return folder


def _measure(bench: Bench, case: str, source: Path, rounds: int) -> list[Timed]:
    again = f"{case}, nothing changed"
    found = {(one, client): Timed(one, client) for one in (case, again) for client in CLIENTS}
    files = len(list(source.iterdir()))
    for number in range(rounds):
        for client, prepare in CLIENTS.items():
            name = f"{source.name}-{number}-{client.split()[0]}"
            command, count = prepare(bench, source, name)
            for one in (case, again):
                os.sync()
                found[one, client].seconds.append(bench.run(*command))
                found[one, client].left_behind.append(files - count())
            _remove(bench, name)
    return list(found.values())


def _in_space(bench: Bench, name: str) -> int:
    url = f"http://127.0.0.1:{bench.space.port}/entries{bench.space.home}/{name}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {bench.space.token}"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return sum(1 for _ in answer) - 1


def _remove(bench: Bench, name: str) -> None:
    shutil.rmtree(bench.folder / name, ignore_errors=True)
    target = f"{bench.top}/{name}"
    subprocess.run([_program("pyvospace"), "rm", "-rf", target], env=bench.environment, check=True)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _report(found: list[Timed], options: argparse.Namespace) -> dict[str, object]:
    by_case: dict[str, dict[str, Timed]] = {}
    for one in found:
        by_case.setdefault(one.case, {})[one.client] = one
    return {
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "options": {name: str(value) for name, value in vars(options).items()},
        "series": [asdict(one) | {"median": one.median} for one in found],
        "ratios": [
            {
                "case": case,
                "times as quick as vsync": clients[VSYNC].median / clients[OURS].median,
                "times as quick as rclone": clients[RCLONE].median / clients[OURS].median,
                "promised": PROMISED,
            }
            for case, clients in by_case.items()
        ],
    }


def _text(report: dict[str, object]) -> str:
    lines = [f"{'':44} {'client':16} {'median':>9} {'min':>9} {'max':>9}  seconds"]
    for one in report["series"]:  # type: ignore[attr-defined]
        left = f"  {max(one['left_behind'])} files left behind" if any(one["left_behind"]) else ""
        figures = " ".join(f"{value:9.2f}" for value in (one["median"], min(one["seconds"]), max(one["seconds"])))
        lines.append(f"{one['case']:44} {one['client']:16} {figures}{left}")
    lines += ["", f"{'times as quick (medians)':44} {'as vsync':>9} {'as rclone':>10} {'promised':>9}"]
    for one in report["ratios"]:  # type: ignore[attr-defined]
        vsync, rclone = one["times as quick as vsync"], one["times as quick as rclone"]
        lines.append(f"{one['case']:44} {vsync:9.2f} {rclone:10.2f} {one['promised']:9.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
