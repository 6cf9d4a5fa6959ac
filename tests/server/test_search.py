"""Search at /search and as a job at /searches."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode, urlsplit

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.wire.xml import XSI, V
from tests.server.conftest import READERS, encoded
from tests.support.agents import Agent, Answer, U, uri_of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def names(answer: Answer) -> list[str]:
    """Give the URIs of what was found, below the container, decoded by nobody."""
    root = answer.assert_status(200).xml
    assert root.tag == V + "searchDetails"
    return [one.get("uri") or "" for one in root.iter(V + "node")]


async def search(agent: Agent, below: str, **more: str | int) -> Answer:
    asked = urlencode({"target": uri_of(below), **more}, quote_via=quote)
    return await agent.send("GET", f"/search?{asked}")


async def everything(agent: Agent, below: str, **more: str | int) -> list[str]:
    """Go from page to page; in the order of the URIs, since that of the pages is nobody's concern."""
    answer = await search(agent, below, **more)
    found = names(answer)
    while "Link" in answer.headers:
        url, relation = answer.headers["Link"].split(">; ")
        assert relation == 'rel="next"'
        answer = await agent.send("GET", url.removeprefix("<"))
        found += names(answer)
    return sorted(found)


@pytest.fixture
async def tree(alice: Agent, shared: str) -> str:
    """Folders with files, one of them for readers only."""
    for name, rights in (("a", {CORE + "ispublic": "true"}), ("b", {CORE + "groupread": READERS})):
        await alice.make(f"{shared}/{name}", "ContainerNode", properties=rights)
        for leaf in ("x.fits", encoded("ü & 'y'.txt")):
            await alice.make(f"{shared}/{name}/{leaf}", properties={**rights, CORE + "title": leaf})
    await alice.make(f"{shared}/a/secret.fits")
    await alice.push(f"{shared}/a/x.fits", b"12345")
    return shared


async def test_everybody_finds_what_he_may_read(
    alice: Agent, bea: Agent, carl: Agent, nobody: Agent, tree: str
) -> None:
    """Condition for condition, and nothing of what may not be read (A-21, I26)."""
    first, second = (uri_of(f"{tree}/{name}/x.fits") for name in ("a", "b"))
    assert await everything(carl, tree, name="*.fits") == [first, second]
    assert await everything(alice, tree, name="*.fits") == [uri_of(f"{tree}/a/secret.fits"), first, second]
    for agent in (bea, nobody):
        assert await everything(agent, tree, name="*.fits") == [first]
        assert await everything(agent, tree, name="secret*") == []
        assert await everything(agent, tree, property=CORE + "title=x*", owner="alice") == []
        answer = await search(agent, f"{tree}/b")
        answer.assert_fault(*((401, "NotAuthenticated") if agent is nobody else (403, "PermissionDenied")))
        same = await search(agent, f"{tree}/b/nothing")
        assert same.status == answer.status
    assert len(await everything(carl, tree, limit=1)) == len(set(await everything(carl, tree))) == 6


async def test_conditions(alice: Agent, tree: str) -> None:
    a, b = f"{tree}/a", f"{tree}/b"
    strange = encoded("ü & 'y'.txt")
    assert await everything(alice, tree, type="containernode") == [uri_of(a), uri_of(b)]
    assert await everything(alice, tree, minsize=5, maxsize=5) == [uri_of(f"{a}/x.fits")]
    assert await everything(alice, tree, type="DataNode", maxsize=0, name="ü*") == [
        uri_of(f"{one}/{strange}") for one in (a, b)
    ]
    assert await everything(alice, tree, property=f"{CORE}title={strange[:3]}*") == [
        uri_of(f"{one}/{strange}") for one in (a, b)
    ]
    titled = [uri_of(f"{a}/{strange}"), uri_of(f"{b}/{strange}"), uri_of(f"{b}/x.fits")]  # new bytes clear properties
    assert await everything(alice, tree, property=CORE + "title", owner="alice", minctime="2020-01-01") == titled
    assert await everything(alice, tree, maxmtime="2020-01-01T00:00:00Z") == []
    assert len(await everything(alice, tree, minmtime="2020-01-01T00:00:00Z")) == 1
    assert await everything(alice, tree, owner="admin") == await everything(alice, tree, contenttype="image/*") == []


async def test_details(alice: Agent, tree: str) -> None:
    (node,) = (await search(alice, f"{tree}/a", name="x.fits")).xml.iter(V + "node")
    assert node.get(f"{{{XSI}}}type") == "vos:DataNode"
    assert CORE + "length" in {one.get("uri") for one in node.iter(V + "property")}
    (node,) = (await search(alice, f"{tree}/a", name="x.fits", detail="min")).xml.iter(V + "node")
    assert len(node) == 0
    answer = await alice.send("GET", f"/search?target={uri_of(tree)}&name=x*&limit=1&accept=application/json")
    assert len(json.loads(answer.body)["vos:searchDetails"]["vos:nodes"]["vos:node"]) == 1
    assert "accept=application%2Fjson" in answer.headers["Link"]
    assert (await alice.send("HEAD", f"/search?target={uri_of(tree)}")).assert_status(200).body == b""


@pytest.mark.parametrize(
    "query",
    [
        "&nmae=x", "&name=x&name=y", "&minsize=-1", "&minsize=x", "&maxdate=tomorrow", "&type=File", "&limit=0",
        "&limit=x", "&after=x", "&after=LzEvMg==", "&property=", "&property==x", "&detail=all", "&name=%00",
        f"&property={quote(CORE + 'length=5', safe='')}", f"&property={quote(CORE + 'nonsense', safe='')}",
        "&property=a" * 21, "&name=" + "x" * 1001, "&minsize=" + "9" * 30,
    ],
)  # fmt: skip
async def test_nonsense_is_refused(alice: Agent, query: str) -> None:
    answer = await alice.send("GET", f"/search?target={uri_of(alice.pair.home)}{query}")
    answer.assert_fault(400, "InvalidArgument")


async def test_words_name_the_parameter(alice: Agent) -> None:
    for query, word in (("&minsize=abc", "minsize"), ("&mindate=abc", "mindate"), ("&limit=x", "limit")):
        answer = await alice.send("GET", f"/search?target={uri_of(alice.pair.home)}{query}")
        assert f"InvalidArgument {word}: " in answer.text
    answer = (await alice.send("GET", "/search?name=x")).assert_fault(400, "InvalidArgument")
    assert "target: name the container" in answer.text


async def test_target(alice: Agent, tree: str) -> None:
    (await search(alice, f"{tree}/a/x.fits")).assert_fault(400, "InvalidArgument")
    (await search(alice, f"{tree}/no")).assert_fault(404, "NodeNotFound")
    for target in ("", "vos://elsewhere.org~space/x", "x"):
        (await alice.send("GET", f"/search?target={target}")).assert_fault(400, "InvalidURI")
    await alice.make(f"{tree}/link", "LinkNode", target=uri_of(f"{tree}/a"))
    assert await everything(alice, f"{tree}/link", name="x*") == [uri_of(f"{tree}/a/x.fits")]
    for method in ("POST", "PUT", "DELETE"):
        (await alice.send(method, "/search")).assert_fault(405, "MethodNotAllowed")


async def test_patterns_take_no_time(alice: Agent, tree: str) -> None:
    """Names that lead matchers astray."""
    await alice.make(f"{tree}/{'a' * 200}")
    for pattern in ("*a" * 100 + "b", "*[a]" * 100 + "b", "*?" * 100 + "[!a]*", "[" * 200, "[]-a]" * 50):
        assert await everything(alice, tree, name=pattern) == []


async def run(agent: Agent, **asked: str) -> str:
    """Search as a job; give its URL."""
    job = (await agent.send("POST", "/searches", urlencode(asked), headers=FORM)).assert_status(303).location
    assert await agent.phase(job) == "PENDING"
    (await agent.send("POST", f"{job}/phase", "PHASE=RUN", headers=FORM)).assert_status(303)
    while (document := (await agent.send("GET", f"{job}?WAIT=10")).xml).findtext(U + "phase") in {
        "QUEUED",
        "EXECUTING",
    }:
        pass
    assert document.findtext(U + "phase") == "COMPLETED"
    return job


def results(document: Answer) -> dict[str, str]:
    return {
        one.get("id") or "": one.get("{http://www.w3.org/1999/xlink}href") or ""
        for one in document.xml.iter(U + "result")
    }


async def test_job(alice: Agent, bea: Agent, tree: str, catalogue: Database) -> None:
    """What was found is there until the job goes, as far as its owner may still read it."""
    job = await run(alice, target=uri_of(tree), name="*.fits")
    document = await alice.send("GET", job)
    found = results(document)
    assert (found["count"], set(found)) == ("final:3", {"searchDetails", "count"})
    parameters = {one.get("id"): one.text for one in document.xml.iter(U + "parameter")}
    assert parameters == {"TARGET": uri_of(tree), "NAME": "*.fits"}
    before = sorted(names(await alice.send("GET", found["searchDetails"])))
    assert before == await everything(alice, tree, name="*.fits")
    (await bea.send("GET", found["searchDetails"])).assert_fault(403, "PermissionDenied")
    await alice.delete(f"{tree}/a/secret.fits")
    assert sorted(names(await alice.send("GET", found["searchDetails"]))) == before[1:]
    identifier = urlsplit(job).path.rpartition("/")[2]
    count = "select count(*) from found where job_id = $1"
    assert await catalogue.fetchval(count, identifier) == 3
    (await alice.send("DELETE", job)).assert_status(303)
    assert await catalogue.fetchval(count, identifier) == 0


async def test_results_follow_the_rights(alice: Agent, carl: Agent, tree: str) -> None:
    """What was found once is no way around a right that was withdrawn."""
    job = await run(carl, target=uri_of(tree), name="x.fits")
    details = results(await carl.send("GET", job))["searchDetails"]
    assert len(names(await carl.send("GET", details))) == 2
    await alice.post(f"{tree}/b", "ContainerNode", properties={CORE + "groupread": None})
    assert names(await carl.send("GET", details)) == [uri_of(f"{tree}/a/x.fits")]


async def test_jobs_that_cannot_be(alice: Agent, nobody: Agent, tree: str) -> None:
    for wrong in ("", f"target={uri_of(tree)}&nmae=x", f"target={uri_of(tree)}&after=x"):
        assert (await alice.send("POST", "/searches", wrong, headers=FORM)).status == 400
    body = f"target={uri_of(alice.pair.home)}&PHASE=RUN"
    job = (await nobody.send("POST", "/searches", body, headers=FORM)).assert_status(303).location
    while (phase := await nobody.phase(job)) in {"QUEUED", "EXECUTING"}:
        await nobody.send("GET", f"{job}?WAIT=5")
    assert (phase, await nobody.error(job)) == ("ERROR", "NotAuthenticated")
    (await nobody.send("GET", f"{job}/results/searchDetails")).assert_fault(404, "NotFound")


async def test_limit_of_a_job(alice: Agent, tree: str) -> None:
    job = await run(alice, target=uri_of(tree), limit="2")
    found = results(await alice.send("GET", job))
    assert (found["count"], found["incomplete"]) == ("final:2", "final:true")
    assert len(names(await alice.send("GET", found["searchDetails"]))) == 2
