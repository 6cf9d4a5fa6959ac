"""vos with certificates of users, and with a token that is limited (a password in ~/.netrc: test_vos)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pyvospace.db import identities
from pyvospace.db.bootstrap import new_token
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from pyvospace.service.certificates import canonical_name
from tests.interop.conftest import SecureSpace
from tests.interop.machine import Folder, Machine
from tests.support.certificates import Certificate

EACCES, FORBIDDEN = 13, 403 % 256


@pytest.fixture(scope="module")
def certificate(secure_space: SecureSpace) -> Certificate:
    """Of alice."""
    certificate = secure_space.users.user("Alice Example")

    async def link() -> None:
        database = await Database.connect(secure_space.pair.dsn, secure_space.pair.database)
        name = canonical_name("/C=XX/O=VO/CN=Alice Example")
        await identities.add_identity(database, secure_space.pair.user, "x509", "", name)
        await database.close()

    asyncio.run(link())
    return certificate


@pytest.mark.parametrize("proxy", [False, True])
def test_certificate(
    secure_machine: Machine,
    secure_folder: Folder,
    certificate: Certificate,
    small_file: Path,
    tmp_path: Path,
    proxy: bool,
) -> None:
    """Bytes go to the storage server by https as well, which asks for none."""
    shown = (certificate.proxy() if proxy else certificate).write(tmp_path / "alice.pem")
    options = ("-k", "--certfile", shown)
    alice = replace(secure_machine, token=None)
    alice.vos("vcp", *options, small_file, secure_folder.vos("a"))
    alice.vos("vcp", *options, secure_folder.vos("a"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small_file.read_bytes()
    (line,) = alice.vos("vls", "-l", *options, secure_folder.vos("a")).lines
    assert " alice " in line
    alice.vos("vmkdir", *options, secure_folder.vos("box"))
    alice.vos("vmv", *options, secure_folder.vos("a"), secure_folder.vos("box"))
    alice.vos("vrm", *options, secure_folder.vos("box/a"))


def test_a_certificate_that_is_linked_to_nobody(
    secure_machine: Machine, secure_folder: Folder, secure_space: SecureSpace, tmp_path: Path
) -> None:
    shown = secure_space.users.user("Bea").write(tmp_path / "bea.pem")
    refused = replace(secure_machine, token=None).vos(
        "vls", "-k", "--certfile", shown, secure_folder.vos(), code=EACCES
    )
    assert "CN=bea,O=vo,C=xx" in refused.errors + refused.out


def test_a_limited_token(
    secure_machine: Machine, secure_folder: Folder, secure_space: SecureSpace, small_file: Path, tmp_path: Path
) -> None:
    secret, digest = new_token()

    async def add() -> None:
        database = await Database.connect(secure_space.pair.dsn, secure_space.pair.database)
        scope = Scope.parse([secure_folder.path], ["read", "write"])
        await identities.add_token(database, secure_space.pair.user, "test", digest, None, scope=scope)
        await database.close()

    asyncio.run(add())
    limited = replace(secure_machine, token=secret)
    limited.vos("vcp", "-k", small_file, secure_folder.vos("a"))
    limited.vos("vcp", "-k", secure_folder.vos("a"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small_file.read_bytes()
    above = secure_folder.vos().rstrip("/").rsplit("/", 1)[0]
    assert "this token is not for" in limited.vos("vls", "-k", above, code=FORBIDDEN).errors
    limited.vos("vrm", "-k", secure_folder.vos("a"))
