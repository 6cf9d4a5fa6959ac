"""The storage server with the real database: killed at each crash point, swept, and asked for odd things."""

import asyncio
import http.client
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pyvospace.model.crash import UPLOAD_POINTS, VARIABLE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

OLD = b"old bytes"
done: set[str] = set()
"""Nodes of `own_pair` with bytes."""


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
        data = tmp_path_factory.mktemp("storage-pair")
        with running_pair(dsn, data, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


def request(pair: Pair, method: str, url: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    """Ask, with the user's token, and do not follow redirects."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request(method, parts.path, body, {"Authorization": f"Bearer {pair.token}"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def endpoint(pair: Pair, method: str, name: str) -> str:
    status, headers, body = request(pair, method, f"{pair.url}/files{pair.home}/{name}")
    assert status in {303, 307}, body
    return headers["location"]


def put(pair: Pair, name: str, data: bytes) -> int:
    return request(pair, "PUT", endpoint(pair, "PUT", name), data)[0]


def get(pair: Pair, name: str) -> bytes:
    status, _, body = request(pair, "GET", endpoint(pair, "GET", name))
    assert status == 200
    return body


def files(pair: Pair) -> list[Path]:
    return [path for path in (pair.data / "storage").rglob("*") if path.is_file() and path.name != "storage.json"]


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came true")


def settled(pair: Pair) -> None:
    """Wait until the sweep has left one file for each node with bytes."""
    try:
        eventually(lambda: len(files(pair)) == len(done))
    except AssertionError:
        pytest.fail(f"{len(done)} nodes, but {files(pair)}\n{pair.log('storage')[-3000:]}")


def restart(pair: Pair, environment: dict[str, str], crash: str = "") -> None:
    environment[VARIABLE] = crash
    if pair.processes["storage"].poll() is None:
        pair.processes["storage"].send_signal(signal.SIGTERM)
    pair.processes["storage"].wait(30)
    pair.start("storage")


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("point", sorted(UPLOAD_POINTS))
def test_server_that_dies_during_an_upload(own_pair: Pair, environment: dict[str, str], point: str, size: int) -> None:
    """What was acknowledged stays, what was not leaves nothing behind."""
    new, name = os.urandom(size), f"{point}-{size}"
    assert put(own_pair, name, OLD) == 201
    done.add(name)
    settled(own_pair)
    restart(own_pair, environment, crash=point)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        put(own_pair, name, new)
    assert own_pair.processes["storage"].wait(30) == -signal.SIGKILL
    restart(own_pair, environment)
    assert get(own_pair, name) == (new if point == "after-commit-before-answer" else OLD)
    settled(own_pair)
    assert get(own_pair, name) == (new if point == "after-commit-before-answer" else OLD)


def test_server_that_dies_during_a_sweep(own_pair: Pair, environment: dict[str, str]) -> None:
    restart(own_pair, environment, crash="gc-row-deleted")
    assert put(own_pair, "swept", OLD) == 201
    assert put(own_pair, "swept", b"new") == 201
    done.add("swept")
    assert own_pair.processes["storage"].wait(30) == -signal.SIGKILL
    restart(own_pair, environment)
    settled(own_pair)
    assert get(own_pair, "swept") == b"new"


def test_endpoints_of_others_are_refused(own_pair: Pair) -> None:
    assert put(own_pair, "refused", OLD) == 201
    done.add("refused")
    reading, writing = endpoint(own_pair, "GET", "refused"), endpoint(own_pair, "PUT", "refused")
    assert request(own_pair, "PUT", reading, b"x")[0] == 403
    assert request(own_pair, "GET", writing)[0] == 403
    assert request(own_pair, "DELETE", writing)[0] == 405
    head, dot, signature = reading.partition("/refused")
    assert request(own_pair, "GET", f"{head[:-3]}AAA{dot}{signature}")[0] == 403
    assert request(own_pair, "HEAD", writing)[1]["digest"].startswith("md5=")
    assert get(own_pair, "refused") == OLD


@pytest.mark.parametrize(
    "token", ["x", "a.b.c", "..", "%00", "%FF%FE", "%C3%A9.%C3%A9.x", "e" * 5000, "eyJhbGciOiJub25lIn0.e30."]
)
def test_what_is_no_token(own_pair: Pair, token: str) -> None:
    for method, body in (("GET", None), ("HEAD", None), ("PUT", b"x")):
        status, _, _ = request(own_pair, method, f"{own_pair.storage_url}/files/{token}/x", body)
        assert status in {400, 403, 404}


@pytest.mark.parametrize(
    "name", ["Content-Type", "Digest", "Content-MD5", "If-Match", "If-None-Match", "Expect", "X-Total-Length"]
)
def test_odd_headers(own_pair: Pair, name: str) -> None:
    """Whatever stands in them, it is a fault of the client or none at all."""
    done.add(name)
    assert put(own_pair, name, OLD) == 201
    url = urlsplit(endpoint(own_pair, "PUT", name))
    for value in ("\xe9", '"', "W/", "*" * 3000, "=", "\x7f", "-1", "9" * 400):
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        connection.request("PUT", url.path, b"x", {name: value})
        status = connection.getresponse().status
        connection.close()
        assert status in {201, 400, 409, 412, 417}, value


def test_tokens_do_not_stand_in_logs(own_pair: Pair) -> None:
    assert put(own_pair, "logged", OLD) == 201
    done.add("logged")
    url = endpoint(own_pair, "GET", "logged")
    request(own_pair, "GET", url)
    token = url.split("/files/")[1].split("/")[0]
    eventually(lambda: "GET /files/[token]/logged" in own_pair.log("storage"))
    for name in ("metadata", "storage"):
        assert token not in own_pair.log(name)


async def test_transfers_at_the_same_time(own_pair: Pair) -> None:
    """Each reader sees one whole version while writers follow each other."""
    versions = [bytes([number]) * 300_000 for number in range(6)]
    assert put(own_pair, "shared", versions[0]) == 201
    done.add("shared")

    async def read() -> None:
        for _ in range(10):
            assert await asyncio.to_thread(get, own_pair, "shared") in versions

    async def write() -> None:
        for version in versions:
            assert await asyncio.to_thread(put, own_pair, "shared", version) == 201

    await asyncio.gather(write(), read(), read())
    assert get(own_pair, "shared") == versions[-1]
    settled(own_pair)
