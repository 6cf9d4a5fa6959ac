"""Endpoints and ids of jobs in other hands, or for something else than they were made for: 401 or 403, never 500."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import pytest

from pyvospace.db import identities, keys
from pyvospace.db.pool import Database
from pyvospace.model.archives import TAR
from pyvospace.model.claims import OPERATIONS, EndpointClaims
from pyvospace.model.vocabulary import CORE
from pyvospace.service.endpoints import EndpointSigner
from tests.server.conftest import STAFF, Space
from tests.support.agents import Agent, claims_of, endpoints_of, node_document, transfer_document, uri_of
from tests.support.jobs import FORM
from tests.support.pair import Pair

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
GROUP_READ, PUBLIC = CORE + "groupread", CORE + "ispublic"
_METHODS: Final = {
    "put": "PUT",
    "unpack": "PUT",
    **dict.fromkeys(("get", "pack", "render", "version", "replica"), "GET"),
}
"""What each kind of endpoint is for."""


async def archive(agent: Agent, path: str, direction: str) -> tuple[str, str]:
    """Agree on an archive; give job and endpoint."""
    protocol = CORE + ("httpsget" if direction == PULL else "httpsput")
    document = transfer_document(path, direction, [protocol], view=TAR.view)
    answer = (await agent.send("POST", "/synctrans", document)).assert_status(303)
    (endpoint,) = endpoints_of((await agent.send("GET", answer.location)).assert_status(200).xml)
    return answer.location.removesuffix("/results/transferDetails"), endpoint


async def endpoints(agent: Agent, box: str) -> dict[str, str]:
    """Agree on an endpoint of each kind; with "files" one that has no job."""
    await agent.push(f"{box}/a", b"secret")
    return {
        "get": (await agent.negotiate(f"{box}/a", PULL))[1],
        "put": (await agent.negotiate(f"{box}/a", PUSH))[1],
        "pack": (await archive(agent, box, PULL))[1],
        "unpack": (await archive(agent, box, PUSH))[1],
        "files": (await agent.send("GET", f"/files{box}/a")).assert_status(303).location,
    }


async def refused(agent: Agent, endpoint: str, *methods: str) -> None:
    """Fail unless an endpoint is refused, without a word of what it would give."""
    for method in methods:
        answer = await agent.send(method, endpoint, b"x" if method == "PUT" else None)
        assert answer.status in {401, 403}, (method, endpoint, answer.status, answer.text)
        assert "secret" not in answer.text


async def test_another_method(alice: Agent, folder: str) -> None:
    made = await endpoints(alice, folder)
    for name in ("get", "pack", "files"):
        await refused(alice, made[name], "PUT")
    for name in ("put", "unpack"):
        await refused(alice, made[name], "GET")
    for endpoint in made.values():
        for method in ("POST", "DELETE", "PATCH"):
            assert (await alice.send(method, endpoint, b"")).status == 405
    assert await alice.pull(f"{folder}/a") == b"secret"


async def sign(pair: Pair, database: Database, claims: EndpointClaims, storage: str) -> str:
    """Sign an endpoint with the key of the space, as nobody but the service can."""
    signer = EndpointSigner(pair.authority, lambda: keys.signing_key(database, rotation=86400, life=3600))
    return await signer.endpoint(pair.storage_url, storage, claims, name="a")


async def test_claims_that_do_not_fit_together(
    alice: Agent, bea: Agent, folder: str, catalogue: Database, pair: Pair
) -> None:
    """Should a signed endpoint say what was never agreed on, the catalogue refuses it all the same."""
    made = await endpoints(alice, folder)
    theirs = await endpoints(bea, await bea.make(f"/home/bea/{uuid.uuid4().hex}", "ContainerNode"))
    told = {name: claims_of(endpoint) for name, endpoint in made.items()}
    others = {name: claims_of(endpoint) for name, endpoint in theirs.items()}
    storage = str(told["get"]["aud"])
    changes: list[Callable[[EndpointClaims], EndpointClaims]] = [
        lambda one: replace(one, user_id=int(str(others["get"]["sub"]))),
        lambda one: replace(one, user_id=None),
        lambda one: replace(one, job_id=str(others[_like(one)]["job"])),
        lambda one: replace(one, job_id=uuid.uuid4().hex),
        lambda one: replace(one, expires=datetime.now(UTC) - timedelta(seconds=1)),
    ]
    for name in ("get", "put", "pack", "unpack"):
        right = _claims(told[name])
        for change in changes:
            await refused(alice, await sign(pair, catalogue, change(right), storage), _METHODS[name])
        for operation in OPERATIONS - {name, "render"}:
            wrong = replace(right, operation=operation)
            answer = await alice.send(
                _METHODS[operation],
                await sign(pair, catalogue, wrong, storage),
                b"x" if "PUT" in _METHODS[operation] else None,
            )
            # A container has no bytes of its own: to read them gives nothing.
            nothing = (answer.status, answer.body, operation) == (200, b"", "get")
            assert nothing or answer.status in {400, 401, 403, 404, 409, 422}, (name, operation, answer.text)
            assert "secret" not in answer.text, (name, operation)
        await refused(alice, await sign(pair, catalogue, right, str(uuid.uuid4())), _METHODS[name])
    node = int(str(others["get"]["node"]))
    await refused(
        alice, await sign(pair, catalogue, replace(_claims(told["get"]), node_id=node), storage), "GET", "HEAD"
    )
    await refused(alice, await sign(pair, catalogue, replace(_claims(told["files"]), node_id=node), storage), "GET")
    render = replace(_claims(told["get"]), operation="render", job_id=str(others["get"]["job"]))
    await refused(alice, await sign(pair, catalogue, render, storage), "GET")
    assert await alice.pull(f"{folder}/a") == b"secret"


def _like(claims: EndpointClaims) -> str:
    return claims.operation


def _claims(told: dict[str, object]) -> EndpointClaims:
    return EndpointClaims(
        operation=told["op"],  # type: ignore[arg-type]
        node_id=int(str(told["node"])) or None,
        job_id=str(told["job"]) or None,
        user_id=int(str(told["sub"])) or None,
        expires=datetime.fromtimestamp(int(str(told["exp"])), UTC),
        token_id=int(str(told["tok"])) or None,
    )


async def test_after_the_time_of_the_job(alice: Agent, folder: str, catalogue: Database) -> None:
    """Whatever the token itself says."""
    made = await endpoints(alice, folder)
    ids = [str(claims_of(endpoint)["job"]) for endpoint in made.values()]
    await catalogue.fetch("update jobs set expires = now() - interval '1 second' where id = any ($1)", ids)
    await refused(alice, made["get"], "GET", "HEAD")
    await refused(alice, made["put"], "PUT")
    await refused(alice, made["pack"], "GET")
    await refused(alice, made["unpack"], "PUT")


async def test_after_the_right_was_withdrawn(alice: Agent, bea: Agent, shared: str) -> None:
    rights = {PUBLIC: "true", CORE + "groupwrite": STAFF}
    box = await alice.make(f"{shared}/box", "ContainerNode", properties=rights)
    made = await endpoints(bea, box)
    await alice.post(box, "ContainerNode", properties={PUBLIC: "false", CORE + "groupwrite": None})
    for name, endpoint in made.items():
        if name == "pack":  # what may not be read is left out
            answer = await bea.send("GET", endpoint)
            assert b"secret" not in answer.body
            assert answer.status != 500
        else:
            await refused(bea, endpoint, _METHODS.get(name, "GET"))


async def test_after_the_token_was_revoked(space: Space, alice: Agent, folder: str, catalogue: Database) -> None:
    secret = uuid.uuid4().hex
    digest = hashlib.sha256(secret.encode()).digest()
    number = await identities.add_token(catalogue, "alice", "to be revoked", digest, None)
    agent = Agent(space.session, space.pair, secret)
    made = await endpoints(agent, folder)
    for name in ("get", "files"):
        assert (await agent.send("GET", made[name])).body == b"secret"
    await identities.revoke_token(catalogue, "alice", number)
    for name, endpoint in made.items():
        await refused(agent, endpoint, _METHODS.get(name, "GET"))
    assert await alice.pull(f"{folder}/a") == b"secret"


PARTS = ("phase", "results", "error", "owner", "quote", "executionduration", "destruction", "parameters")


def new_jobs(folder: str) -> dict[str, tuple[str, dict[str, str] | None]]:
    """Give, for each list, what makes a job."""
    return {
        "transfers": (transfer_document(f"{folder}/a", PULL, [CORE + "httpsget"]), None),
        "searches": (urlencode({"target": uri_of(folder)}), FORM),
        "async-delete": (urlencode({"target": uri_of(f"{folder}/a")}), FORM),
        "async-setprops": (node_document(f"{folder}/a", properties={"urn:x": "y"}), None),
    }


@pytest.mark.parametrize("list_", ["transfers", "searches", "async-delete", "async-setprops"])
async def test_jobs_of_others(alice: Agent, bea: Agent, nobody: Agent, folder: str, list_: str) -> None:
    await alice.push(f"{folder}/a", b"secret")
    body, headers = new_jobs(folder)[list_]
    job = (await alice.send("POST", f"/{list_}", body, headers=headers)).assert_status(303).location
    name = job.rsplit("/", 1)[-1]
    requests: list[tuple[str, str, str | None]] = [
        ("GET", job, None),
        ("HEAD", job, None),
        ("DELETE", job, None),
        ("GET", f"{job}?WAIT=1", None),
    ]
    requests += [("POST", job, "ACTION=DELETE"), ("POST", job, "PHASE=RUN"), ("POST", f"{job}/phase", "PHASE=RUN")]
    requests += [
        ("POST", f"{job}/phase", "PHASE=ABORT"),
        ("POST", f"{job}/destruction", "DESTRUCTION=2030-01-01T00:00:00Z"),
    ]
    requests += [("POST", f"{job}/executionduration", "EXECUTIONDURATION=1")]
    requests += [("GET", f"{job}/{part}", None) for part in PARTS]
    if list_ == "transfers":
        requests += [("GET", f"{job}/results/transferDetails", None), ("GET", f"/pkg/{name}/run", None)]
    if list_ == "searches":
        requests += [("GET", f"{job}/results/searchDetails", None)]
    for method, url, form in requests:
        for agent, status in ((bea, 403), (nobody, 401)):
            answer = await agent.send(method, url, form, headers=FORM if form else None)
            assert answer.status == status, (method, url, answer.status, answer.text)
            assert folder.rsplit("/", 1)[-1] not in answer.text
    # In another list it is no job at all, whoever asks.
    for other in new_jobs(folder).keys() - {list_}:
        (await alice.send("GET", f"/{other}/{name}")).assert_fault(404, "NotFound")
    assert await alice.phase(job) == "PENDING"


@pytest.mark.parametrize("name", ["x", "0" * 40, "..", "%00", "a" * 3000, "'; --"])
async def test_ids_of_no_job(alice: Agent, nobody: Agent, name: str) -> None:
    for agent in (alice, nobody):
        for list_ in new_jobs("/home/alice"):
            answer = await agent.send("GET", f"/{list_}/{name}".replace(" ", "%20"))
            assert answer.status in {400, 401, 404, 414}, answer.text
