"""What is measured and what it is measured against, started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from pyvospace.config import load
from pyvospace.supervisor.data import find_dsn

_NGINX = """
worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; client_max_body_size 0; client_body_buffer_size 1m;
  client_body_temp_path {folder}/tmp;
  server {{
    listen 127.0.0.1:{port};
    location /files/ {{ alias {folder}/files/; dav_methods PUT DELETE MKCOL; }}
  }}
}}
"""


def free_port(number: int = 1) -> int:
    """Find `number` ports in a row that nobody listens at, below those that the system gives to clients."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for one in range(port, port + number):
                stack.enter_context(socket.create_server(("127.0.0.1", one)))
            return port


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not listen")


@contextlib.contextmanager
def process(*command: str, folder: Path, name: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, its output in a log."""
    with (folder / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | environment
        )
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@dataclass(frozen=True, slots=True)
class Space:
    """A running pair."""

    port: int
    storage_port: int
    token: str
    authority: str
    home: str
    dsn: str
    process: psutil.Process

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Give the processes of each part; the database's name the role they serve, so they come first."""
        parts: dict[str, list[psutil.Process]] = {"postgres": [], "metadata": [], "storage": []}
        for child in self.process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = child.cmdline()
                name = next((part for part in parts if any(part in word for word in words)), None)
                if name:
                    parts[name].append(child)
        return parts

    def cpu(self) -> dict[str, float]:
        """Give the CPU seconds that each part has used, processes that ended included where their parent counts."""
        used = {}
        for name, found in self.processes().items():
            used[name] = seconds_of(found)
        return used

    def memory(self) -> dict[str, float]:
        """Give the largest resident size of a process of each part, in MB, since its start."""
        return {name: peak_of(found) for name, found in self.processes().items() if name != "postgres"}


def _seconds(one: psutil.Process) -> float:
    """Give the CPU seconds of a process and of its children that ended."""
    with contextlib.suppress(psutil.Error):
        times = one.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def ceilings_cpu() -> dict[str, float]:
    """Give the CPU seconds of the bare handlers and of nginx, as far as they run."""
    used: dict[str, float] = {}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            name = "bare" if "benchmarks.bare" in words else "nginx" if "nginx" in " ".join(words) else ""
            if name:
                used[name] = used.get(name, 0.0) + _seconds(child)
    return used


def tree(pid: int) -> list[psutil.Process]:
    """Give a process and all below it."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def listening(port: int) -> list[psutil.Process]:
    """Give the processes that listen at a port of this machine, and all below them; none where we may not know."""
    with contextlib.suppress(psutil.Error):
        sockets = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr]
        found = {one.pid for one in sockets if tuple(one.laddr)[-1] == port and one.pid}
        return list({one.pid: one for pid in found for one in tree(pid)}.values())
    return []


def seconds_of(processes: list[psutil.Process]) -> float:
    """Give the CPU seconds that they have used."""
    return sum(map(_seconds, processes))


def peak_of(processes: list[psutil.Process]) -> float:
    """Give the largest resident size of one of them, in MB, since its start."""
    return max((_peak(one.pid) for one in processes if one.is_running()), default=0.0)


def _peak(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextlib.contextmanager
def space(folder: Path, *, workers: int | None = 1, **environment: str) -> Iterator[Space]:
    """Run ``pyvospace up`` on data of its own, with further settings, which tell the workers if `workers` is None."""
    port = free_port(2)
    data = folder / "space"
    command = (sys.executable, "-m", "pyvospace", "up", "--data", str(data), "--port", str(port))
    permitted = {
        # nginx is beside us, where users may not send the service.
        "PYVOSPACE_OUTGOING__ALLOW": "127.0.0.1",
        "PYVOSPACE_OUTGOING__PORTS": "1-65535",
        # All clients are one user, who would soon have to wait.
        "PYVOSPACE_RATES__REQUESTS": "1000000",
        **environment,
    }
    of_both = () if workers is None else ("--workers", str(workers))
    with process(*command, *of_both, folder=folder, name="space", **permitted) as started:
        access = _access(data / "access.env", started, folder / "space.log")
        yield Space(
            port=port,
            storage_port=port + 1,
            token=access["VOSPACE_TOKEN"],
            authority=access["VOSPACE_AUTHORITY"],
            home=access["VOSPACE_HOME"],
            dsn=find_dsn(load(None), data),
            process=psutil.Process(started.pid),
        )


def _access(file: Path, started: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    for _ in range(600):
        if started.poll() is not None:
            raise RuntimeError(f"pyvospace up ended: {log.read_text()[-1000:]}")
        if file.exists():
            pairs = (
                line.removeprefix("export ").split("=", 1) for line in file.read_text().splitlines() if "=" in line
            )
            access = {name: value.strip("'\"") for name, value in pairs}
            with contextlib.suppress(OSError):
                urllib.request.urlopen(access["VOSPACE_URL"] + "/capabilities", timeout=5).close()
                return access
        time.sleep(0.1)
    raise RuntimeError("pyvospace up is not ready")


@contextlib.contextmanager
def bare(folder: Path, dsn: str, *, workers: int = 1) -> Iterator[int]:
    """Run the bare handlers as two servers, as a pair has them; give the first port: the next one is the other's.

    `workers`: processes of each.
    """
    port, files = free_port(2), folder / "bare"
    files.mkdir()
    asyncio.run(_bare_table(dsn))
    with contextlib.ExitStack() as stack:
        for one, worker in itertools.product((port, port + 1), range(workers)):
            command = (sys.executable, "-m", "benchmarks.bare", str(one), dsn, str(files))
            started = stack.enter_context(process(*command, folder=folder, name=f"bare-{one - port}-{worker}"))
            wait_for(one, started)
            while started.poll() is None and not psutil.Process(started.pid).net_connections("tcp"):
                time.sleep(0.05)  # it was another worker that answered
        yield port


async def _bare_table(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "create table if not exists bare (id bigint generated always as identity primary key, t text)"
    )
    await connection.close()


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[int | None]:
    """Run nginx with static files and DAV; give its port, None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    (folder / "files").mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, user=user))
    command = (program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
    with process(*command, folder=folder, name="nginx") as started:
        wait_for(port, started)
        yield port


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[tuple[int, int]]:
    """Run rclone's WebDAV server on a directory; give its port and process."""
    port, files = free_port(), folder / "rclone"
    files.mkdir()
    command = ("rclone", "serve", "webdav", str(files), "--addr", f"127.0.0.1:{port}", "--config", os.devnull)
    with process(*command, folder=folder, name="rclone") as started:
        wait_for(port, started)
        yield port, started.pid


@contextlib.contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """Give a folder on the disk that is measured, emptied at the end."""
    with tempfile.TemporaryDirectory(prefix="pyvospace-benchmark-", dir=parent) as name:
        Path(name).chmod(0o755)
        yield Path(name)
