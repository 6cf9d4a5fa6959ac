"""curl and wget, which know no VOSpace: one URL for the bytes of a node."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.interop.machine import Folder, Machine

needs_wget = pytest.mark.skipif(shutil.which("wget") is None, reason="wget is not installed")
PARTIAL_FILE = 18
HTTP_ERROR = 22
WGET_SERVER_ERROR, WGET_AUTHENTICATION = 8, 6


@pytest.mark.clause("T15")
@pytest.mark.clause("T17")
def test_curl_there_and_back(machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    """It sends its bytes only when it is told where to, since it waits for 100-continue."""
    url = folder.file_url("ngc1275.fits")
    sent = machine.curl("-v", "-T", fits_file, url)
    assert "Expect: 100-continue" in sent.errors
    assert "HTTP/1.1 307" in sent.errors
    assert "HTTP/1.1 201" in sent.errors
    machine.curl("-OJ", url, cwd=tmp_path)
    assert (tmp_path / "ngc1275.fits").read_bytes() == fits_file.read_bytes()
    machine.curl("-T", "/dev/null", url)
    machine.curl("-o", "empty", url, cwd=tmp_path)
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.clause("T18")
def test_curl_from_a_pipe(machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    url = folder.file_url("a.fits")
    script = f'cat {fits_file} | curl -sS -L --fail -H "{machine.bearer}" -T - {url}'
    machine.run("bash", "-c", script)
    machine.curl("-o", "a.fits", url, cwd=tmp_path)
    assert (tmp_path / "a.fits").read_bytes() == fits_file.read_bytes()


@pytest.mark.clause("T13")
@pytest.mark.parametrize(("name", "saved"), [("two words.txt", "two words.txt"), ("naïve 100%.txt", "na_ve 100_.txt")])
def test_names_that_curl_saves(
    machine: Machine, folder: Folder, small_file: Path, tmp_path: Path, name: str, saved: str
) -> None:
    """It reads the plain form of the name only."""
    machine.curl("-T", small_file, folder.file_url(name))
    machine.curl("-OJ", folder.file_url(name), cwd=tmp_path)
    assert (tmp_path / saved).read_bytes() == small_file.read_bytes()


@pytest.mark.clause("T14")
def test_curl_continues(machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    content, part = fits_file.read_bytes(), tmp_path / "a.fits"
    machine.curl("-T", fits_file, folder.file_url("a.fits"))
    part.write_bytes(content[:1_000_000])
    said = machine.curl("-v", "-C", "-", "-o", part, folder.file_url("a.fits")).errors
    assert "HTTP/1.1 206" in said
    assert part.read_bytes() == content
    machine.curl("-r", "2880-2959", "-o", "card", folder.file_url("a.fits"), cwd=tmp_path)
    assert (tmp_path / "card").read_bytes() == content[2880:2960]


def test_curl_and_conditions(machine: Machine, folder: Folder, small_file: Path, tmp_path: Path) -> None:
    """It fetches nothing that it has already."""
    url = folder.file_url("a")
    machine.curl("-T", small_file, url)
    for status in ("200", "304"):
        options = ["--etag-save", "tag", "--etag-compare", "tag", "-o", "a", "-w", "%{http_code}"]
        assert machine.curl(*options, url, cwd=tmp_path).out == status
    assert (tmp_path / "a").read_bytes() == small_file.read_bytes()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "NodeNotFound"),
        (["-T", "/dev/null", "-X", "PUT"], "ContainerNotFound"),
        (["-H", "Authorization: Bearer wrong"], "NotAuthenticated"),
        (["-T", "/dev/null", "-H", "Authorization:"], "NotAuthenticated"),
    ],
)
def test_curl_is_told_why_not(machine: Machine, folder: Folder, words: list[str], text: str) -> None:
    url = folder.file_url("missing", "a")
    login = [] if "-H" in words else ["-H", machine.bearer]
    said = machine.run("curl", "-sS", "-L", "--fail-with-body", *login, *words, url, code=HTTP_ERROR)
    assert said.out.startswith(text)


def test_curl_over_tls(secure_machine: Machine, secure_folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    url = secure_folder.file_url("a.fits")
    secure_machine.curl("-T", fits_file, url)
    secure_machine.curl("-o", "a.fits", url, cwd=tmp_path)
    assert (tmp_path / "a.fits").read_bytes() == fits_file.read_bytes()


@needs_wget
@pytest.mark.clause("T14")
@pytest.mark.clause("T15")
def test_wget(machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    content, saved = fits_file.read_bytes(), tmp_path / "a.fits"
    machine.curl("-T", fits_file, folder.file_url("a.fits"))
    command = ["wget", "-nv", "--header", machine.bearer]
    machine.run(*command, folder.file_url("a.fits"), cwd=tmp_path)
    assert saved.read_bytes() == content
    saved.write_bytes(content[:1_000_000])
    machine.run(*command, "-c", folder.file_url("a.fits"), cwd=tmp_path)
    assert saved.read_bytes() == content
    machine.run(*command, folder.file_url("missing"), code=WGET_SERVER_ERROR)
    machine.run("wget", "-nv", folder.file_url("a.fits"), code=WGET_AUTHENTICATION)


@needs_wget
@pytest.mark.clause("T13")
def test_name_that_wget_saves(machine: Machine, folder: Folder, small_file: Path, tmp_path: Path) -> None:
    machine.curl("-T", small_file, folder.file_url("naïve 100%.txt"))
    command = ["wget", "-nv", "--content-disposition", "--header", machine.bearer]
    machine.run(*command, folder.file_url("naïve 100%.txt"), cwd=tmp_path)
    assert (tmp_path / "naïve 100%.txt").read_bytes() == small_file.read_bytes()
