"""The page on SFTP does what it says to users."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.test_tutorial import blocks_of, run
from tests.doors.conftest import OpenDoor


@pytest.mark.skipif(shutil.which("lftp") is None, reason="left out: there is no lftp (apt-get install lftp)")
def test_page(door: OpenDoor, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VOSPACE_URL": door.pair.url,
        "VOSPACE_TOKEN": door.pair.token,
        "VOSPACE_USER": "alice",
        "SFTP_HOST": "127.0.0.1",
        "SFTP_PORT": str(door.port),
    }
    script = "\n".join(text for _, text in blocks_of("howto/sftp.md"))
    # Nothing of whoever runs the tests.
    script = script.replace("-i id_ed25519 ", "-i id_ed25519 -F /dev/null -o LogLevel=ERROR ")
    assert run([("sh", script)], environment, tmp_path) == 1
