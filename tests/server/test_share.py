"""The public share protocol: endpoints to be handed on to others (VOSpace 2.1, section 3.5.4; R-PROT-010 to 012)."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest

from pyvospace.db import jobs
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE, PUBLIC_SHARE, SHARE_LIFE, TAR_VIEW
from pyvospace.structures.fits import HEADERS
from pyvospace.wire.xml import V
from tests.server.conftest import READERS
from tests.structures.test_fits import FILE
from tests.support.agents import Agent, claims_of, endpoints_of, transfer_document, uri_of

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
GET, PUT = CORE + "httpsget", CORE + "httpsput"
DAY = 86400
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def share(agent: Agent, path: str, **parts: object) -> tuple[str, str]:
    """Share a node; give job and endpoint as URLs."""
    answer = (await agent.sync(path, PULL, PUBLIC_SHARE, **parts)).assert_status(303)
    (endpoint,) = endpoints_of((await agent.send("GET", answer.location)).xml)
    return answer.location.removesuffix("/results/transferDetails"), endpoint


@pytest.fixture
async def shown(alice: Agent, folder: str) -> str:
    """Path of a private file."""
    await alice.push(f"{folder}/a", b"for friends")
    return f"{folder}/a"


def life(endpoint: str, other: str) -> float:
    """Give by how much an endpoint outlives another one."""
    return float(str(claims_of(endpoint)["exp"])) - float(str(claims_of(other)["exp"]))


async def test_anybody_may_use_it_again_and_again(alice: Agent, nobody: Agent, shown: str) -> None:
    job, endpoint = await share(alice, shown)
    for _ in range(3):
        answer = (await nobody.send("GET", endpoint)).assert_status(200)
        assert answer.body == b"for friends"
    assert (await nobody.send("GET", endpoint, headers={"Range": "bytes=4-"})).body == b"friends"
    assert await alice.phase(job) == "EXECUTING"
    (await nobody.send("PUT", endpoint, b"x")).assert_fault(403, "PermissionDenied")
    assert endpoint in endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml)


async def test_no_security_method_and_a_long_life(alice: Agent, shown: str) -> None:
    document = transfer_document(shown, PULL, [PUBLIC_SHARE, GET], methods=["ivo://ivoa.net/sso#tls-with-certificate"])
    answer = await alice.send("POST", "/synctrans", document)
    details = (await alice.send("GET", answer.assert_status(303).location)).xml
    (protocol,) = details.iterfind(V + "protocol")  # no password or certificate opens the other one
    assert protocol.get("uri") == PUBLIC_SHARE
    assert protocol.find(V + "securityMethod") is None
    answer = await alice.send("POST", "/synctrans", transfer_document(shown, PULL, [PUBLIC_SHARE, GET]))
    shared, usual = endpoints_of((await alice.send("GET", answer.location)).xml)
    assert life(shared, usual) == pytest.approx(7 * DAY - 3600, abs=60)
    assert (await alice.send("GET", usual)).body == b"for friends"


async def test_client_may_ask_for_less(alice: Agent, shown: str) -> None:
    _, whole = await share(alice, shown)
    _, short = await share(alice, shown, params={SHARE_LIFE: str(DAY)})
    assert life(whole, short) == pytest.approx(6 * DAY, abs=60)
    _, more = await share(alice, shown, params={SHARE_LIFE: str(100 * DAY)})
    assert life(more, whole) == pytest.approx(0, abs=60)
    for bad in ("", "-1", "0", "1.5", "soon", "9" * 30):
        answer = await alice.sync(shown, PULL, PUBLIC_SHARE, params={SHARE_LIFE: bad})
        job = answer.assert_status(303).location.removesuffix("/results/transferDetails")
        assert await alice.error(job) == "InvalidArgument"


async def test_parameter_form(alice: Agent, nobody: Agent, shown: str) -> None:
    asked = {"TARGET": uri_of(shown), "DIRECTION": PULL, "PROTOCOL": PUBLIC_SHARE}
    answer = await alice.send("GET", f"/synctrans?{urlencode(asked, quote_via=quote)}")
    assert (await nobody.send("GET", answer.assert_status(303).location)).body == b"for friends"


async def test_asynchronous_transfer(alice: Agent, nobody: Agent, shown: str, catalogue: Database) -> None:
    job = (await alice.send("POST", "/transfers", transfer_document(shown, PULL, [PUBLIC_SHARE]))).location
    (await alice.send("POST", f"{job}/phase", "PHASE=RUN", headers=FORM)).assert_status(303)
    (endpoint,) = endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml)
    assert (await nobody.send("GET", endpoint)).body == b"for friends"
    assert await alice.phase(job) == "EXECUTING"
    kept = "select destruction >= expires as kept from jobs where id = $1"
    assert await catalogue.fetchval(kept, job.rsplit("/", 1)[1])


@pytest.mark.parametrize("how", ["abort", "delete"])
async def test_its_job_revokes_it(alice: Agent, carl: Agent, nobody: Agent, shown: str, how: str) -> None:
    job, endpoint = await share(alice, shown)
    (await carl.send("DELETE", job)).assert_fault(403, "PermissionDenied")
    (await nobody.send("GET", endpoint)).assert_status(200)
    if how == "abort":
        (await alice.send("POST", f"{job}/phase", "PHASE=ABORT", headers=FORM)).assert_status(303)
        assert await alice.phase(job) == "ABORTED"
        assert endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml) == []
    else:
        (await alice.send("DELETE", job)).assert_status(303)
    (await nobody.send("GET", endpoint)).assert_fault(403, "PermissionDenied")


async def test_it_dies_with_the_right_of_who_shares(alice: Agent, carl: Agent, nobody: Agent, shared: str) -> None:
    await alice.push(f"{shared}/a", b"x")
    (await alice.post(f"{shared}/a", properties={CORE + "groupread": READERS})).assert_status(200)
    _, endpoint = await share(carl, f"{shared}/a")
    (await nobody.send("GET", endpoint)).assert_status(200)
    (await alice.post(f"{shared}/a", properties={CORE + "groupread": ""})).assert_status(200)
    (await nobody.send("GET", endpoint)).assert_fault(403, "PermissionDenied")


async def test_who_may_not_read_may_not_share(carl: Agent, nobody: Agent, shown: str) -> None:
    answer = (await carl.sync(shown, PULL, PUBLIC_SHARE)).assert_status(303)
    assert await carl.error(answer.location.removesuffix("/results/transferDetails")) == "PermissionDenied"
    (await nobody.sync(shown, PULL, PUBLIC_SHARE)).assert_fault(401, "NotAuthenticated")


async def test_expiry(alice: Agent, nobody: Agent, shown: str, catalogue: Database) -> None:
    job, endpoint = await share(alice, shown)
    await catalogue.fetch("update jobs set expires = now() where id = $1", job.rsplit("/", 1)[1])
    (await nobody.send("GET", endpoint)).assert_fault(403, "PermissionDenied")
    while await alice.phase(job) == "EXECUTING":
        await jobs.tidy(catalogue, batch=1000, attempts=3, archive=DAY)
    assert await alice.phase(job) == "COMPLETED"
    assert endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml) == []


async def test_job_stays_until_the_endpoint_expires(alice: Agent, shown: str, catalogue: Database) -> None:
    job, _ = await share(alice, shown)
    form = "DESTRUCTION=2000-01-01T00:00:00Z"
    (await alice.send("POST", f"{job}/destruction", form, headers=FORM)).assert_status(303)
    kept = "select destruction >= expires as kept from jobs where id = $1"
    assert await catalogue.fetchval(kept, job.rsplit("/", 1)[1])


@pytest.mark.parametrize("direction", [PUSH, "pullToVoSpace", "pushFromVoSpace"])
async def test_no_other_direction(alice: Agent, shown: str, direction: str) -> None:
    job = (await alice.send("POST", "/transfers", transfer_document(shown, direction, [PUBLIC_SHARE]))).location
    await alice.send("POST", f"{job}/phase", "PHASE=RUN", headers=FORM)
    assert await alice.phase(job) == "ERROR"
    assert await alice.error(job) == "ProtocolNotSupported"
    summary = (await alice.send("GET", job)).xml
    assert "Protocol Not Supported" in "".join(map(str, summary.itertext()))
    if direction == PUSH:
        asked = {"TARGET": uri_of(shown), "DIRECTION": PUSH, "PROTOCOL": PUBLIC_SHARE}
        answer = await alice.send("GET", f"/synctrans?{urlencode(asked, quote_via=quote)}")
        answer.assert_fault(400, "ProtocolNotSupported")


async def test_views_are_shared_too(alice: Agent, nobody: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/image.fits", "StructuredDataNode")
    await alice.push(path, FILE)
    _, endpoint = await share(alice, path, view=HEADERS.uri)
    assert (await nobody.send("GET", endpoint)).text.startswith("# HDU 0")
    job, endpoint = await share(alice, folder, view=TAR_VIEW)
    for _ in range(2):
        answer = (await nobody.send("GET", endpoint)).assert_status(200)
        assert answer.headers["Content-Type"] == "application/x-tar"
    assert await alice.phase(job) == "EXECUTING"


async def test_protocols(alice: Agent) -> None:
    answer = (await alice.send("GET", "/protocols")).xml
    provided = [one.get("uri") for one in answer.iterfind(f"{V}provides/{V}protocol")]
    assert provided.count(PUBLIC_SHARE) == 1


async def test_the_name_ends_the_url_as_it_ends_that_of_the_node(alice: Agent, folder: str) -> None:
    path = f"{folder}/%C3%BC%20x.txt"
    await alice.push(path, b"x")
    _, endpoint = await share(alice, path)
    assert endpoint.endswith("/%C3%BC%20x.txt")
