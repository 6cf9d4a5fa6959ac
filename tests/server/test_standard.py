"""Sentences of the standards that no operation has to itself."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pyvospace.config import Settings
from pyvospace.config.settings import LogSettings
from pyvospace.db import identities
from pyvospace.db.bootstrap import add_user, set_up
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.server.app import make_app
from tests.support.agents import Agent, children_of, node_document, properties_of, transfer_document, uri_of
from tests.support.jobs import FORM, make_job, run_job

PULL, GET = "pullFromVoSpace", CORE + "httpsget"
DETAILS = "/results/transferDetails"


@pytest.fixture
async def broken(
    database: Database, database_settings: Settings
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """A service whose table of nodes is gone; alice talks to it."""
    await set_up(database, authority="localhost~space", group_prefixes=[])
    await add_user(database, "alice")
    await identities.add_token(database, "alice", "test", hashlib.sha256(b"token").digest(), None)
    app = make_app(database_settings.model_copy(update={"log": LogSettings(level="error")}), database)
    headers = {"Authorization": "Bearer token"}
    async with TestClient(TestServer(app), headers=headers) as client:
        await database.fetchrow("alter table nodes rename to lost")
        yield client


async def test_failure_of_the_service(broken: TestClient[web.Request, web.Application]) -> None:
    """It is 500 InternalFault in every operation, and tells nothing of what is inside (section 6)."""
    document = node_document("/home/alice/a", properties={"urn:x": "y"})
    for method, path, body in (
        ("PUT", "/nodes/home/alice/a", document),
        ("POST", "/nodes/home/alice/a", document),
        ("GET", "/nodes/home/alice/a", None),
        ("DELETE", "/nodes/home/alice/a", None),
        ("GET", "/properties", None),
        ("GET", "/files/home/alice/a", None),
        ("GET", f"/synctrans?TARGET={uri_of('/home/alice/a')}&DIRECTION={PULL}&PROTOCOL={quote(GET)}", None),
    ):
        content_type = {} if body is None else {"Content-Type": "text/xml"}
        async with broken.request(method, path, data=body, headers=content_type, allow_redirects=False) as answer:
            text = await answer.text()
            assert (answer.status, answer.headers["Content-Type"]) == (500, "text/plain"), (method, path, text)
            assert text.startswith("InternalFault ")
            assert not [word for word in ("nodes", "lost", "select", "asyncpg", "Traceback", ".py") if word in text]


async def test_what_faults_report(alice: Agent, bea: Agent, folder: str) -> None:
    """Section 6.5: which node, URI, type, view or argument it is about, and why."""
    here, elsewhere = uri_of(f"{folder}/a"), f"vos://example.org~other{folder}/a"
    missing = await alice.get(f"{folder}/a")
    assert here in missing.assert_fault(404, "NodeNotFound").text
    no_container = await alice.put(f"{folder}/no/a")
    assert uri_of(f"{folder}/no") in no_container.assert_fault(404, "ContainerNotFound").text
    strange = await alice.put(f"{folder}/a", "SpiralNode")
    assert "SpiralNode" in strange.assert_fault(400, "TypeNotSupported").text
    other = await alice.put(f"{folder}/a", uri=elsewhere)
    assert elsewhere in other.assert_fault(400, "InvalidURI").text
    await alice.make(f"{folder}/a")
    again = await alice.put(f"{folder}/a")
    assert here in again.assert_fault(409, "DuplicateNode").text
    name = CORE + "ispublic"
    value = (await alice.post(f"{folder}/a", properties={name: "perhaps"})).assert_fault(400, "InvalidArgument").text
    assert "ispublic" in value
    assert "perhaps" in value
    limit = (await alice.get(folder, limit="many")).assert_fault(400, "InvalidArgument").text
    assert "limit" in limit.lower()
    assert "many" in limit
    words = await alice.send("PUT", f"/nodes{folder}/b", '<node xmlns="x"')
    assert len(words.assert_fault(400, "InvalidArgument").text) > len("InvalidArgument\n")
    denied = await bea.get(f"{folder}/a")
    assert len(denied.assert_fault(403, "PermissionDenied").text.split()) > 1
    asked = f"TARGET={here}&DIRECTION={PULL}&PROTOCOL={quote(GET)}&VIEW=urn:x:view"
    view = await alice.send("POST", f"/synctrans?{asked}")
    assert "urn:x:view" in view.assert_fault(400, "ViewNotSupported").text
    job = (await alice.sync(f"{folder}/a", PULL, GET, view="urn:x:view")).location.removesuffix(DETAILS)
    assert "View Not Supported: urn:x:view" in (await alice.send("GET", job)).text


@pytest.mark.parametrize("resource", ["views", "protocols", "properties"])
async def test_names_are_uris_and_come_once(nobody: Agent, resource: str) -> None:
    """Sections 3.2.2, 3.4.2 and 3.5.1: each name is a URI and means one thing."""
    for offers in (await nobody.send("GET", f"/{resource}")).assert_status(200).xml:
        uris = [one.get("uri") or "" for one in offers]
        assert uris
        assert all(urlsplit(uri).scheme for uri in uris)
        assert len(set(uris)) == len(uris)


async def test_bytes_without_a_type(alice: Agent, folder: str) -> None:
    """Section 3.4.4: they are kept as they are, and are application/octet-stream."""
    content = b"\x00<?xml version='1.0'?>\r\n"
    _, endpoint = await alice.negotiate(f"{folder}/a", "pushToVoSpace")
    async with alice.session.put(endpoint, data=content, skip_auto_headers=["Content-Type"]) as answer:
        assert answer.status == 201
    _, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    got = (await alice.send("GET", endpoint)).assert_status(200)
    assert (got.body, got.headers["Content-Type"]) == (content, "application/octet-stream")
    assert properties_of(await alice.node(f"{folder}/a"))[CORE + "length"] == str(len(content))


async def test_nothing_is_pulled_into_what_is_immutable(alice: Agent, folder: str) -> None:
    """Section 3.1.1 of the draft: nor are bytes replaced."""
    box = await alice.make(f"{folder}/box", "ContainerNode")
    await alice.push(f"{box}/data", b"old")
    await alice.post(box, "ContainerNode", properties={CORE + "immutable": "true"})
    empty = f'<protocol uri="{CORE}httpget">'
    for name in ("data", "new", ".auto"):
        document = transfer_document(f"{box}/{name}", "pullToVoSpace", [CORE + "httpget"])
        document = document.replace(empty, f"{empty}<endpoint>http://example.org/x</endpoint>")
        found = await run_job(alice, "transfers", document)
        assert (found.phase, found.error) == ("ERROR", "PermissionDenied"), found
    assert await alice.pull(f"{box}/data") == b"old"
    assert children_of(await alice.node(box)) == ["data"]


async def test_documents_in_chunks(alice: Agent, folder: str) -> None:
    """RFC 9112, section 7.1: by POST as well, and forms too."""

    async def pieces(text: str) -> AsyncIterator[bytes]:
        for letter in text:
            yield letter.encode()

    await alice.make(f"{folder}/a")
    document = node_document(f"{folder}/a", properties={"urn:x:1": "y"})
    login = {"Authorization": f"Bearer {alice.token}"}
    for url, text, content_type, status in (
        (f"/nodes{folder}/a", document, "text/xml", 200),
        ("/async-delete", f"target={uri_of(folder)}/a", FORM["Content-Type"], 303),
    ):
        headers = {**login, "Content-Type": content_type}
        async with alice.session.post(
            alice.pair.url + url, data=pieces(text), headers=headers, allow_redirects=False
        ) as answer:
            assert answer.status == status, await answer.text()
    assert properties_of(await alice.node(f"{folder}/a"))["urn:x:1"] == "y"


@pytest.mark.parametrize("direction", ["pullToVoSpace", "pushFromVoSpace"])
@pytest.mark.parametrize("target", ["vos://example.org~other/a", "vos://localhost~space/a%2Fb", "urn:x:1"])
async def test_pull_to_a_uri_that_is_none(alice: Agent, direction: str, target: str) -> None:
    """Sections 6.4.2 and 6.4.4: Invalid URI."""
    document = transfer_document("", direction, [CORE + "httpget"], target=target)
    found = await run_job(alice, "transfers", document)
    assert (found.phase, found.error, found.summary.split(": ")[0]) == ("ERROR", "InvalidURI", "Invalid URI")


@pytest.mark.parametrize(
    "accept", ["application/xml,text/plain", "text/html,application/xml;q=0.9,*/*;q=0.8", "text/html,text/xml", "*/*"]
)
async def test_jobs_are_xml(alice: Agent, folder: str, accept: str) -> None:
    """UWS 1.1, section 2.2.2: XML for whoever takes it; there is no HTML."""
    job, _ = await alice.negotiate(f"{folder}/a", "pushToVoSpace")
    for url in (job, "/transfers", f"{job}/results", f"{job}/parameters"):
        answer = (await alice.send("GET", url, headers={"Accept": accept})).assert_status(200)
        assert answer.headers["Content-Type"] == "text/xml"


@pytest.mark.parametrize("character", ["%00", "%01", "%0B", "%1F", "%EF%BF%BE", "%ED%A0%80"])
async def test_parameters_that_xml_cannot_hold(alice: Agent, folder: str, character: str) -> None:
    """They are refused: none is given by reference (UWS 1.1, section 2.2.2.4)."""
    before = (await alice.send("GET", "/searches")).assert_status(200).body
    for list_, body in (
        ("searches", f"target={uri_of(folder)}&name=a{character}b"),
        ("searches", f"target={uri_of(folder)}&property=urn:x%3D{character}"),
        ("async-delete", f"target={uri_of(folder)}/a{character}b"),
    ):
        answer = await alice.send("POST", f"/{list_}", body, headers=FORM)
        assert (answer.status, answer.fault) in {(400, "InvalidArgument"), (400, "InvalidURI")}, answer.text
    assert (await alice.send("GET", "/searches")).body == before
    job = await make_job(alice, "searches", f"target={uri_of(folder)}&name=a%26%3C%09b", headers=FORM)
    root = (await alice.send("GET", job)).assert_status(200).xml
    assert "a&<\tb" in [one.text for one in root.iter("{*}parameter")]
    (await alice.send("DELETE", job)).assert_status(303)
