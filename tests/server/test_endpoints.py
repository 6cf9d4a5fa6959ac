"""Pre-authorised endpoints: what they are good for, and how they die (T8, I31; rulings "rights withdrawn")."""

from __future__ import annotations

import base64
import json

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from tests.server.conftest import STAFF
from tests.support.agents import Agent, claims_of, properties_of
from tests.support.pair import Pair

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"


async def test_bound_to_one_operation(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"x")
    _, reading = await alice.negotiate(f"{folder}/a", PULL)
    _, writing = await alice.negotiate(f"{folder}/a", PUSH)
    assert (await alice.send("PUT", reading, b"y")).status == 403
    assert (await alice.send("GET", writing)).status == 403
    for endpoint in (reading, writing):
        for method in ("POST", "DELETE", "PATCH"):
            answer = await alice.send(method, endpoint, b"")
            assert (answer.status, answer.fault) == (405, "MethodNotAllowed")
    assert await alice.pull(f"{folder}/a") == b"x"


async def test_claims(alice: Agent, folder: str, pair: Pair) -> None:
    await alice.push(f"{folder}/a", b"x")
    job, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    claims = claims_of(endpoint)
    assert claims["iss"] == pair.authority
    assert (claims["op"], claims["job"]) == ("get", job.rsplit("/", 1)[1])
    assert claims["node"]
    assert claims["exp"]
    assert not {"name", "token", "path", "uri"} & claims.keys()


async def test_needs_no_credential_and_minds_none(alice: Agent, nobody: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"x")
    _, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    for authorization in (None, "Bearer nonsense", f"Bearer {alice.token}", "Basic !!!", "Nonsense"):
        headers = {"Authorization": authorization} if authorization else {}
        answer = (await nobody.send("GET", endpoint, headers=headers)).assert_status(200)
        assert answer.body == b"x"


def altered(endpoint: str) -> list[str]:
    """Give tokens that are nearly right."""
    head, token, name = endpoint.rsplit("/", 2)
    header, payload, signature = token.split(".")

    def encoded(part: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

    def decoded(part: str) -> dict[str, object]:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        assert isinstance(found, dict)
        return found

    known = decoded(header)
    other = "A" if signature[5] != "A" else "B"
    tokens = [
        f"{header}.{payload}.{signature[:5]}{other}{signature[6:]}",
        f"{header}.{encoded(decoded(payload) | {'op': 'put'})}.{signature}",
        f"{header}.{encoded(decoded(payload) | {'node': 1})}.{signature}",
        f"{header}.{encoded(decoded(payload) | {'exp': 99999999999})}.{signature}",
        f"{encoded(known | {'alg': 'none'})}.{payload}.",
        f"{encoded(known | {'alg': 'none'})}.{payload}.{signature}",
        f"{encoded(known | {'alg': 'HS384'})}.{payload}.{signature}",
        f"{encoded(known | {'kid': '0' * 16})}.{payload}.{signature}",
        f"{encoded({name: value for name, value in known.items() if name != 'kid'})}.{payload}.{signature}",
        f"{encoded(known | {'jwk': {}})}.{payload}.{signature}",
        f"{encoded(known | {'crit': ['b64'], 'b64': False})}.{payload}.{signature}",
        f"{header}.{payload}",
        f"{header}.{payload}.",
        f"{header}..{signature}",
        "x",
        "x.y.z",
        "%00",
        "eyJ" + "A" * 9000,
    ]
    return [f"{head}/{one}/{name}" for one in tokens]


async def test_altered_tokens(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"secret")
    _, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    for one in altered(endpoint):
        answer = await alice.send("GET", one)
        assert (answer.status, answer.fault) == (403, "PermissionDenied"), one
        assert "secret" not in answer.text
        assert one.rsplit("/", 2)[1][:20] not in answer.text
    assert (await alice.send("GET", endpoint)).body == b"secret"


async def test_name_behind_the_token_does_not_matter(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"a")
    await alice.push(f"{folder}/b", b"b")
    _, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    for name in ("b", "", "../b", "%2e%2e/b", "a/b/c"):
        assert (await alice.send("GET", f"{endpoint.rsplit('/', 1)[0]}/{name}")).body == b"a"


async def test_repetition_after_success(alice: Agent, folder: str, catalogue: Database) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    (await alice.send("PUT", endpoint, b"one")).assert_status(201)
    # The client lost the 201.
    (await alice.send("PUT", endpoint, b"one")).assert_status(201)
    name = job.rsplit("/", 1)[1]
    await catalogue.fetch("update jobs set ended = ended - interval '61 s' where id = $1", name)
    answer = await alice.send("PUT", endpoint, b"two")
    assert (answer.status, answer.fault) == (409, "EndpointUsed")
    assert await alice.pull(f"{folder}/a") == b"one"
    head = (await alice.send("HEAD", endpoint)).assert_status(200)
    assert head.headers["Digest"].startswith("md5=")


async def test_head_before_there_are_bytes(alice: Agent, folder: str) -> None:
    _, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    answer = (await alice.send("HEAD", endpoint)).assert_status(200)
    assert "Digest" not in answer.headers


async def test_dies_with_the_node(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"x")
    _, reading = await alice.negotiate(f"{folder}/a", PULL)
    _, writing = await alice.negotiate(f"{folder}/a", PUSH)
    direct = (await alice.send("GET", f"/files{folder}/a")).location
    await alice.delete(f"{folder}/a")
    for endpoint in (reading, direct):
        assert (await alice.send("GET", endpoint)).status == 404
        assert (await alice.send("HEAD", endpoint)).status == 404
    assert (await alice.send("PUT", writing, b"y")).status == 404
    assert (await alice.send("HEAD", writing)).status == 404
    (await alice.get(f"{folder}/a")).assert_fault(404, "NodeNotFound")


async def test_dies_with_the_container(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    _, writing = await alice.negotiate(f"{folder}/box/a", PUSH)
    await alice.delete(f"{folder}/box")
    assert (await alice.send("PUT", writing, b"y")).status == 404


@pytest.mark.parametrize("what", ["group", "container", "member"])
async def test_dies_with_the_right(
    alice: Agent, bea: Agent, admin: Agent, shared: str, catalogue: Database, what: str
) -> None:
    rights = {CORE + "ispublic": "true"}
    box = await admin.make(f"{shared}/box", "ContainerNode", properties=rights | {CORE + "groupwrite": STAFF})
    await admin.push(f"{box}/a", b"old")
    await admin.post(f"{box}/a", properties={CORE + "groupwrite": STAFF})
    _, reading = await bea.negotiate(f"{box}/a", PULL)
    _, writing = await bea.negotiate(f"{box}/a", PUSH)
    _, making = await bea.negotiate(f"{box}/new", PUSH)
    direct = (await bea.send("GET", f"/files{box}/a")).location
    for endpoint in (reading, direct):
        (await bea.send("GET", endpoint)).assert_status(200)
    if what == "group":
        await admin.post(f"{box}/a", properties={CORE + "groupwrite": None})
        await admin.post(box, "ContainerNode", properties={CORE + "groupwrite": None})
    elif what == "container":
        await admin.post(box, "ContainerNode", properties={CORE + "groupwrite": None, CORE + "ispublic": "false"})
    else:
        await catalogue.fetch("delete from members m using users u where u.id = m.user_id and u.name = 'bea'")
    try:
        for endpoint in (reading, direct):
            for method in ("GET", "HEAD"):
                assert (await bea.send(method, endpoint)).status == 403
        for endpoint in (writing, making):
            assert (await bea.send("PUT", endpoint, b"new")).status == 403
            assert (await bea.send("HEAD", endpoint)).status == 403
    finally:
        await catalogue.fetch(
            "insert into members select g.id, u.id from groups g, users u where g.name = 'staff' and u.name = 'bea' "
            "on conflict do nothing"
        )
    assert await admin.pull(f"{box}/a") == b"old"
    (await admin.get(f"{box}/new")).assert_fault(404, "NodeNotFound")


async def test_lock_stops_what_was_agreed_before(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"old")
    _, writing = await alice.negotiate(f"{folder}/a", PUSH)
    await alice.post(f"{folder}/a", properties={CORE + "islocked": "true"})
    answer = await alice.send("PUT", writing, b"new")
    assert (answer.status, answer.fault) == (423, "NodeLocked")
    await alice.post(f"{folder}/a", properties={CORE + "islocked": "false"})
    (await alice.send("PUT", writing, b"new")).assert_status(201)


async def test_another_kind_of_node_in_the_place(alice: Agent, folder: str) -> None:
    _, writing = await alice.negotiate(f"{folder}/a", PUSH)
    await alice.make(f"{folder}/a", "ContainerNode")
    answer = await alice.send("PUT", writing, b"x")
    assert (answer.status, answer.fault) == (409, "DuplicateNode")
    await alice.delete(f"{folder}/a")
    # Two who made a node at once: it is the same one, and both may write to it.
    await alice.make(f"{folder}/a")
    (await alice.send("PUT", writing, b"x")).assert_status(201)


async def test_token_is_masked_in_the_logs(alice: Agent, folder: str, pair: Pair) -> None:
    await alice.push(f"{folder}/a", b"x")
    _, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    await alice.send("GET", endpoint)
    await alice.send("GET", endpoint[:-8])
    await alice.send("GET", endpoint.replace(pair.storage_url, pair.url))
    token = endpoint.rsplit("/", 2)[1]
    for name in ("metadata", "storage"):
        assert token not in pair.log(name)
        assert token.split(".")[2] not in pair.log(name)
        assert (alice.token or "?") not in pair.log(name)
    assert properties_of(await alice.node(f"{folder}/a"))
