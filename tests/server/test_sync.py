"""/synctrans: negotiation by document and by parameters (VOSpace 2.1, sections 3.6 and 6.4; R-SYNC, R-XFER, R-PROT)."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest

from pyvospace.model.vocabulary import CADC, CORE
from pyvospace.wire.xml import V
from tests.server.conftest import STAFF
from tests.support.agents import (
    Agent,
    Answer,
    children_of,
    endpoints_of,
    properties_of,
    transfer_document,
    type_of,
    uri_of,
)
from tests.support.pair import Pair

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
PUT, GET = CORE + "httpsput", CORE + "httpsget"
SSO = "ivo://ivoa.net/sso#"
DETAILS = "/results/transferDetails"


async def details(agent: Agent, answer: Answer) -> Answer:
    """Follow the 303 of a transfer."""
    return (await agent.send("GET", answer.assert_status(303).location)).assert_status(200)


async def error(agent: Agent, answer: Answer) -> str:
    """Give the fault of a transfer that became a job in phase ERROR; its details have no endpoints."""
    assert endpoints_of((await details(agent, answer)).xml) == []
    job = answer.location.removesuffix(DETAILS)
    assert await agent.phase(job) == "ERROR"
    return await agent.error(job)


def query(path: str, direction: str, protocol: str, **more: str) -> str:
    """Write the parameters of a transfer."""
    return urlencode(
        {"TARGET": uri_of(path), "DIRECTION": direction, "PROTOCOL": protocol} | more, quote_via=quote, safe=""
    )


async def test_document_leads_to_the_details(alice: Agent, folder: str, pair: Pair) -> None:
    answer = (await alice.sync(f"{folder}/a", PUSH, PUT)).assert_status(303)
    job, tail = answer.location[: -len(DETAILS)], answer.location[-len(DETAILS) :]
    assert (job.rsplit("/", 1)[0], tail) == (f"{pair.url}/transfers", DETAILS)
    assert len(job.rsplit("/", 1)[1]) == 40
    document = (await details(alice, answer)).xml
    assert [one.tag for one in document] == [V + name for name in ("target", "direction", "protocol")]
    assert document.get("version") == "2.1"
    assert (document.findtext(V + "target"), document.findtext(V + "direction")) == (uri_of(f"{folder}/a"), PUSH)
    (protocol,) = document.iterfind(V + "protocol")
    assert protocol.get("uri") == PUT
    assert protocol.find(V + "securityMethod") is None
    assert endpoints_of(document)[0].startswith(pair.storage_url + "/files/")
    assert endpoints_of(document)[0].endswith("/a")


async def test_round_trip(alice: Agent, folder: str) -> None:
    content = bytes(range(256)) * 50
    await alice.push(f"{folder}/a%20b", content)
    assert await alice.pull(f"{folder}/a%20b") == content


async def test_clients_of_version_2_0(alice: Agent, folder: str) -> None:
    document = transfer_document(f"{folder}/a", PUSH, [CORE + "httpput"], version="")
    told = (await details(alice, await alice.send("POST", "/synctrans", document))).xml
    assert told.get("version") is None
    assert len(endpoints_of(told)) == 1


async def test_answer_repeats_the_request(alice: Agent, folder: str) -> None:
    view = CORE + "binaryview"
    answer = await alice.sync(f"{folder}/a", PUSH, PUT, view=view, params={CORE + "length": "3", "urn:x:1": "y"})
    document = (await details(alice, answer)).xml
    assert [one.get("uri") for one in document.iterfind(V + "view")] == [view]
    assert {one.get("uri"): one.text for one in document.iterfind(V + "param")} == {
        CORE + "length": "3",
        "urn:x:1": "y",
    }


async def test_unknown_protocols_are_passed_over(alice: Agent, folder: str) -> None:
    wanted = ["urn:x:teleport", CORE + "httpsget", CORE + "httpput", PUT, "ivo://ivoa.net/vospace/core#ftpput"]
    document = transfer_document(f"{folder}/a", PUSH, wanted)
    told = (await details(alice, await alice.send("POST", "/synctrans", document))).xml
    # In the order of the client; what is for the other direction is not offered.
    assert [one.get("uri") for one in told.iterfind(V + "protocol")] == [CORE + "httpput", PUT]
    assert len(endpoints_of(told)) == 2


@pytest.mark.parametrize("protocols", [[], ["urn:x:teleport"], [GET], [""]])
async def test_no_protocol_is_left(alice: Agent, folder: str, protocols: list[str]) -> None:
    document = transfer_document(f"{folder}/a", PUSH, protocols)
    assert await error(alice, await alice.send("POST", "/synctrans", document)) == "ProtocolNotSupported"


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ([], []),
        (["token"], ["token"]),
        (["OAuth"], ["OAuth"]),
        (["BasicAA"], ["BasicAA"]),
        (["anon"], ["anon"]),
        (["tls-with-certificate", "token"], ["token"]),
        (["cookie"], None),
    ],
)
async def test_security_methods(alice: Agent, folder: str, methods: list[str], told: list[str] | None) -> None:
    answer = await alice.sync(f"{folder}/a", PUSH, PUT, methods=[SSO + one for one in methods])
    if told is None:
        assert await error(alice, answer) == "ProtocolNotSupported"
        return
    document = (await details(alice, answer)).xml
    found = [one.get("uri") for one in document.iterfind(f"{V}protocol/{V}securityMethod")]
    assert found == [SSO + one for one in told]
    assert (await alice.send("PUT", endpoints_of(document)[0], b"x")).status == 201


async def test_protocol_with_private_method_and_without_any(alice: Agent, folder: str) -> None:
    """As vos asks: once with a method of CADC, once without; vosfs writes standardID for uri."""
    document = (
        f'<transfer xmlns="{V[1:-1]}" version="2.1"><target>{uri_of(f"{folder}/a")}</target>'
        f"<direction>{PUSH}</direction>"
        f'<protocol uri="{PUT}"><securityMethod uri="vos://cadc.nrc.ca~vospace/CADC/std/Auth#token-1.0"/></protocol>'
        f'<protocol uri="{PUT}"/><protocol uri="{PUT}"><securityMethod standardID="{SSO}token"/></protocol></transfer>'
    )
    told = (await details(alice, await alice.send("POST", "/synctrans", document))).xml
    assert len(endpoints_of(told)) == 2


@pytest.mark.parametrize(
    ("direction", "protocol", "view", "allowed"),
    [
        (PUSH, PUT, "anyview", True),
        (PUSH, PUT, "binaryview", True),
        (PUSH, PUT, "defaultview", True),
        (PUSH, PUT, "xyz", False),
        (PULL, GET, "anyview", False),
        (PULL, GET, "binaryview", True),
        (PULL, GET, "defaultview", True),
        (PULL, GET, "xyz", False),
    ],
)
async def test_views(alice: Agent, folder: str, direction: str, protocol: str, view: str, allowed: bool) -> None:
    await alice.push(f"{folder}/a", b"x")
    answer = await alice.sync(f"{folder}/a", direction, protocol, view=CORE + view)
    if allowed:
        assert len(endpoints_of((await details(alice, answer)).xml)) == 1
    else:
        assert await error(alice, answer) == "ViewNotSupported"


@pytest.mark.parametrize(
    ("direction", "fault"),
    [
        ("pullToVoSpace", "OperationNotSupported"),
        ("pushFromVoSpace", "OperationNotSupported"),
        ("vos://localhost~space/home/alice/elsewhere", "NodeNotFound"),  # it copies, at once
        ("sideways", "InvalidArgument"),
        ("PUSHTOVOSPACE", "InvalidArgument"),
    ],
)
async def test_other_directions(alice: Agent, folder: str, direction: str, fault: str) -> None:
    assert await error(alice, await alice.sync(f"{folder}/a", direction, PUT)) == fault


async def test_no_direction(alice: Agent, folder: str) -> None:
    (await alice.sync(f"{folder}/a", "", PUT)).assert_fault(400, "InvalidArgument")


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("vos://example.org~other/a", "InvalidURI"),
        ("http://localhost~space/home/alice/a", "InvalidURI"),
        ("vos://localhost~space/home/alice/../bea/a", "InvalidURI"),
        ("vos://localhost~space/home/alice/a%2Fb", "InvalidURI"),
        ("vos://localhost~space/home//a", "InvalidURI"),
        ("vos://localhost~space/home/alice/" + "x" * 256, "InvalidURI"),
        ("vos://localhost~space/home/alice/missing/a", "ContainerNotFound"),
        ("vos://localhost~space/home/alice", "InvalidArgument"),
        ("vos://localhost~space", "PermissionDenied"),
        ("vos://localhost~space/home/bea/a", "PermissionDenied"),
        ("vos://localhost~space/a", "PermissionDenied"),
        ("x", "InvalidURI"),
    ],
)
async def test_targets_of_a_push_that_cannot_be(alice: Agent, folder: str, target: str, fault: str) -> None:
    answer = await alice.send("POST", "/synctrans", transfer_document("", PUSH, [PUT], target=target))
    assert await error(alice, answer) == fault


@pytest.mark.parametrize(
    ("below", "fault"), [("missing", "NodeNotFound"), ("", "InvalidArgument"), ("/.null", "NodeNotFound")]
)
async def test_targets_of_a_pull_that_cannot_be(alice: Agent, folder: str, below: str, fault: str) -> None:
    assert await error(alice, await alice.sync(folder + below, PULL, GET)) == fault


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 30, "", "٣"])
async def test_announced_length_is_a_number(alice: Agent, folder: str, value: str) -> None:
    answer = await alice.sync(f"{folder}/a", PUSH, PUT, params={CORE + "length": value})
    assert await error(alice, answer) == "InvalidArgument"


async def test_failed_negotiation_leaves_no_node(alice: Agent, folder: str) -> None:
    await alice.sync(f"{folder}/a", PUSH, "urn:x:teleport")
    await alice.sync(f"{folder}/a", PUSH, PUT, view="urn:x:view")
    await alice.negotiate(f"{folder}/a", PUSH)
    assert children_of(await alice.node(folder)) == []


async def test_denied_transfer(alice: Agent, bea: Agent, nobody: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"x")
    for direction, protocol in ((PULL, GET), (PUSH, PUT)):
        answer = await bea.sync(f"{folder}/a", direction, protocol)
        assert await error(bea, answer) == "PermissionDenied"
        document = (await bea.send("GET", answer.location.removesuffix(DETAILS))).xml
        assert (document.findtext(".//{*}message") or "").startswith("Permission Denied: ")
        (await nobody.sync(f"{folder}/a", direction, protocol)).assert_fault(401, "NotAuthenticated")
        for agent, status, fault in ((bea, 403, "PermissionDenied"), (nobody, 401, "NotAuthenticated")):
            asked = query(f"{folder}/a", direction, protocol)
            for request in ("", "&REQUEST=redirect"):
                (await agent.send("POST", f"/synctrans?{asked}{request}")).assert_fault(status, fault)
                (await agent.send("GET", f"/synctrans?{asked}{request}")).assert_fault(status, fault)
            method = "GET" if direction == PULL else "PUT"
            (await agent.send(method, f"/files{folder}/a", None if method == "GET" else b"")).assert_fault(
                status, fault
            )


async def test_anonymous_pull_of_public_bytes(alice: Agent, nobody: Agent, admin: Agent, shared: str) -> None:
    await alice.push(f"{shared}/a", b"for all")
    await alice.post(f"{shared}/a", properties={CORE + "ispublic": "true"})
    assert await nobody.pull(f"{shared}/a") == b"for all"
    (await nobody.sync(f"{shared}/a", PUSH, PUT)).assert_fault(401, "NotAuthenticated")
    (await nobody.sync(f"{shared}/none", PULL, GET)).assert_fault(404, "NodeNotFound")


async def test_group_writer_pushes(alice: Agent, bea: Agent, shared: str) -> None:
    await alice.make(f"{shared}/a", properties={CORE + "groupwrite": STAFF})
    await bea.push(f"{shared}/a", b"hers")
    node = await alice.node(f"{shared}/a")
    assert properties_of(node)[CORE + "creator"] == "alice", "the owner stays"
    assert await alice.pull(f"{shared}/a") == b"hers"


# Parameters


async def test_parameters_give_the_document(alice: Agent, folder: str) -> None:
    answer = await alice.send("POST", f"/synctrans?{query(f'{folder}/a', PUSH, PUT)}")
    document = answer.assert_status(200).xml
    assert document.findtext(V + "target") == uri_of(f"{folder}/a")
    assert (await alice.send("PUT", endpoints_of(document)[0], b"x")).status == 201
    assert await alice.pull(f"{folder}/a") == b"x"


async def test_redirect_leads_to_the_endpoint(alice: Agent, folder: str, pair: Pair) -> None:
    await alice.push(f"{folder}/a", b"bytes")
    asked = query(f"{folder}/a", PULL, GET, REQUEST="redirect")
    for method, url in (("POST", asked), ("GET", asked), ("GET", query(f"{folder}/a", PULL, GET))):
        answer = (await alice.send(method, f"/synctrans?{url}")).assert_status(303)
        assert "/files/" in answer.location
        assert answer.location.startswith(pair.storage_url)
        assert (await alice.send("GET", answer.location)).body == b"bytes"


async def test_where_parameters_may_stand(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"bytes")
    asked = query(f"{folder}/a", PULL, GET)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    half, rest = asked.split("&", 1)
    for url, body, headers in (
        ("", asked, form),
        (f"?{half}", rest, form),
        (f"?{asked}", "", {"Content-Type": "text/xml"}),  # as vosfs asks
        (f"?{asked}", None, {}),
        (f"?{asked.replace('TARGET', 'target').replace('DIRECTION', 'Direction')}", None, {}),
        (f"?{asked}&unknown=1", None, {}),
    ):
        answer = await alice.send("POST", "/synctrans" + url, body, headers=headers)
        assert len(endpoints_of(answer.assert_status(200).xml)) == 1


async def test_security_method_and_view_as_parameters(alice: Agent, folder: str) -> None:
    asked = query(f"{folder}/a", PUSH, PUT, SECURITYMETHOD=SSO + "token", VIEW=CORE + "binaryview")
    document = (await alice.send("POST", f"/synctrans?{asked}")).assert_status(200).xml
    assert [one.get("uri") for one in document.iterfind(f"{V}protocol/{V}securityMethod")] == [SSO + "token"]
    assert [one.get("uri") for one in document.iterfind(V + "view")] == [CORE + "binaryview"]
    for name, value, fault in (
        ("SECURITYMETHOD", SSO + "cookie", "ProtocolNotSupported"),
        ("VIEW", "urn:x:view", "ViewNotSupported"),
        ("PROTOCOL", "urn:x:p", "ProtocolNotSupported"),
        ("DIRECTION", "pullToVoSpace", "InvalidArgument"),
        ("DIRECTION", "vos://localhost~space/home/alice/b", "InvalidArgument"),
        ("TARGET", "vos://localhost~space/home/bea/x", "PermissionDenied"),
        ("TARGET", "vos://localhost~space/home/alice/missing/x", "ContainerNotFound"),
        ("TARGET", "vos://example.org~other/x", "InvalidURI"),
    ):
        answer = await alice.send("POST", f"/synctrans?{query(f'{folder}/a', PUSH, PUT, **{name: value})}")
        assert answer.fault == fault


@pytest.mark.parametrize("name", ["TARGET", "DIRECTION", "PROTOCOL"])
async def test_parameters_missing_or_repeated(alice: Agent, folder: str, name: str) -> None:
    parts = query(f"{folder}/a", PUSH, PUT).split("&")
    (own,) = [one for one in parts if one.startswith(name)]
    for changed in ("&".join(one for one in parts if one != own), "&".join([*parts, own])):
        for method in ("GET", "POST"):
            answer = await alice.send(method, f"/synctrans?{changed}")
            answer.assert_fault(400, "InvalidArgument")


async def test_nothing_at_all(alice: Agent) -> None:
    (await alice.send("GET", "/synctrans")).assert_fault(400, "InvalidArgument")
    (await alice.send("POST", "/synctrans", b"")).assert_fault(400, "InvalidArgument")
    (await alice.send("POST", "/synctrans")).assert_fault(400, "InvalidArgument")


# What a push does to the node


async def test_push_makes_a_node(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"x")
    node = await alice.node(f"{folder}/a")
    assert (type_of(node), properties_of(node)[CORE + "creator"]) == ("DataNode", "alice")
    assert properties_of(node)[CORE + "ispublic"] == "false"


async def test_push_takes_over_what_the_container_hands_down(alice: Agent, folder: str) -> None:
    rights = {CORE + "ispublic": "true", CORE + "groupread": STAFF}
    await alice.make(f"{folder}/box", "ContainerNode", properties=rights | {CADC + "inheritPermissions": "true"})
    await alice.push(f"{folder}/box/a", b"x")
    told = properties_of(await alice.node(f"{folder}/box/a"))
    assert {name: told[name] for name in rights} == rights


async def test_push_over_a_node_clears_what_the_user_set(alice: Agent, folder: str) -> None:
    rights = {CORE + "ispublic": "true", CORE + "groupread": STAFF}
    path = await alice.make(
        f"{folder}/a", "StructuredDataNode", properties=rights | {CORE + "title": "t", "urn:x": "y"}
    )
    born = properties_of(await alice.node(path))[CORE + "btime"]
    _, endpoint = await alice.negotiate(path, PUSH)
    assert "urn:x" in properties_of(await alice.node(path)), "not before the bytes have come"
    headers = {"Content-Type": "image/fits"}
    (await alice.send("PUT", endpoint, b"x", headers=headers)).assert_status(201)
    node = await alice.node(path)
    told = properties_of(node)
    assert type_of(node) == "StructuredDataNode"
    assert {CORE + "title", "urn:x"}.isdisjoint(told)
    assert {name: told[name] for name in rights} == rights
    assert (told[CORE + "type"], told[CORE + "btime"]) == ("image/fits", born)


async def test_auto(alice: Agent, folder: str) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/.auto", PUSH)
    results = (await alice.send("GET", f"{job}/results")).xml
    hrefs = {one.get("id"): one.get("{http://www.w3.org/1999/xlink}href") for one in results}
    (await alice.send("PUT", endpoint, b"x")).assert_status(201)
    (name,) = children_of(await alice.node(folder))
    assert hrefs["target"] == hrefs["dataNode"] == uri_of(f"{folder}/{name}")
    document = (await alice.send("GET", f"{job}{DETAILS}")).xml
    assert document.findtext(V + "target") == uri_of(f"{folder}/{name}")


async def test_null_swallows(alice: Agent, bea: Agent, folder: str) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/.null", PUSH)
    answer = (await alice.send("PUT", endpoint, b"x" * 100_000)).assert_status(201)
    assert "md5=" in answer.headers["Digest"]
    assert await alice.phase(job) == "COMPLETED"
    assert children_of(await alice.node(folder)) == []
    document = (await alice.send("GET", f"{job}{DETAILS}")).xml
    assert document.findtext(V + "target") == uri_of(f"{folder}/.null")
    assert uri_of(f"{folder}/.null") in (await alice.send("GET", f"{job}/results")).text
    assert await error(bea, await bea.sync(f"{folder}/.null", PUSH, PUT)) == "PermissionDenied"
    assert await error(alice, await alice.sync(f"{folder}/.null", PULL, GET)) == "NodeNotFound"


# /files


async def test_files(alice: Agent, folder: str, pair: Pair) -> None:
    answer = (await alice.send("PUT", f"/files{folder}/a%20b", b"bytes")).assert_status(307)
    assert answer.headers["Connection"] == "close"
    assert answer.location.startswith(pair.storage_url + "/files/")
    (await alice.send("PUT", answer.location, b"bytes")).assert_status(201)
    for method in ("GET", "HEAD"):
        answer = (await alice.send(method, f"/files{folder}/a%20b")).assert_status(303)
        got = (await alice.send(method, answer.location)).assert_status(200)
        assert got.headers["Content-Length"] == "5"
    assert (await alice.send("GET", answer.location)).body == b"bytes"
    (await alice.send("GET", f"/files{folder}")).assert_fault(400, "InvalidArgument")
    asked = (await alice.send("PUT", f"/files{folder}/a%20b")).assert_status(307)
    assert "Connection" not in asked.headers
    (await alice.send("PUT", asked.location, b"others")).assert_status(201)
    (await alice.send("GET", f"/files{folder}/missing")).assert_fault(404, "NodeNotFound")
    (await alice.send("PUT", f"/files{folder}/missing/a", b"x")).assert_fault(404, "ContainerNotFound")
    for method in ("POST", "DELETE"):
        (await alice.send(method, f"/files{folder}/a%20b")).assert_fault(405, "MethodNotAllowed")


async def test_empty_node_has_no_bytes(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a")
    answer = (await alice.send("GET", f"/files{path}")).assert_status(200)
    assert (answer.body, answer.headers["Content-Length"]) == (b"", "0")
    assert await alice.pull(path) == b""
    await alice.push(path, b"")
    assert await alice.pull(path) == b""
    assert properties_of(await alice.node(path))[CORE + "MD5"] == "d41d8cd98f00b204e9800998ecf8427e"
