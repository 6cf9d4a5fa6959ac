"""What the service tells of itself: VOSI, /protocols, /views, /properties (R-META, R-VOSI, R-AUTH, D1 to D8)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from pyvospace.model.vocabulary import (
    ANY_VIEW,
    BINARY_VIEW,
    CORE,
    DEFAULT_VIEW,
    PACKAGE_VIEW,
    PUBLIC_SHARE,
    TAR_GZ_VIEW,
    TAR_VIEW,
    TUS,
    ZIP_VIEW,
)
from pyvospace.structures.fits import Fits
from pyvospace.structures.votable import VOTable
from pyvospace.supervisor.data import DATABASE
from pyvospace.wire.xml import V
from tests.server.conftest import Space
from tests.support.agents import Agent, endpoints_of
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

VOSI = "ivo://ivoa.net/std/VOSI#"
STD = "ivo://ivoa.net/std/VOSpace"
EXPECTED = {
    VOSI + "capabilities": ("/capabilities", "full"),
    VOSI + "availability": ("/availability", "full"),
    STD + "/v2.0#nodes": ("/nodes", "base"),
    STD + "/v2.0#transfers": ("/transfers", "base"),
    STD + "#sync-2.1": ("/synctrans", "full"),
    STD + "/v2.0#sync": ("/synctrans", "full"),
    STD + "/v2.0#views": ("/views", "full"),
    PACKAGE_VIEW: ("/pkg", "full"),
    STD + "/v2.0#protocols": ("/protocols", "full"),
    STD + "/v2.0#properties": ("/properties", "full"),
    STD + "#files-proto": ("/files", "base"),
    STD + "#recursive-delete-proto": ("/async-delete", "full"),
    STD + "#recursive-nodeprops-proto": ("/async-setprops", "full"),
    "ivo://pyvospace/std/search#sync-1.0": ("/search", "full"),
    "ivo://pyvospace/std/search#async-1.0": ("/searches", "full"),
    "ivo://pyvospace/std/permissions#1.0": ("/permissions", "full"),
    "ivo://pyvospace/std/audit#1.0": ("/audit", "full"),
    "ivo://pyvospace/std/entries#1.0": ("/entries", "base"),
    "ivo://pyvospace/std/versions#1.0": ("/versions", "base"),
    "ivo://pyvospace/std/recalls#1.0": ("/recalls", "full"),
    "ivo://ivoa.net/std/GMS#search-1.0": ("/gms/search", "full"),
    "ivo://ivoa.net/sso#tls-with-password": ("/login", "full"),
}
BYTES_IN = [ANY_VIEW, BINARY_VIEW, DEFAULT_VIEW]
BYTES_OUT = [DEFAULT_VIEW, BINARY_VIEW]
ARCHIVES = [TAR_VIEW, TAR_GZ_VIEW, ZIP_VIEW]
PUBLIC_RESOURCES = ("/capabilities", "/availability", "/protocols", "/views", "/properties")


async def test_capabilities(nobody: Agent, pair: Pair) -> None:
    answer = (await nobody.send("GET", "/capabilities")).assert_status(200)
    root = answer.xml
    found = {one.get("standardID"): one for one in root}
    assert found.keys() == EXPECTED.keys()
    for standard, (path, use) in EXPECTED.items():
        for interface in found[standard].iterfind("interface"):
            url = interface.find("accessURL")
            assert url is not None
            assert (url.text, url.get("use")) == (pair.url + path, use)
            assert interface.get("role") == "std"
            assert (interface.get("{http://www.w3.org/2001/XMLSchema-instance}type") or "").endswith(":ParamHTTP")
    own = found[VOSI + "capabilities"]
    assert own.find("interface/securityMethod") is None
    # An interface for each way to log in, and the anonymous one first (VOResource 1.1; R-AUTH-003, D5).
    for resource in ("/v2.0#nodes", "/v2.0#transfers", "#sync-2.1", "#files-proto"):
        methods = [
            [one.get("standardID") for one in interface.iterfind("securityMethod")]
            for interface in found[STD + resource].iterfind("interface")
        ]
        assert methods == [[], ["ivo://ivoa.net/sso#token"], ["ivo://ivoa.net/sso#BasicAA"]]
    assert parsedate_to_datetime(answer.headers["Last-Modified"]) is not None
    assert (await nobody.send("HEAD", "/capabilities")).headers["Last-Modified"]


async def test_what_is_registered_is_there(space: Space, nobody: Agent) -> None:
    root = (await nobody.send("GET", "/capabilities")).xml
    for url in {one.findtext("interface/accessURL") or "" for one in root}:
        answer = await space.agent("alice").send("GET", url)
        assert answer.status in {200, 400, 405}, url  # /synctrans wants parameters, /files a file, /transfers a job


async def test_availability(nobody: Agent) -> None:
    root = (await nobody.send("GET", "/availability")).assert_status(200).xml
    space = root.tag.partition("}")[0] + "}"
    assert [one.tag for one in root] == [space + "available", space + "upSince"]
    assert root.findtext(space + "available") == "true"


async def test_protocols(nobody: Agent) -> None:
    root = (await nobody.send("GET", "/protocols")).assert_status(200).xml
    assert [one.tag for one in root] == [V + "accepts", V + "provides"]
    http = {CORE + name for name in ("httpget", "httpput", "httpsget", "httpsput")}
    accepts, provides = ({one.get("uri") for one in offers} for offers in root)
    assert accepts == http
    assert provides == http | {PUBLIC_SHARE, TUS}


async def test_what_the_protocols_say_is_true(alice: Agent, folder: str) -> None:
    root = (await alice.send("GET", "/protocols")).xml
    await alice.push(f"{folder}/a", b"x")
    # Uploads of TUS begin in a way of their own: tests/storage/test_tus.py.
    for uri in {one.get("uri") or "" for one in root[1]} - {TUS}:
        direction = "pushToVoSpace" if uri.endswith("put") else "pullFromVoSpace"
        _, endpoint = await alice.negotiate(f"{folder}/a", direction, uri)
        method = "PUT" if uri.endswith("put") else "GET"
        assert (await alice.send(method, endpoint, None if method == "GET" else b"x")).status in {200, 201}


async def test_views(alice: Agent, nobody: Agent, folder: str) -> None:
    root = (await nobody.send("GET", "/views")).assert_status(200).xml
    computed = [view.uri for kind in (Fits, VOTable) for view in kind.views]
    assert [one.get("uri") for one in root[0]] == [*BYTES_IN, *ARCHIVES, Fits.import_view, VOTable.import_view]
    assert [one.get("uri") for one in root[1]] == [*BYTES_OUT, *ARCHIVES, PACKAGE_VIEW, *computed]
    await alice.push(f"{folder}/a", b"x")
    for direction, protocol, views in (
        ("pushToVoSpace", "httpsput", BYTES_IN),
        ("pullFromVoSpace", "httpsget", BYTES_OUT),
    ):
        for view in views:
            answer = await alice.sync(f"{folder}/a", direction, CORE + protocol, view=view)
            assert endpoints_of((await alice.send("GET", answer.location)).xml)


async def test_properties(alice: Agent, nobody: Agent, folder: str) -> None:
    root = (await nobody.send("GET", "/properties")).assert_status(200).xml
    assert [one.tag for one in root] == [V + name for name in ("accepts", "provides", "contains")]
    accepted = [one.get("uri") or "" for one in root[0]]
    # What the list says is true: each of them can be set on a node.
    values = {
        uri: "" if uri.endswith(("read", "write", "Permissions", "public", "locked", "immutable")) else "v"
        for uri in accepted
    }
    await alice.make(f"{folder}/a", properties=values)


@pytest.mark.parametrize("path", PUBLIC_RESOURCES)
async def test_read_only_and_head(nobody: Agent, path: str) -> None:
    assert (await nobody.send("HEAD", path)).assert_status(200).body == b""
    allowed = ["GET", "HEAD", *(["POST"] if path == "/availability" else [])]
    for method in {"PUT", "POST", "DELETE", "PATCH", "OPTIONS"} - set(allowed):
        answer = (await nobody.send(method, path)).assert_fault(405, "MethodNotAllowed")
        assert answer.headers["Allow"] == ", ".join(allowed)


async def test_challenges_only_where_they_belong(nobody: Agent, alice: Agent) -> None:
    """Of the capabilities, and of them alone, who has not logged in learns that he may (SSO 2.1; R-AUTH-017)."""
    for agent in (nobody, alice):
        for path in PUBLIC_RESOURCES:
            for method in ("GET", "HEAD"):
                answer = await agent.send(method, path)
                told = (
                    ["Bearer", "ivoa_bearer", "ivoa_bearer", "Basic"]
                    if (agent, path) == (nobody, "/capabilities")
                    else []
                )
                assert (answer.status, [one.split()[0] for one in answer.challenges]) == (200, told)


@pytest.fixture
def orphan(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    """A pair whose database has gone."""
    name = f"gone_{uuid.uuid4().hex}"
    postgres_server.execute(f"create database {name} template {DATABASE} owner {DATABASE} strategy file_copy")
    with running_pair(postgres_server.dsn(name), tmp_path) as running:
        postgres_server.execute(f"drop database {name} with (force)")
        yield running


async def test_without_a_database(orphan: Pair, session: aiohttp.ClientSession) -> None:
    """The service says so itself, with a status of success, to callers with credentials too (R-VOSI-022)."""
    for agent in (Agent(session, orphan, None), Agent(session, orphan, orphan.token)):
        root = (await agent.send("GET", "/availability")).assert_status(200).xml
        assert [one.text for one in root] == ["false", "the database does not answer"]
        (await agent.send("GET", "/capabilities")).assert_status(200)
        (await agent.send("GET", "/livez")).assert_status(200)
        for path in ("/availability?detail=min", "/readyz", "/nodes"):
            (await agent.send("GET", path)).assert_fault(503, "ServiceBusy")
