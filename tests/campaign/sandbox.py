"""Where servers run whose disk and whose network we can break: namespaces and a small disk of their own.

All of it belongs to one process, which holds the namespaces, and is gone with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final

PROGRAMS: Final = ("unshare", "nsenter", "ip", "iptables", "mount", "mkfs.ext4", "fsfreeze", "fallocate")
PACKAGES: Final = "util-linux iproute2 iptables e2fsprogs"
_DISK: Final = "192M"
_PATIENCE: Final = 30.0


class Sandbox:
    """The namespaces, the disk at `disk`, and the two cables ``near`` (clients) and ``wire`` (PostgreSQL)."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk"
        # Others may run campaigns on this machine too.
        net, number = secrets.randbelow(200), 2 * secrets.randbelow(127)
        self._near, self._wire = f"10.{net}.{number}", f"10.{net}.{number + 1}"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "cat"], stdin=subprocess.PIPE
        )
        try:
            self._wait()
            self._make_disk(folder)
            self._lay_cables()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def missing() -> str:
        """Say why there can be none here; empty: there can."""
        if os.geteuid() != 0:
            return "no small disk and no network of its own: that needs root"
        if lacking := [one for one in PROGRAMS if shutil.which(one) is None]:
            return f"no small disk and no network of its own: {', '.join(lacking)} (apt-get install {PACKAGES})"
        probe = ("unshare", "--net", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "probe", "/mnt")
        tried = subprocess.run(probe, check=False, capture_output=True, text=True)
        if tried.returncode or not Path("/dev/loop-control").exists():
            return f"no small disk and no network of its own: {tried.stderr.strip() or 'no loop devices'}"
        return ""

    @property
    def outside(self) -> str:
        """Address of the test and all that is not in the sandbox, seen from there."""
        return f"{self._near}.1"

    @property
    def inside(self) -> str:
        """Address of what is in the sandbox."""
        return f"{self._near}.2"

    @property
    def database(self) -> str:
        """Address of PostgreSQL, by a cable of its own."""
        return f"{self._wire}.1"

    def command(self, *words: str) -> list[str]:
        """Give the command that runs this inside."""
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net", f"--mount=/proc/{self._pid}/ns/mnt", *words]

    def run(self, *words: str) -> bool:
        """Run a program inside; False: it failed."""
        return not subprocess.run(self.command(*words), check=False, capture_output=True, timeout=_PATIENCE).returncode

    def seen(self, path: Path) -> Path:
        """Give a path inside as it is seen from here."""
        return Path(f"/proc/{self._pid}/root{path}")

    def free(self) -> int:
        """Give the bytes that still fit on the disk."""
        found = os.statvfs(self.seen(self.disk))
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Let go of everything."""
        self._holder.communicate()

    @property
    def _pid(self) -> int:
        return self._holder.pid

    def _wait(self) -> None:
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._pid}/ns/net").readlink() == own or self._name() != "cat":
            if self._holder.poll() is not None:
                raise RuntimeError("no namespaces")

    def _name(self) -> str:
        return Path(f"/proc/{self._pid}/comm").read_text().strip()

    def _make_disk(self, folder: Path) -> None:
        image = folder / "disk.img"
        self.disk.mkdir()
        for words in (
            ("truncate", "-s", _DISK, str(image)),
            ("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image)),
            ("mount", "-o", "loop", str(image), str(self.disk)),
        ):
            subprocess.run(self.command(*words), check=True, timeout=_PATIENCE)

    def _lay_cables(self) -> None:
        number = self._pid
        for name, net in (("near", self._near), ("wire", self._wire)):
            outer = f"pv{name[0]}{number}"
            _ip("link", "add", outer, "type", "veth", "peer", "name", name, "netns", str(number))
            _ip("addr", "add", f"{net}.1/24", "dev", outer)
            _ip("link", "set", outer, "up")
            for words in (("addr", "add", f"{net}.2/24", "dev", name), ("link", "set", name, "up")):
                subprocess.run(self.command("ip", *words), check=True, timeout=_PATIENCE)
        subprocess.run(self.command("ip", "link", "set", "lo", "up"), check=True, timeout=_PATIENCE)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=_PATIENCE)
