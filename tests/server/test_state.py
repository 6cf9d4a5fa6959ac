"""The state of the service: read-only, offline, and what /availability says of it (R-VOSI-020 to 024)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent, Answer, transfer_document
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

A = "{http://www.ivoa.net/xml/VOSIAvailability/v1.0}"


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair of our own, of two metadata processes: it is closed here."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path_factory.mktemp("pair"), storage_dsn=storage_dsn, workers=2) as running:
            yield running


@pytest.fixture
async def alice(pair: Pair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Agent(session, pair, pair.token)
        await turn(Agent(session, pair, pair.admin_token), "ReadWrite")


@pytest.fixture
def admin(alice: Agent) -> Agent:
    return Agent(alice.session, alice.pair, alice.pair.admin_token)


@pytest.fixture
def nobody(alice: Agent) -> Agent:
    return Agent(alice.session, alice.pair, None)


async def turn(by: Agent, state: str, more: str = "") -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await by.send("POST", "/availability", f"state={state}{more}", headers=headers)


def assert_closed(answer: Answer, note: str) -> None:
    answer.assert_fault(503, "ServiceBusy")
    assert answer.headers["Retry-After"] == "180"
    assert note in answer.text


async def test_read_only(alice: Agent, admin: Agent) -> None:
    """Whatever would change something is refused, in every process; reading goes on."""
    home = alice.pair.home
    await alice.make(f"{home}/kept")
    await alice.push(f"{home}/kept", b"bytes")
    _, endpoint = await alice.negotiate(f"{home}/kept", "pushToVoSpace")
    answer = await turn(admin, "ReadOnly", "&note=disks+%3Cmove%3E&backAt=2030-01-01T00:00:00Z")
    assert answer.assert_status(303).location == alice.pair.url + "/availability"
    for _ in range(5):  # whichever process answers
        assert_closed(await alice.put(f"{home}/new"), "disks <move>")
        assert_closed(await alice.post(f"{home}/kept", properties={CORE + "title": "t"}), "disks <move>")
        assert_closed(await alice.delete(f"{home}/kept"), "disks <move>")
        assert_closed(await alice.sync(f"{home}/kept", "pushToVoSpace", CORE + "httpsput"), "disks <move>")
        assert await alice.pull(f"{home}/kept") == b"bytes"
        await alice.node(home)
    refused = await alice.send("PUT", endpoint, b"other", checked=False)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "180")
    assert (await alice.send("HEAD", endpoint)).status == 200
    root = (await alice.send("GET", "/availability")).xml
    assert [one.tag for one in root] == [A + "available", A + "upSince", A + "backAt", A + "note"]
    assert [root[0].text, root[2].text, root[3].text] == ["true", "2030-01-01T00:00:00.000Z", "disks <move>"]
    assert (await alice.send("GET", "/availability?detail=min")).body == b""
    await turn(admin, "ReadWrite")
    assert (await alice.send("PUT", endpoint, b"other")).status == 201
    await alice.make(f"{home}/new")


async def test_offline(alice: Agent, admin: Agent, nobody: Agent) -> None:
    """Nothing but VOSI, and the operator's way back."""
    home = alice.pair.home
    await alice.make(f"{home}/data")
    await alice.push(f"{home}/data", b"bytes")
    _, endpoint = await alice.negotiate(f"{home}/data", "pullFromVoSpace")
    await turn(admin, "Offline")
    for _ in range(5):
        for agent in (alice, nobody):
            for path in (
                "/nodes",
                "/synctrans",
                "/transfers",
                "/files/x",
                "/protocols",
                "/views",
                "/properties",
                "/no",
            ):
                assert_closed(await agent.send("GET", path), "offline")
        assert_closed(await alice.send("POST", "/synctrans", transfer_document(home, "x", [])), "offline")
    assert (await alice.send("GET", endpoint, checked=False)).status == 503
    root = (await nobody.send("GET", "/availability")).assert_status(200).xml
    assert [(one.tag, one.text) for one in root] == [(A + "available", "false"), (A + "note", "the service is offline")]
    assert_closed(await nobody.send("GET", "/availability?detail=min"), "offline")
    for path in ("/capabilities", "/livez", "/readyz"):
        (await alice.send("GET", path)).assert_status(200)
    assert (await turn(admin, "ReadWrite")).status == 303
    await alice.node(home)


async def test_only_an_administrator_may(alice: Agent, admin: Agent, nobody: Agent) -> None:
    (await turn(nobody, "Offline")).assert_fault(401, "NotAuthenticated")
    (await turn(alice, "Offline")).assert_fault(403, "PermissionDenied")
    for wrong in ("", "Closed", "Offline&state=ReadOnly", "Offline&backAt=soon", "Offline&note=" + "x" * 3000):
        (await turn(admin, wrong)).assert_fault(400, "InvalidArgument")
    await alice.node(alice.pair.home)
    for method in ("PUT", "DELETE", "PATCH"):
        answer = (await admin.send(method, "/availability")).assert_fault(405, "MethodNotAllowed")
        assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_command(alice: Agent) -> None:
    """What the command changes every process knows at once."""

    def run(*words: str) -> str:
        given = {"PYVOSPACE_DATABASE__DSN": alice.pair.dsn, "PYVOSPACE_DATABASE__CHECK_DURABILITY": "false"}
        command = [sys.executable, "-m", "pyvospace", "state", *words]
        return subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True).stdout

    assert json.loads(run("read-only", "--note", "so it is", "--json")) == {
        "state": "read-only",
        "note": "so it is",
        "down_at": None,
        "back_at": None,
    }
    for _ in range(5):
        assert_closed(await alice.put(f"{alice.pair.home}/command"), "so it is")
    assert run() == "read-only\tso it is\n"
    assert run("read-write", "--down-at", "2030-01-01T00:00:00Z").startswith(
        "read-write\tdownAt=2030-01-01T00:00:00.000Z"
    )
    root = (await alice.send("GET", "/availability")).xml
    assert (root.findtext(A + "available"), root.findtext(A + "downAt")) == ("true", "2030-01-01T00:00:00.000Z")
    await alice.make(f"{alice.pair.home}/command")


async def test_client_address(nobody: Agent) -> None:
    body = (await nobody.send("GET", "/availability")).text
    assert re.search(r"<!-- <clientip>[0-9a-f.:]+</clientip> -->", body)
