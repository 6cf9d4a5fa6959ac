"""A user without any rights of root mounts, works and unmounts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.ordinary import NOBODY, ROOT, libraries, ordinary_python
from tests.support.pair import Pair

_FOR_ALL = """
set -e
mount -t tmpfs none {folder}/dev
mknod {folder}/dev/fuse c 10 229
chmod 666 {folder}/dev/fuse
mount --bind {folder}/dev/fuse /dev/fuse
exec setpriv --reuid {uid} --regid {gid} --clear-groups sh {folder}/work
"""
"""Here /dev/fuse may be for root alone, which it is on nobody's desktop; what is done to it ends with the namespace."""
_WORK = """
set -e
cd {folder}/home
{python} -m pyvospace mount vos: mount
echo written > mount/'a file'
mkdir -p mount/below
mv mount/'a file' mount/below/file
stat -c '%u %U' mount/below/file
{python} -m pyvospace mounts
{python} -m pyvospace unmount mount
test ! -e mount/below
echo unmounted
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can run something as another user")
def test_an_ordinary_user_mounts_in_the_background(pair: Pair, reachable_path: Path) -> None:
    python, folder = ordinary_python(), reachable_path
    for name in ("dev", "home", "home/mount"):
        (folder / name).mkdir()
        shutil.chown(folder / name, NOBODY.uid, NOBODY.gid)
    (folder / "work").write_text(_WORK.format(folder=folder, python=python))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "VOSPACE_URL": pair.url,
        "VOSPACE_TOKEN": pair.add_user("desktop"),
        "VOSPACE_HOME": "/home/desktop",
        **libraries(python),
    }
    script = _FOR_ALL.format(folder=folder, uid=NOBODY.uid, gid=NOBODY.gid)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.startswith(f"{NOBODY.uid} nobody\n")
    assert done.stdout.endswith("unmounted\n")
