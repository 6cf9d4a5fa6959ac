"""Many small files as one archive, out and in, beside GNU tar on the same files in a directory."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.http import Connection, request, send_file
from benchmarks.measures import Series, Setting, container

PACKED, GNU_PACKED = "tar of small files", "GNU tar of the same files"
UNPACKED, GNU_UNPACKED = "unpacking of small files", "GNU tar unpacking them, and sync"
_SIZE = 4096
_IN_A_FOLDER = 100
_VIEW = "<vos:view uri='application/x-tar'/>"
_ENDPOINT = re.compile(rb"<vos:endpoint>([^<]+)</vos:endpoint>")
_CREATED = 201


async def archives(setting: Setting, files: int) -> list[Series]:
    """Measure so many files of 4 KiB, 100 in a folder, out and in."""
    found = {name: Series(name, "MB/s") for name in (PACKED, GNU_PACKED, UNPACKED, GNU_UNPACKED)}
    tree, archive = setting.folder / "tree", setting.folder / "tree.tar"
    await asyncio.to_thread(_write, archive, files)
    size = files * _SIZE
    for _ in range(setting.rounds):
        path = await container(setting)
        inward = await _negotiate(setting, path, "pushToVoSpace", "httpput")
        await _moved(found[UNPACKED], size, lambda to=inward: _send(setting, to, archive))  # type: ignore[misc]
        outward = await _negotiate(setting, path, "pullFromVoSpace", "httpget")
        await _moved(found[PACKED], size, lambda at=outward: _drain(setting, at, size))  # type: ignore[misc]
        await _moved(found[GNU_UNPACKED], size, lambda: _unpack(archive, tree))
        await _moved(found[GNU_PACKED], size, lambda: _pack(tree))
        await asyncio.to_thread(shutil.rmtree, tree)
    archive.unlink()
    return list(found.values())


async def _negotiate(setting: Setting, path: str, direction: str, protocol: str) -> str:
    meta, token = Connection("127.0.0.1", setting.space.port), setting.space.token
    document = setting.transfer(path, direction, protocol).replace(b"<vos:protocol", _VIEW.encode() + b"<vos:protocol")
    answer = await meta.ask(request("POST", "/synctrans", token=token, body=document))
    details = await meta.ask(request("GET", urlsplit(answer.headers["location"]).path, token=token))
    meta.close()
    match = _ENDPOINT.search(details.body)
    if match is None:
        raise RuntimeError(f"no endpoint: {details.body!r}")
    return urlsplit(match[1].decode()).path


async def _moved(series: Series, size: int, move: Callable[[], None]) -> None:
    started = time.perf_counter()
    await asyncio.to_thread(move)
    series.values.append(size / 1e6 / (time.perf_counter() - started))


def _write(archive: Path, files: int) -> None:
    with tarfile.open(archive, "w") as tar:
        for number in range(files):
            info = tarfile.TarInfo(f"{number // _IN_A_FOLDER}/{number}.dat")
            info.size = _SIZE
            tar.addfile(info, io.BytesIO(os.urandom(_SIZE)))


def _send(setting: Setting, path: str, archive: Path) -> None:
    status = send_file("127.0.0.1", setting.space.storage_port, path, archive)
    if status != _CREATED:
        raise RuntimeError(f"the archive was answered with {status}")


def _drain(setting: Setting, path: str, size: int) -> None:
    """GET an archive, whose length nobody tells, and see that it ends as it should."""
    buffer, read, end = bytearray(1 << 20), 0, b""
    with socket.create_connection(("127.0.0.1", setting.space.storage_port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while got := connection.recv_into(buffer):
            read += got
            end = (end + bytes(buffer[max(0, got - 8) : got]))[-8:]
    if read < size or not end.endswith(b"0\r\n\r\n"):
        raise RuntimeError(f"{read} bytes came, and then {end!r}")


def _unpack(archive: Path, tree: Path) -> None:
    tree.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
    os.sync()


def _pack(tree: Path) -> None:
    """Let it write to a pipe: to /dev/null it would not even read the files."""
    with subprocess.Popen(["tar", "-cf", "-", "-C", tree, "."], stdout=subprocess.PIPE) as tar:
        if tar.stdout is None:
            raise RuntimeError("tar gives nothing")
        while tar.stdout.read(1 << 20):
            pass
