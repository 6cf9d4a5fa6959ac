"""mountvofs of vofs 3.1: a space as a folder of the machine, within the faults that it has with every service.

Not shown, since they fail everywhere: writing to a file that is there already, appending, reading links, and the exit
code of a rename (which works).
"""

from __future__ import annotations

import asyncio
import ctypes.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.machine import BINARIES, Folder, Machine, Outcome
from tests.support.agents import Agent, children_of, node_document
from tests.support.pair import Pair

_MISSING = [
    what
    for what, there in (
        ("libfuse2", ctypes.util.find_library("fuse")),
        ("/dev/fuse", os.access("/dev/fuse", os.R_OK | os.W_OK)),
        ("fusermount, or root", os.geteuid() == 0 or shutil.which("fusermount")),
    )
    if not there
]
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=f"nothing can be mounted here without {', '.join(_MISSING)}")
_PATIENCE = 30.0
_CONFIG = """[vos]
# List of VOSpace services known to vos, one entry per line:
resourceID = ivo://cadc.nrc.ca/vault vos
    ivo://localhost/space my
"""


@dataclass(frozen=True)
class Mount:
    """A container of alice as a folder."""

    machine: Machine
    folder: Folder
    path: Path

    def sh(self, script: str, code: int = 0) -> Outcome:
        """Run a script in it: by others, since a mount that hangs would hold this process for ever."""
        return self.machine.run("sh", "-c", script, code=code, cwd=self.path)


def _unmount(path: Path) -> None:
    program = ["fusermount", "-u", "-z"] if shutil.which("fusermount") else ["umount", "-l"]
    subprocess.run([*program, str(path)], check=False, capture_output=True, timeout=_PATIENCE)


@pytest.fixture
def mount(pair: Pair, folder: Folder, tmp_path: Path) -> Iterator[Mount]:
    home = tmp_path / "home"
    home.mkdir()
    machine = Machine(home, pair.url, pair.authority, pair.token)
    machine.connect()
    (home / ".config/vos/vos-config").write_text(_CONFIG)
    point = tmp_path / "mount"
    point.mkdir()
    options = [
        "--vospace",
        f"my:{folder.path.strip('/')}",
        "--mountpoint",
        str(point),
        "--cache_dir",
        str(home / "cache"),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["mountvofs", "--token", pair.token, *options, "--log", str(home / "vofs.log"), "-f"],
            env={"PATH": f"{BINARIES}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + _PATIENCE
        while str(point) not in Path("/proc/mounts").read_text():
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield Mount(machine, folder, point)
    finally:
        _unmount(point)
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def test_files_and_folders(alice: Agent, mount: Mount) -> None:
    folder = mount.folder
    content = os.urandom(100_000)
    await alice.push(folder.node_path("some.file"), content)
    await alice.send("PUT", f"/nodes{folder.node_path('sub')}", node_document(folder.node_path("sub"), "ContainerNode"))
    assert mount.sh("ls").lines == ["some.file", "sub"]
    assert mount.sh("stat -c '%s %F' some.file sub").lines[0] == "100000 regular file"
    (mount.machine.home / "sent").write_bytes(content)
    mount.sh("cmp some.file ~/sent")
    assert mount.sh("dd if=some.file bs=1000 skip=50 count=2 2>/dev/null | cmp - ~/sent -i 0:50000 -n 2000").out == ""
    mount.sh("cat missing", code=1)
    mount.sh("cp ~/sent sub/new.file && sync")
    mount.sh("mkdir deep && ls deep")
    mount.sh("mv some.file deep/moved || true")
    mount.sh("mkdir gone && rmdir gone")
    mount.sh("printf short > sub/short && rm sub/short")
    end = time.monotonic() + _PATIENCE
    for name, expected in (("sub", ["new.file"]), ("deep", ["moved"])):
        while children_of(await alice.node(folder.node_path(name))) != expected:
            assert time.monotonic() < end, (mount.machine.home / "vofs.log").read_text()[-5000:]
            await asyncio.sleep(0.05)
    assert await alice.pull(folder.node_path("sub", "new.file")) == content
    assert await alice.pull(folder.node_path("deep", "moved")) == content
    assert children_of(await alice.node(folder.path)) == ["deep", "sub"]
    assert mount.sh("ls sub deep").lines == ["deep:", "moved", "", "sub:", "new.file"]
