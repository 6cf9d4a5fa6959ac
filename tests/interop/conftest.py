"""Two spaces for the clients, plain and with TLS, a machine of a user for each, and files that he has."""

from __future__ import annotations

import asyncio
import ssl
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import trustme
from astropy.io import fits
from astropy.table import Table

from pyvospace.db import identities
from pyvospace.db.passwords import hash_password
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import GROUP_WRITE, IS_PUBLIC
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.interop.machine import Folder, Machine
from tests.support.agents import Agent, node_document
from tests.support.certificates import Authority
from tests.support.pair import PREFIXES, Pair
from tests.support.postgres import PostgresServer

SECURE_AUTHORITY = "archive.example.org~vault"
"""Has the word that makes vos expect another service (D8)."""
_PATIENCE = 30.0


@dataclass(frozen=True)
class SecureSpace:
    """A space with TLS whose servers have a path in their URLs, as behind a proxy."""

    pair: Pair
    url: str
    context: ssl.SSLContext
    authority: Path
    """Certificate of the authority that signed for it."""
    users: Authority
    """Certifies users."""


@pytest.fixture(scope="session")
def secure_space(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureSpace]:
    folder = tmp_path_factory.mktemp("secure")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    users = Authority()
    environment = {
        "PYVOSPACE_METADATA__TLS_CLIENT_CA": str(users.write(folder / "users.pem")),
        "PYVOSPACE_METADATA__TLS_CLIENT_PROXIES": "true",
    }
    with postgres_server.clone() as name:
        pair = Pair(
            postgres_server.dsn(name),
            folder,
            storage_dsn=postgres_server.dsn(name, STORAGE_ROLE),
            environment=environment,
            tls=(folder / "cert.pem", folder / "key.pem"),
            context=context,
            authority=SECURE_AUTHORITY,
        )
        environment["PYVOSPACE_METADATA__PUBLIC_URL"] = f"{pair.url}/space"
        environment["PYVOSPACE_STORAGE__PUBLIC_URL"] = f"{pair.storage_url}/store"
        try:
            pair.start()
            yield SecureSpace(pair, f"{pair.url}/space", context, folder / "ca.pem", users)
        finally:
            pair.stop()


@pytest.fixture(scope="session")
def machine(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine of alice, who uses the plain space."""
    machine = Machine(tmp_path_factory.mktemp("alice"), pair.url, pair.authority, pair.token)
    machine.connect()
    return machine


@pytest.fixture(scope="session")
def stranger(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine of somebody without an account."""
    machine = Machine(tmp_path_factory.mktemp("stranger"), pair.url, pair.authority)
    machine.connect()
    return machine


@pytest.fixture(scope="session")
def secure_machine(secure_space: SecureSpace, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine of alice, who uses the space with TLS and trusts its authority."""
    machine = Machine(
        tmp_path_factory.mktemp("secure-alice"),
        secure_space.url,
        SECURE_AUTHORITY,
        secure_space.pair.token,
        {"SSL_CERT_FILE": str(secure_space.authority), "CURL_CA_BUNDLE": str(secure_space.authority)},
    )
    machine.connect()
    return machine


def make_folder(
    machine: Machine,
    context: ssl.SSLContext | None = None,
    *,
    parent: str = "/home/alice",
    properties: Mapping[str, str] | None = None,
) -> Folder:
    """Make a fresh container."""
    path = f"{parent}/{uuid.uuid4().hex}"
    uri = f"vos://{machine.authority}{path}"
    document = node_document(path, "ContainerNode", uri=uri, properties=properties).encode()
    headers = {"Authorization": f"Bearer {machine.token}", "Content-Type": "text/xml"}
    request = urllib.request.Request(f"{machine.url}/nodes{path}", document, headers, method="PUT")
    with urllib.request.urlopen(request, context=context) as answer:
        assert answer.status == 201
    return Folder(machine, path)


@pytest.fixture
def folder(machine: Machine) -> Folder:
    """A fresh container of alice in the plain space."""
    return make_folder(machine)


@pytest.fixture
def secure_folder(secure_machine: Machine, secure_space: SecureSpace) -> Folder:
    """A fresh container of alice in the space with TLS."""
    return make_folder(secure_machine, secure_space.context)


@dataclass(frozen=True)
class Team:
    """A group of the plain space, with a member who is not alice."""

    member: str
    token: str
    password: str
    group: str


@pytest.fixture(scope="session")
def team(pair: Pair) -> Team:
    """The surveyors; and the hosts, of whom alice is one."""
    found = Team("surveyor", pair.add_user("surveyor"), "correct horse", "surveyors")

    async def add_groups() -> None:
        database = await Database.connect(pair.dsn, pair.database)
        await identities.change_user(database, found.member, password=hash_password(found.password))
        for group, member in ((found.group, found.member), (HOSTS, pair.user)):
            await identities.add_group(database, group)
            await identities.change_member(database, group, member, add=True)
        await database.close()

    asyncio.run(add_groups())
    return found


HOSTS = "hosts"


def make_public_folder(pair: Pair, machine: Machine) -> Folder:
    """Make a container that everybody may read and the hosts may write to, outside of homes, which are private."""
    admin = replace(machine, token=pair.admin_token)
    rights = {IS_PUBLIC: "true", GROUP_WRITE: f"{PREFIXES[0]}{HOSTS}"}
    return replace(make_folder(admin, parent="", properties=rights), machine=machine)


@pytest.fixture
def public_folder(pair: Pair, machine: Machine, team: Team) -> Folder:
    """A fresh container that everybody may read and alice may write to."""
    return make_public_folder(pair, machine)


CROWD = [f"frame{number:04}.fits" for number in range(2500)]
"""More children than any client takes for a page."""


@pytest.fixture(scope="session")
def crowd(pair: Pair, machine: Machine, team: Team) -> Folder:
    """A container with very many children that only alice may read."""
    folder = make_public_folder(pair, machine)

    async def fill() -> None:
        connector = aiohttp.TCPConnector(limit=8)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            alice = Agent(session, pair, pair.token)
            paths = [folder.node_path(name) for name in CROWD]
            for start in range(0, len(paths), 100):
                answers = [
                    alice.send("PUT", f"/nodes{path}", node_document(path), checked=False)
                    for path in paths[start : start + 100]
                ]
                assert {answer.status for answer in await asyncio.gather(*answers)} == {201}

    asyncio.run(fill())
    return folder


def wait_for_log(pair: Pair, text: str) -> None:
    """Wait until the storage server has logged it: lines are gathered before they are written."""
    end = time.monotonic() + _PATIENCE
    while text not in pair.log("storage"):
        assert time.monotonic() < end, f"not logged: {text}"
        time.sleep(0.05)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


@pytest.fixture
def alice(session: aiohttp.ClientSession, pair: Pair) -> Agent:
    """Alice, speaking the protocol herself."""
    return Agent(session, pair, pair.token)


@pytest.fixture
def nobody(session: aiohttp.ClientSession, pair: Pair) -> Agent:
    """Somebody without an account."""
    return Agent(session, pair, None)


@pytest.fixture(scope="session")
def image() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What the image of `fits_file` shows."""
    return np.random.default_rng(1).normal(1000, 30, (840, 840))


@pytest.fixture(scope="session")
def fits_file(
    image: np.ndarray[tuple[int, ...], np.dtype[np.float64]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A FITS file of an observatory: above 5 MiB, so that vos sends no digest with it (T9)."""
    path = tmp_path_factory.mktemp("data") / "ngc1275.fits"
    catalogue = Table({"ra": np.linspace(49.9, 50.0, 500), "dec": np.linspace(41.4, 41.6, 500)})
    exposure = fits.ImageHDU(image, name="SCI")
    exposure.header["EXPTIME"] = 1200.0
    fits.HDUList([fits.PrimaryHDU(), exposure, fits.BinTableHDU(catalogue, name="SOURCES")]).writeto(path)
    assert path.stat().st_size > 5 * 1024**2
    return path


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file below 5 MiB with every byte in it."""
    path = tmp_path_factory.mktemp("data") / "spectrum.bin"
    path.write_bytes(bytes(range(256)) * 400)
    return path
