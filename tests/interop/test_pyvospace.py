"""pyvospace's own command line beside the other clients: what one has written all can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.machine import Folder, Machine

NODE_NOT_FOUND = 3
VOSFS = """
import os, sys, vosfs
fs = vosfs.VOSpaceFileSystem(endpoint_url=os.environ["VOSPACE_URL"], token=os.environ["VOSPACE_TOKEN"])
getattr(fs, sys.argv[1])(sys.argv[2], sys.argv[3])
"""


def with_access(machine: Machine) -> Machine:
    """Give the machine of somebody who has sourced access.env."""
    access = {
        "VOSPACE_URL": machine.url,
        "VOSPACE_AUTHORITY": machine.authority,
        "VOSPACE_USER": "alice",
        "VOSPACE_TOKEN": str(machine.token),
        "VOSPACE_HOME": "/home/alice",
    }
    return replace(machine, environment={**machine.environment, **access})


def short(folder: Folder, *names: str) -> str:
    """Write a URI that begins in the home."""
    return "vos:" + "/".join([folder.path.removeprefix("/home/alice/"), *names])


def test_fits_file_there_and_back(machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    user, remote = with_access(machine), short(folder, fits_file.name)
    user.run("pyvospace", "cp", fits_file, short(folder))
    assert fits_file.name in user.run("pyvospace", "ls", short(folder)).out
    user.run("pyvospace", "cp", remote, tmp_path)
    assert (tmp_path / fits_file.name).read_bytes() == fits_file.read_bytes()
    user.run("pyvospace", "rm", remote)
    assert "NodeNotFound" in user.run("pyvospace", "ls", remote, code=NODE_NOT_FOUND).errors


@pytest.fixture
def writers(secure_machine: Machine, secure_folder: Folder) -> dict[str, Callable[[Path, str], object]]:
    """How each client brings a file to a node."""
    user = with_access(secure_machine)
    return {
        "pyvospace": lambda path, name: user.run("pyvospace", "cp", path, short(secure_folder, name)),
        "vos": lambda path, name: user.vos("vcp", "-k", path, secure_folder.vos(name)),
        "curl": lambda path, name: user.curl("-T", path, secure_folder.file_url(name)),
        "vosfs": lambda path, name: user.python(VOSFS, "put_file", path, f"{secure_folder.path}/{name}"),
    }


@pytest.fixture
def readers(secure_machine: Machine, secure_folder: Folder) -> dict[str, Callable[[str, Path], object]]:
    """How each client brings a node to a file."""
    user = with_access(secure_machine)
    return {
        "pyvospace": lambda name, path: user.run("pyvospace", "cp", short(secure_folder, name), path),
        "vos": lambda name, path: user.vos("vcp", "-k", secure_folder.vos(name), path),
        "curl": lambda name, path: user.curl("-o", path, secure_folder.file_url(name)),
        "vosfs": lambda name, path: user.python(VOSFS, "get_file", f"{secure_folder.path}/{name}", path),
    }


@pytest.mark.parametrize("client", ["pyvospace", "vos", "curl", "vosfs"])
def test_what_one_client_writes_all_read(
    client: str,
    writers: dict[str, Callable[[Path, str], object]],
    readers: dict[str, Callable[[str, Path], object]],
    fits_file: Path,
    tmp_path: Path,
) -> None:
    writers[client](fits_file, "naïve name.fits")
    for reader, read in readers.items():
        read("naïve name.fits", tmp_path / reader)
        assert (tmp_path / reader).read_bytes() == fits_file.read_bytes(), reader
