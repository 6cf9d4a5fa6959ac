"""FITS files that astropy opens where they are, and reads no more of than it needs."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.interop.conftest import wait_for_log
from tests.interop.machine import Folder, Machine
from tests.support.pair import Pair

if TYPE_CHECKING:
    import numpy as np

CUTOUT = """
import fsspec, json, sys, vosfs
from astropy.io import fits
fsspec.register_implementation("vos", vosfs.VOSpaceFileSystem, clobber=True)
with fits.open(sys.argv[1], use_fsspec=True, fsspec_kwargs=json.loads(sys.argv[2])) as file:
    print(file.info(output=False)[1][1], file["SCI"].header["EXPTIME"], len(file["SOURCES"].data))
    print(*file["SCI"].section[100:103, 200:202].ravel())
"""
"""Prints what is in a file of which it reads some headers, a table and six pixels."""

NEGOTIATE = """
import sys
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

class Stay(HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None

asked = {"TARGET": sys.argv[2], "DIRECTION": "pullFromVoSpace", "REQUEST": "redirect",
         "PROTOCOL": "ivo://ivoa.net/vospace/core#httpsget"}
request = Request(f"{sys.argv[1]}/synctrans?{urlencode(asked)}", headers={"Authorization": f"Bearer {sys.argv[3]}"})
try:
    build_opener(Stay).open(request)
except OSError as redirect:
    print(redirect.headers["Location"])
"""
"""Prints a URL for which nobody needs to log in."""


@pytest.fixture
def expected(image: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[str]:
    """What CUTOUT prints."""
    return ["SCI 1200.0 500", " ".join(map(str, image[100:103, 200:202].ravel()))]


@pytest.mark.clause("T14")
@pytest.mark.clause("T15")
def test_url_with_a_token(pair: Pair, machine: Machine, folder: Folder, fits_file: Path, expected: list[str]) -> None:
    name = f"ngc {uuid.uuid4().hex}.fits"
    machine.vos("vcp", fits_file, folder.vos(name))
    options = f'{{"headers": {{"Authorization": "Bearer {machine.token}"}}, "block_size": 65536}}'
    assert machine.python(CUTOUT, folder.file_url(name), options).lines == expected
    wait_for_log(pair, f"{quote(name)} 206 ")
    assert f"GET /files/[token]/{quote(name)} 200 " not in pair.log("storage")


@pytest.mark.clause("T3")
@pytest.mark.clause("T6")
def test_url_that_was_negotiated(machine: Machine, folder: Folder, fits_file: Path, expected: list[str]) -> None:
    machine.vos("vcp", fits_file, folder.vos("a.fits"))
    (url,) = machine.python(NEGOTIATE, machine.url, folder.vos("a.fits"), str(machine.token)).lines
    assert machine.python(CUTOUT, url, "{}").lines == expected


def test_public_url(machine: Machine, public_folder: Folder, fits_file: Path, expected: list[str]) -> None:
    machine.vos("vcp", fits_file, public_folder.vos("a.fits"))
    machine.vos("vchmod", "o+r", public_folder.vos("a.fits"))
    assert machine.python(CUTOUT, public_folder.file_url("a.fits"), "{}").lines == expected


@pytest.mark.clause("T14")
def test_over_vosfs(secure_machine: Machine, secure_folder: Folder, fits_file: Path, expected: list[str]) -> None:
    secure_machine.vos("vcp", "-k", fits_file, secure_folder.vos("a.fits"))
    options = f'{{"endpoint_url": "{secure_machine.url}", "token": "{secure_machine.token}"}}'
    assert secure_machine.python(CUTOUT, f"vos:/{secure_folder.path}/a.fits", options).lines == expected
