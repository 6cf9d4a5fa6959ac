"""The commands mount, unmount and mounts: refusals in plain words, the background, and what is left unsent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvospace.cli.mount_helper import command_of
from pyvospace.fuse.notify import notify
from tests.support.commands import Done, run_here
from tests.support.pair import Pair


class Desk:
    """Runs commands as a user does, with a cache of his own."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.place = folder / "mount point"
        self.place.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "VOSPACE_URL": pair.url,
            "VOSPACE_TOKEN": pair.token,
            "VOSPACE_HOME": pair.home,
        }

    def __call__(self, *words: str) -> Done:
        return run_here(*words, environment=self.environment)

    def sent(self, name: str) -> bytes:
        """Give what the space has."""
        copy = self.place.parent / "copy"
        assert self("cp", f"vos:{name}", str(copy)).returncode == 0
        return copy.read_bytes()


@pytest.fixture
def desk(pair: Pair, tmp_path: Path) -> Iterator[Desk]:
    if not os.access("/dev/fuse", os.F_OK):
        pytest.skip("no /dev/fuse: nothing can be mounted here")
    made = Desk(pair, tmp_path)
    yield made
    if made.place.is_mount():
        subprocess.run(["fusermount3", "-u", "-z", str(made.place)], check=True)


def test_refusals(desk: Desk, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    place = str(desk.place)
    told = {
        "no such directory": desk("mount", "vos:", str(tmp_path / "missing")),
        "is no directory": desk("mount", "vos:", str(tmp_path / "file")),
        "is not empty": desk("mount", "vos:", str(tmp_path / "full")),
        "is no URI": desk("mount", "home", place),
        "NodeNotFound": desk("mount", "vos:missing", place),
        "is no umask": desk("mount", "vos:", place, "--umask", "888"),
        "is no size": desk("mount", "vos:", place, "--cache-size", "much"),
        "no space is mounted": desk("unmount", place),
        "ServiceUnreachable": desk("mount", "vos:", place, "--url", "http://127.0.0.1:9", "--token", "x", "-f"),
    }
    for words, done in told.items():
        assert words in done.stderr
        assert len(done.stderr.splitlines()) <= 2, done.stderr  # with a hint
        assert done.returncode != 0
    assert desk("mounts") == Done(0, "", "")


def test_without_pyfuse3(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.cli.mount_actions.find_spec", lambda _: None)
    done = desk("mount", "vos:", str(desk.place))
    assert "pip install pyvospace[fuse]" in done.stderr
    assert done.returncode == 2


def test_where_fuse_is_for_root_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    may = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != "/dev/fuse" and may(path, mode))
    assert "chmod 666" in desk("mount", "vos:", str(desk.place)).stderr


def test_in_the_background(desk: Desk, pair: Pair) -> None:
    place = str(desk.place)
    assert desk("mount", "vos:", place, "--write-back", "60") == Done(0, "", "")
    assert "is mounted already" in desk("mount", "vos:", place).stderr
    (desk.place / "by mount").write_bytes(b"unsent")
    listed = json.loads(desk("mounts", "--json").stdout)
    assert listed["directory"] == place
    assert listed["unsent"] == [{"path": "by mount", "size": 6, "failure": None}]
    assert "1 file (6) unsent" in desk("mounts").stdout
    with (desk.place / "by mount").open("rb"):
        assert "is in use" in desk("unmount", place).stderr
    assert desk("unmount", place) == Done(0, "", "")
    assert desk.sent("by mount") == b"unsent"
    assert desk("mounts").stdout == ""
    assert not list(desk.place.iterdir())


def test_what_the_space_refuses_is_told_at_the_end_and_kept(desk: Desk) -> None:
    place = str(desk.place)
    assert desk("mkdir", "vos:parent").returncode == 0
    assert desk("mount", "vos:parent", place, "--write-back", "60").returncode == 0
    (desk.place / "orphan").write_bytes(b"whose folder has gone")
    assert desk("rm", "-r", "vos:parent").returncode == 0
    done = desk("unmount", place)
    assert done.returncode == 1
    assert "not sent: /orphan (21)" in done.stderr
    assert "sent by the next mount of this space" in done.stderr
    assert not desk.place.is_mount()


def test_after_a_kill(desk: Desk) -> None:
    place = str(desk.place)
    assert desk("mount", "vos:", place, "--write-back", "60").returncode == 0
    (desk.place / "survivor").write_bytes(b"here")
    pid = json.loads(desk("mounts", "--json").stdout)["pid"]
    os.kill(pid, 9)
    done = desk("mount", "vos:", place)
    assert "was left behind" in done.stderr
    assert done.returncode == 0
    assert (desk.place / "survivor").read_bytes() == b"here"
    assert desk("unmount", place).returncode == 0
    assert desk.sent("survivor") == b"here"


def test_a_signal_unmounts_and_sends(desk: Desk) -> None:
    assert desk("mount", "vos:", str(desk.place), "--write-back", "60").returncode == 0
    (desk.place / "late").write_bytes(b"sent all the same")
    os.kill(json.loads(desk("mounts", "--json").stdout)["pid"], 15)
    end = time.monotonic() + 30
    while desk("mounts").stdout and time.monotonic() < end:
        time.sleep(0.1)
    assert not desk.place.is_mount()
    assert desk.sent("late") == b"sent all the same"


def test_a_line_of_fstab(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOSPACE_CLIENT_CONFIG", "")
    words = command_of("vos:", "/mnt", "rw,noauto,_netdev,x-systemd.automount,config=/etc/c,cache_size=5G,allow_other")
    assert words == ["mount", "--cache-size", "5G", "--allow-other", "vos:", "/mnt"]
    assert os.environ["VOSPACE_CLIENT_CONFIG"] == "/etc/c"
    assert "No such option" in desk(*command_of("vos:", str(desk.place), "nonsense")).stderr


def test_nobody_is_notified_without_a_manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        notify("READY=1", "STATUS=Mounted")
        assert manager.recv(100) == b"READY=1\nSTATUS=Mounted"


def test_what_ended_mounts_have_left_is_told(desk: Desk, tmp_path: Path) -> None:
    changes = tmp_path / ".cache/pyvospace/mounts/space/0/changes"
    changes.mkdir(parents=True)
    assert desk("mounts").stdout == ""
    (changes / "00000001-two words.txt").write_bytes(b"12345")
    shown = desk("mounts").stdout
    assert "1 file (5)" in shown
    assert str(changes.parent) in shown
    told = json.loads(desk("mounts", "--json").stdout)
    assert (told["uri"], told["unsent"]) == (None, [{"path": "two words.txt", "size": 5, "failure": None}])
