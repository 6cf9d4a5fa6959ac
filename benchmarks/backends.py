"""Push and pull of one large file through the server, beside the store's own client at the same store.

    python -m benchmarks.backends [--systems NAMES] [--size BYTES] [--rounds N] [--folder FOLDER] [--json FILE]

Both take turns in each round, and write what comes back to a file; quote ratios of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from azure.storage.blob import ContainerClient

from benchmarks import arguments
from benchmarks.http import Connection, request, send_file
from benchmarks.measures import Setting, container, negotiate
from benchmarks.systems import Space, scratch, space
from tests.support.engines.azurite import running_azurite
from tests.support.engines.stores import Engine, keep

_MIB = 1 << 20
_CREATED = 201
_REQUESTS = 4
"""Of the client of Azure at the same time."""
PROMISED = 0.8
"""Least ratio of ours to the store's own client."""


@dataclass(frozen=True, slots=True)
class System:
    """A store, how the server reaches it, and its own client."""

    settings: Mapping[str, str]
    """Of the storage server, as environment variables."""
    push: Callable[[Path], None]
    """Let the native client send a file."""
    pull: Callable[[Path], object]
    """Let it fetch that file again."""


@contextlib.contextmanager
def s3(name: str, folder: Path) -> Iterator[System]:
    """Run an S3 store of the tests; boto3 is its native client, with its own settings."""
    state = folder / f"{name}.json"
    keeper = keep(name, state, os.getpid())
    try:
        engine = Engine(**json.loads(state.read_text()))
        client, bucket, key = engine.client(), f"benchmark-{secrets.token_hex(4)}", "native"
        client.create_bucket(Bucket=bucket)
        options = {
            "endpoint": engine.endpoint,
            "bucket": bucket,
            "prefix": "space",
            "credentials": str(engine.credentials(folder)),
        }
        yield System(
            {"PYVOSPACE_STORAGE__BACKEND": "s3", "PYVOSPACE_STORAGE__OPTIONS": json.dumps(options)},
            lambda source: client.upload_file(str(source), bucket, key),
            lambda target: client.download_file(bucket, key, str(target)),
        )
    finally:
        keeper.terminate()
        keeper.wait()


@contextlib.contextmanager
def azure(folder: Path) -> Iterator[System]:
    """Run Azurite; the native client is Microsoft's, with as many requests at the same time as ours."""
    with running_azurite(folder) as running:
        options = {"container": "benchmark", "connection_string_file": str(running.connection_string_file)}
        container = ContainerClient.from_connection_string(running.connection_string, "benchmark")
        blob = container.get_blob_client("native")

        def push(source: Path) -> None:
            with source.open("rb") as file:
                blob.upload_blob(file, overwrite=True, max_concurrency=_REQUESTS)

        def pull(_: Path) -> None:
            with Path(os.devnull).open("wb") as file:
                blob.download_blob(max_concurrency=_REQUESTS).readinto(file)

        with container:
            yield System(
                {"PYVOSPACE_STORAGE__BACKEND": "azure", "PYVOSPACE_STORAGE__OPTIONS": json.dumps(options)}, push, pull
            )


@contextlib.contextmanager
def posix(folder: Path) -> Iterator[System]:
    """Keep bytes in a directory; cp with a flush is the native client."""
    kept = folder / "native"

    def push(source: Path) -> None:
        shutil.copyfile(source, kept)
        with kept.open("rb") as file:
            os.fsync(file.fileno())

    yield System({}, push, lambda target: shutil.copyfile(kept, target))


SYSTEMS: Mapping[str, Callable[[Path], AbstractContextManager[System]]] = {
    "posix": posix,
    "ceph": lambda folder: s3("radosgw", folder),
    "azure": azure,
    "swift": lambda folder: s3("swift", folder),
}


@dataclass(slots=True)
class Figures:
    """All rounds of one system, in MB/s."""

    name: str
    pushes: list[float] = field(default_factory=list)
    native_pushes: list[float] = field(default_factory=list)
    pulls: list[float] = field(default_factory=list)
    native_pulls: list[float] = field(default_factory=list)
    memory: float = 0.0
    """Largest resident size of the storage server, in MB."""
    idle: float = 0.0
    """The same before the first transfer."""

    def report(self) -> str:
        """Write one line for each direction."""
        lines = []
        for what, ours, native in (
            ("push", self.pushes, self.native_pushes),
            ("pull", self.pulls, self.native_pulls),
        ):
            ratio = median(ours) / median(native)
            said = f"{self.name:8} {what} {median(ours):8.0f} MB/s, native {median(native):8.0f} MB/s"
            lines.append(f"{said}: {ratio:5.2f} (promised {PROMISED}); rounds {_rounds(ours)} and {_rounds(native)}")
        return "\n".join([*lines, f"{self.name:8} memory {self.idle:.0f} MB before, {self.memory:.0f} MB at most"])


def _rounds(values: list[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Measure backends beside the native clients of their stores.")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="names, with commas between them")
    parser.add_argument("--size", type=arguments.count, default=1 << 30, help="bytes of the file")
    parser.add_argument("--rounds", type=arguments.count, default=3)
    parser.add_argument("--folder", type=arguments.folder, help="where the file is: in memory, so that no disk counts")
    parser.add_argument("--json", type=arguments.file, help="write all figures to this file")
    options = parser.parse_args()
    if unknown := set(options.systems.split(",")) - set(SYSTEMS):
        parser.error(f"no such system: {', '.join(unknown)} (there are {', '.join(SYSTEMS)})")
    found = []
    for name in options.systems.split(","):
        with scratch(options.folder) as folder, SYSTEMS[name](folder) as system:
            figures = Figures(name)
            with space(folder, workers=1, **system.settings) as ours:
                asyncio.run(_measure(figures, system, ours, folder, options))
        print(figures.report(), flush=True)
        found.append(figures)
    if options.json:
        text = {one.name: {name: getattr(one, name) for name in Figures.__slots__} for one in found}
        options.json.write_text(json.dumps(text, indent=2) + "\n")


async def _measure(figures: Figures, system: System, ours: Space, folder: Path, options: argparse.Namespace) -> None:
    source, size = folder / "source", options.size
    block = os.urandom(_MIB)
    with source.open("wb") as file:
        for _ in range(size // _MIB):
            file.write(block)
    setting = Setting(
        space=ours, bare=0, nginx=None, folder=folder, seconds=0, rounds=options.rounds, concurrency=1, large=size
    )
    figures.idle = ours.memory()["storage"]
    path = await container(setting)
    for turn in range(options.rounds):
        await _round(figures, system, setting, f"{path}/{turn}", source)
    figures.memory = ours.memory()["storage"]


async def _round(figures: Figures, system: System, setting: Setting, path: str, source: Path) -> None:
    size, port, target = setting.large, setting.space.storage_port, setting.folder / "target"
    inward = await _negotiated(setting, path, "pushToVoSpace", "httpput")
    await _moved(figures.pushes, size, lambda: _push(port, inward, source))
    await _moved(figures.native_pushes, size, lambda: system.push(source))
    outward = await _negotiated(setting, path, "pullFromVoSpace", "httpget")
    await _moved(figures.pulls, size, lambda: _pull(port, outward, target))
    await _moved(figures.native_pulls, size, lambda: system.pull(target))
    target.unlink()
    meta = Connection("127.0.0.1", setting.space.port)
    await meta.ask(request("DELETE", f"/nodes{path}", token=setting.space.token))
    meta.close()


async def _negotiated(setting: Setting, path: str, direction: str, protocol: str) -> str:
    meta = Connection("127.0.0.1", setting.space.port)
    endpoint = await negotiate(setting, meta, path, direction, protocol)
    meta.close()
    return endpoint


def _push(port: int, path: str, source: Path) -> None:
    status = send_file("127.0.0.1", port, path, source)
    if status != _CREATED:
        raise RuntimeError(f"the push was answered with {status}")


def _pull(port: int, path: str, target: Path) -> None:
    buffer = bytearray(_MIB)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer, target.open("wb", buffering=0) as file:
        while size := answer.readinto(buffer):
            file.write(memoryview(buffer)[:size])
    if target.stat().st_size != int(answer.headers["Content-Length"]):
        raise RuntimeError("the pull ended early")


async def _moved(values: list[float], size: int, move: Callable[[], object]) -> None:
    started = time.perf_counter()
    await asyncio.to_thread(move)
    values.append(size / 1e6 / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
