"""JSON for whoever asks by header or parameter (R-NODE-019)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyvospace.model.vocabulary import CORE
from tests.support.agents import Agent, Answer, uri_of

JSON = {"Accept": "application/json"}


def read(answer: Answer) -> dict[str, Any]:
    assert answer.assert_status(200).headers["Content-Type"] == "application/json"
    assert answer.headers["Vary"] == "Accept, Authorization"
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


async def test_documents_of_every_kind(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/data", b"bytes")
    node = read(await alice.send("GET", f"/nodes{folder}/data", headers=JSON))["vos:node"]
    assert (node["@uri"], node["@xsi:type"], node["@busy"]) == (uri_of(f"{folder}/data"), "vos:DataNode", "false")
    assert {"@uri": CORE + "length", "@readOnly": "true", "$": "5"} in node["vos:properties"]["vos:property"]
    listing = read(await alice.send("GET", f"/nodes{folder}", headers=JSON))["vos:node"]
    assert [one["@uri"] for one in listing["vos:nodes"]["vos:node"]] == [uri_of(f"{folder}/data")]
    job, _ = await alice.negotiate(f"{folder}/data", "pullFromVoSpace")
    assert read(await alice.send("GET", job, headers=JSON))["uws:job"]["uws:phase"] == {"$": "EXECUTING"}
    details = read(await alice.send("GET", f"{job}/results/transferDetails", headers=JSON))["vos:transfer"]
    assert details["vos:target"] == {"$": uri_of(f"{folder}/data")}
    (protocol,) = details["vos:protocol"]
    assert protocol["vos:endpoint"]["$"].endswith("/data")
    jobs = read(await alice.send("GET", "/transfers", headers=JSON))["uws:jobs"]["uws:jobref"]
    assert job.rsplit("/", 1)[1] in {one["@id"] for one in jobs}
    for name in ("protocols", "views", "properties"):
        assert f"vos:{name}" in read(await alice.send("GET", f"/{name}", headers=JSON))


@pytest.mark.parametrize(
    ("accept", "query", "expected"),
    [
        ("*/*", "", "text/xml"), ("text/xml", "", "text/xml"), ("application/*", "", "text/xml"),
        ("application/json, */*", "", "application/json"), ("Application/JSON;q=0.5", "", "application/json"),
        ("text/xml;q=0.5, application/json", "", "application/json"), ("application/json;q=0", "", "text/xml"),
        ("text/xml, application/json", "", "text/xml"), ("application/json, text/xml", "", "application/json"),
        ("application/json;q=x", "", "text/xml"), ("application/jsonp", "", "text/xml"),
        ("text/plain, application/json", "", "application/json"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "", "text/xml"),
        ("*/*", "?accept=application/json", "application/json"), ("application/json", "?Accept=text/xml", "text/xml"),
        ("application/json", "?limit=0&unknown=accept=x", "application/json"),
    ],
)  # fmt: skip
async def test_who_asks_how(alice: Agent, folder: str, accept: str, query: str, expected: str) -> None:
    got, headed = [
        await alice.send(method, f"/nodes{folder}{query}", headers={"Accept": accept}) for method in ("GET", "HEAD")
    ]
    for answer in (got, headed):
        assert (answer.headers["Content-Type"], answer.headers["Vary"]) == (expected, "Accept, Authorization")
        assert answer.headers["Content-Length"] == str(len(got.body))
    assert got.body.startswith(b"{" if expected == "application/json" else b"<?xml")


async def test_large_listing_is_streamed(alice: Agent, folder: str) -> None:
    for number in range(20):
        await alice.make(f"{folder}/{number:02}", properties={"urn:x:long": "x" * 16000})
    answer = await alice.send("GET", f"/nodes{folder}", headers=JSON)
    assert "Content-Length" not in answer.headers
    node = read(answer)["vos:node"]
    assert [one["@uri"][-2:] for one in node["vos:nodes"]["vos:node"]] == [f"{number:02}" for number in range(20)]
    assert (await alice.send("HEAD", f"/nodes{folder}", headers=JSON)).headers["Content-Type"] == "application/json"


async def test_faults_are_words(alice: Agent, folder: str) -> None:
    (await alice.send("GET", f"/nodes{folder}/x", headers=JSON)).assert_fault(404, "NodeNotFound")


async def test_bytes_of_users_are_no_documents(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a.xml", properties={CORE + "type": "text/xml"})
    for method in ("GET", "HEAD"):
        answer = (await alice.send(method, f"/files{path}", headers=JSON, checked=False)).assert_status(200)
        assert answer.headers["Content-Type"] == "text/xml"
