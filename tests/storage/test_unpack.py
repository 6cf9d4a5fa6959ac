"""The storage server dies in the middle of an archive, with the real database: nothing of it is there, or all."""

import http.client
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, urlencode, urlsplit

import pytest

from pyvospace.model.vocabulary import CORE, TAR_VIEW
from pyvospace.supervisor.data import STORAGE_ROLE
from pyvospace.wire.xml import VOSPACE, XSI
from tests.storage.test_pair import eventually, files, request, restart
from tests.support.pair import Pair, free_ports, running_pair
from tests.support.postgres import PostgresServer

FILES = {f"d{number % 3}/{number}": os.urandom(number * 1000) for number in range(50)} | {"big": os.urandom(2_000_000)}


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Of the servers when they are started next."""
    return {
        "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "0.3",
        "PYVOSPACE_STORAGE__SWEEP_GRACE": "1",
        "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "0.1",
    }


@pytest.fixture(scope="module")
def own_pair(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Iterator[Pair]:
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        data = tmp_path_factory.mktemp("unpack-pair")
        with running_pair(dsn, data, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def folder(pair: Pair, name: str) -> str:
    """Make a container: a lease outlives its server, on each container one."""
    uri = pair.uri(name)
    document = (
        f'<node xmlns="{VOSPACE}" xmlns:vos="{VOSPACE}" xmlns:xsi="{XSI}" xsi:type="vos:ContainerNode" uri="{uri}"/>'
    )
    assert request(pair, "PUT", f"{pair.url}/nodes{pair.home}/{name}", document.encode())[0] == 201
    return uri


def endpoint(pair: Pair, uri: str, direction: str, protocol: str) -> str:
    asked = {"TARGET": uri, "DIRECTION": direction, "PROTOCOL": CORE + protocol, "VIEW": TAR_VIEW}
    connection = http.client.HTTPConnection("localhost", pair.port, timeout=60)
    connection.request(
        "GET", f"/synctrans?{urlencode(asked, quote_via=quote)}", headers={"Authorization": f"Bearer {pair.token}"}
    )
    answer = connection.getresponse()
    assert answer.status == 303, answer.read()
    location = answer.headers["Location"]
    connection.close()
    return location


def contents(pair: Pair, uri: str) -> dict[str, bytes]:
    """Fetch a container as an archive."""
    status, _, body = request(pair, "GET", endpoint(pair, uri, "pullFromVoSpace", "httpsget"))
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        opened = {one.name.partition("/")[2]: tar.extractfile(one) for one in tar if one.isreg()}
        return {name: content.read() for name, content in opened.items() if content is not None}


@pytest.mark.parametrize("point", ["unpack-mid", "before-commit", "after-commit-before-answer"])
def test_server_that_dies(own_pair: Pair, environment: dict[str, str], point: str) -> None:
    before = len(files(own_pair))
    uri = folder(own_pair, point)
    restart(own_pair, environment, crash=point)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        request(own_pair, "PUT", endpoint(own_pair, uri, "pushToVoSpace", "httpsput"), archive())
    assert own_pair.processes["storage"].wait(30) == -signal.SIGKILL
    restart(own_pair, environment)
    expected = FILES if point == "after-commit-before-answer" else {}
    assert contents(own_pair, uri) == expected
    eventually(lambda: len(files(own_pair)) == before + len(expected))
    assert contents(own_pair, uri) == expected


def test_hostile_archive_leaves_no_bytes(own_pair: Pair) -> None:
    there = {path.name for path in files(own_pair)}
    bad = archive()[: -1024 * 20] + b"no tar" * 100
    where = endpoint(own_pair, folder(own_pair, "hostile"), "pushToVoSpace", "httpsput")
    assert request(own_pair, "PUT", where, bad)[0] == 400
    assert {path.name for path in files(own_pair)} == there


def test_archive_that_breaks_off_cuts_the_connection(own_pair: Pair) -> None:
    """Bytes that are damaged: the client sees that it has no whole archive."""
    uri = folder(own_pair, "damaged")
    assert request(own_pair, "PUT", endpoint(own_pair, uri, "pushToVoSpace", "httpsput"), archive())[0] == 201
    damaged = max(files(own_pair), key=lambda path: (path.stat().st_size, path.stat().st_ctime))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    parts = urlsplit(endpoint(own_pair, uri, "pullFromVoSpace", "httpsget"))
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("GET", parts.path)
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()


@pytest.fixture
def second_storage(own_pair: Pair) -> Iterator[int]:
    """Another storage of the same space; its port."""
    (port,) = free_ports(1)
    changed = {
        "PYVOSPACE_STORAGE__PORT": str(port),
        "PYVOSPACE_STORAGE__PUBLIC_URL": f"http://localhost:{port}",
        "PYVOSPACE_STORAGE__PATH": str(own_pair.data / "second"),
    }
    command = [sys.executable, "-m", "pyvospace", "storage"]
    with subprocess.Popen(command, env=own_pair.server_environment() | changed, stdin=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: answers(port))
            yield port
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("localhost", port), timeout=5):
        return True
    return False


def test_bytes_of_another_storage(own_pair: Pair, second_storage: int) -> None:
    """The last test here: for a while the space counts on the storage that has gone."""
    uri = folder(own_pair, "spread")
    used: set[int | None] = set()
    for number in range(40):
        location = request(own_pair, "PUT", f"{own_pair.url}/files{own_pair.home}/spread/{number}")[1]["location"]
        assert request(own_pair, "PUT", location, b"x" * number)[0] == 201
        used.add(urlsplit(location).port)
        if len(used) == 2 and number > 3:
            break
    assert used == {own_pair.storage_port, second_storage}
    for _ in range(4):  # from either storage
        found = contents(own_pair, uri)
        assert found == {str(one): b"x" * one for one in range(number + 1)}
