"""`/permissions`: who may do what, and by which rule; it tells nobody what he could not find out himself."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any
from urllib.parse import urlencode

import pytest

from pyvospace.client import Space as Client
from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from pyvospace.model.vocabulary import CORE
from pyvospace.server.policy import Right
from tests.server.conftest import MAKERS, READERS, STAFF, Space
from tests.support.agents import Agent, Answer, child_of, children_of, properties_of, uri_of
from tests.support.pair import PREFIXES

PUBLIC, GROUP_READ, GROUP_WRITE = CORE + "ispublic", CORE + "groupread", CORE + "groupwrite"
LOCKED, IMMUTABLE = CORE + "islocked", CORE + "immutable"


async def ask(agent: Agent, path: str, **query: str) -> Answer:
    return await agent.send("GET", f"/permissions?{urlencode({'target': uri_of(path), **query})}", checked=False)


async def told(agent: Agent, path: str, **query: str) -> dict[str, Any]:
    answer = (await ask(agent, path, **query)).assert_status(200)
    assert answer.headers["Content-Type"] == "application/json"
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


async def rule(agent: Agent, path: str, right: str, **query: str) -> tuple[bool, str]:
    """Ask for one right."""
    (one,) = (await told(agent, path, right=right, **query))["permissions"]
    return one["allowed"], one["rule"]


async def test_everybody_finds_out_why(alice: Agent, bea: Agent, carl: Agent, nobody: Agent, shared: str) -> None:
    rights = {GROUP_READ: READERS, GROUP_WRITE: STAFF}
    await alice.make(f"{shared}/box", "ContainerNode", properties=rights | {PUBLIC: "true"})
    await alice.make(f"{shared}/box/a", properties=rights)
    assert await rule(alice, f"{shared}/box/a", "read") == (True, "owner")
    assert await rule(bea, f"{shared}/box/a", "write") == (True, "group-write")
    assert await rule(bea, f"{shared}/box/a", "share") == (False, "private")
    assert await rule(carl, f"{shared}/box/a", "read") == (True, "group-read")
    assert await rule(carl, f"{shared}/box/a", "delete") == (False, "private")
    assert await rule(nobody, f"{shared}/box/a", "read") == (False, "private")
    assert await rule(nobody, f"{shared}/box", "read") == (True, "public")
    assert await rule(bea, f"{shared}/box/new", "create") == (True, "group-write")
    assert await rule(bea, f"{shared}/box/a", "create") == (False, "present")
    assert await rule(bea, f"{shared}/box/new", "read") == (False, "absent")
    (one,) = (await told(bea, f"{shared}/box/a", right="delete"))["permissions"]
    assert (one["node"], one["groups"]) == (uri_of(f"{shared}/box"), [STAFF])
    await alice.post(f"{shared}/box/a", properties={LOCKED: "true"})
    assert await rule(bea, f"{shared}/box/a", "write") == (False, "locked")
    assert await rule(bea, f"{shared}/box/a", "set") == (True, "group-write")
    await alice.post(f"{shared}/box", "ContainerNode", properties={IMMUTABLE: "true"})
    assert await rule(alice, f"{shared}/box/new", "create") == (False, "immutable-container")
    assert await rule(alice, f"{shared}/box/a", "delete") == (False, "immutable-container")
    every = await told(alice, f"{shared}/box/a")
    assert [one["right"] for one in every["permissions"]] == list(Right)
    assert every["user"] == "alice"
    assert [(step["uri"], step["rule"]) for step in every["way"]][1:] == [
        (uri_of(shared), "group-write"),
        (uri_of(f"{shared}/box"), "owner"),
    ]


async def test_what_is_hidden_and_what_is_not_there_are_told_alike(
    alice: Agent, bea: Agent, nobody: Agent, folder: str
) -> None:
    await alice.make(f"{folder}/hides", properties={PUBLIC: "true", GROUP_READ: STAFF})
    for agent in (bea, nobody):
        answers = [(await ask(agent, f"{folder}/{name}")).text.replace(name, "X") for name in ("hides", "lacks")]
        assert answers[0] == answers[1]
        found = json.loads(answers[0])
        assert {one["rule"] for one in found["permissions"]} == {"way"}
        assert [step["uri"] for step in found["way"] if not step["readable"]] == [uri_of("/home/alice")]
        for user in ("alice", "nosuch"):
            refused = [(await ask(agent, f"{folder}/{name}", user=user)) for name in ("hides", "lacks")]
            assert {one.status for one in refused} == {403 if agent.token else 401}
            assert len({one.text.replace("hides", "lacks") for one in refused}) == 1


async def test_about_others_only_who_may_share(
    alice: Agent, bea: Agent, carl: Agent, nobody: Agent, admin: Agent, shared: str, catalogue: Database
) -> None:
    team = f"team-{uuid.uuid4().hex}"
    await identities.add_group(catalogue, team)
    for member in ("alice", "carl"):
        await identities.change_member(catalogue, team, member, add=True)
    await admin.post(shared, "ContainerNode", properties={GROUP_WRITE: f"{STAFF} {MAKERS} {PREFIXES[0]}{team}"})
    await alice.make(f"{shared}/a", properties={GROUP_READ: f"{PREFIXES[0]}{team}", PUBLIC: "false"})
    assert await rule(alice, f"{shared}/a", "read", user="carl") == (True, "group-read")
    assert await rule(alice, f"{shared}/a", "read", user="bea") == (False, "private")
    assert await rule(alice, f"{shared}/a", "read", user="anonymous") == (False, "private")
    assert await rule(alice, f"{shared}/a", "read", user="") == (False, "private")
    # Who is not there is told as somebody who may nothing.
    assert (await told(alice, f"{shared}/a", user="nosuch")) == json.loads(
        json.dumps(await told(alice, f"{shared}/a", user="alices")).replace("alices", "nosuch")
    )
    (await ask(admin, f"{shared}/a", user="nosuch")).assert_fault(404, "NotFound")
    # By which groups of the container is for its owner to know.
    (one,) = (await told(alice, f"{shared}/a", user="carl", right="delete"))["permissions"]
    assert (one["allowed"], one["rule"], one["groups"]) == (True, "granted", [])
    assert "group-write" not in one["trail"]
    assert await rule(admin, f"{shared}/a", "delete", user="bea") == (True, "group-write")
    # Nobody finds out who is in a group by naming it on a node of his own.
    await alice.make(f"{shared}/trap", properties={GROUP_READ: READERS, PUBLIC: "false"})
    for user in ("bea", "carl", "nosuch"):
        assert await rule(alice, f"{shared}/trap", "read", user=user) == (False, "unknown-group")
    assert await rule(admin, f"{shared}/trap", "read", user="carl") == (True, "group-read")
    for user in ("alice", "nosuch", "admin"):
        (await ask(carl, f"{shared}/a", user=user)).assert_fault(403, "PermissionDenied")
        (await ask(nobody, f"{shared}/a", user=user)).assert_fault(401, "NotAuthenticated")
    assert await rule(carl, f"{shared}/a", "read", user="") == (False, "private")
    assert await rule(bea, f"{shared}/a", "read", user="bea") == (False, "private")
    (await ask(bea, f"{shared}/a", user="anonymous")).assert_fault(403, "PermissionDenied")


async def test_tokens_ask_about_what_they_are_for(space: Space, alice: Agent, catalogue: Database, folder: str) -> None:
    await alice.make(f"{folder}/a")
    secret = uuid.uuid4().hex
    scope = Scope.parse([folder], ["read"])
    digest = hashlib.sha256(secret.encode()).digest()
    await identities.add_token(catalogue, "alice", "limited", digest, None, scope=scope)
    limited = Agent(space.session, space.pair, secret)
    assert await rule(limited, f"{folder}/a", "read") == (True, "owner")
    assert await rule(limited, f"{folder}/a", "write") == (False, "token-right")
    assert [step["uri"] for step in (await told(limited, f"{folder}/a"))["way"]] == [uri_of(folder)]
    for path in ("/home/alice", "/home/alice/nosuch"):
        (await ask(limited, path)).assert_fault(403, "PermissionDenied")
    (await ask(limited, f"{folder}/a", user="bea")).assert_fault(403, "PermissionDenied")


@pytest.mark.parametrize(
    "query", ["", "target=x", "target=vos://other~space/a", "target={}&right=own", "target={}&target={}"]
)
async def test_bad_questions(alice: Agent, query: str, folder: str) -> None:
    answer = await alice.send("GET", f"/permissions?{query.format(*[uri_of(folder)] * 2)}")
    assert (answer.status, answer.fault) in {(400, "InvalidArgument"), (400, "InvalidURI")}


async def test_links_on_the_way(alice: Agent, bea: Agent, nobody: Agent, shared: str, folder: str) -> None:
    await alice.make(f"{shared}/box", "ContainerNode", properties={PUBLIC: "true"})
    await alice.make(f"{shared}/box/a", properties={PUBLIC: "true"})
    for name, target in (("open", f"{shared}/box"), ("closed", folder)):
        await alice.make(f"{shared}/{name}", "LinkNode", target=uri_of(target), properties={PUBLIC: "true"})
    await alice.make(f"{shared}/mine", "LinkNode", target=uri_of(f"{shared}/box"))
    assert await rule(bea, f"{shared}/open/a", "read") == (True, "public")
    assert await rule(bea, f"{shared}/closed/a", "read") == (False, "way")
    assert await rule(nobody, f"{shared}/mine/a", "read") == (False, "way")
    assert await rule(nobody, f"{shared}/mine/nosuch", "read") == (False, "way")
    assert await rule(alice, f"{shared}/open/a", "delete") == (False, "absent")


async def test_others_are_asked_for_in_the_words_of_clients(space: Space, alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a", properties={GROUP_READ: READERS})
    async with Client(space.pair.url, token=alice.token) as client:
        found = await client.permissions(uri_of(f"{folder}/a"), right="read", user="carl")
        (one,) = found.permissions
        assert (found.user, one.allowed, one.rule, one.groups) == ("carl", False, "way", ())
        assert [(step.uri, step.readable) for step in found.way][-1] == (uri_of("/home/alice"), False)
        mine = await client.permissions(uri_of(folder))
        assert {one.right for one in mine.permissions if one.allowed} == set(Right) - {"unmark", "create", "administer"}


async def test_the_order_of_a_listing_tells_no_sizes(alice: Agent, bea: Agent, shared: str) -> None:
    """How much is in a container is told to those who may write to it, and so is the order by it."""
    for name, content in (("a", b"12345"), ("b", b"1"), ("c", b"123")):
        await alice.make(f"{shared}/{name}", "ContainerNode", properties={PUBLIC: "true"})
        await alice.push(f"{shared}/{name}/hidden", content)
    for agent, order, lengths in ((alice, "bca", "135"), (bea, "abc", "000")):
        listing = await agent.node(shared, sort="length")
        assert "".join(children_of(listing)) == order
        found = [properties_of(child_of(listing, name))[CORE + "length"] for name in order]
        assert "".join(found) == lengths
