"""What clients need of transfers and of bytes (rows T1 to T18 of what they need)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
from vosfs.negotiate import parse_transfer_details
from vosfs.nodes import build_transfer_document
from yarl import URL

from pyvospace.config import Settings
from pyvospace.model.vocabulary import CORE, SSO_ANON, SSO_TOKEN, Direction
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.interop.conftest import SecureSpace
from tests.interop.machine import Folder, Machine
from tests.support.agents import Agent, endpoints_of, transfer_document
from tests.support.pair import Pair
from tests.support.postgres import PostgresServer

HTTPS_PUT = CORE + "httpsput"
HTTPS_GET = CORE + "httpsget"
PRIVATE = "vos://cadc.nrc.ca~vospace/CADC/std/Auth#token-1.0"
"""Security method that vos asks for first."""
BYTES = bytes(range(256)) * 40


def digest(content: bytes) -> str:
    """Give the header by which vos knows bytes."""
    return "md5=" + base64.b64encode(hashlib.md5(content).digest()).decode()


@pytest.fixture
async def endpoint(alice: Agent, folder: Folder) -> str:
    """Where new bytes go."""
    return (await alice.negotiate(folder.node_path("a"), Direction.PUSH_TO_VOSPACE))[1]


@pytest.fixture
async def stored(alice: Agent, folder: Folder) -> str:
    """Where bytes that are there come from."""
    await alice.push(folder.node_path("b c.fits"), BYTES, Content_Type="application/fits")
    return (await alice.negotiate(folder.node_path("b c.fits"), Direction.PULL_FROM_VOSPACE))[1]


@pytest.mark.clause("T1")
@pytest.mark.parametrize(("name", "direction"), [("httpsput", "pushToVoSpace"), ("httpsget", "pullFromVoSpace")])
async def test_secure_protocols_on_plain_http(alice: Agent, folder: Folder, name: str, direction: str) -> None:
    await alice.push(folder.node_path("a"), BYTES)
    _, endpoint = await alice.negotiate(folder.node_path("a"), direction, CORE + name)
    assert endpoint.startswith(alice.pair.storage_url + "/")


@pytest.mark.clause("T1")
async def test_no_plain_endpoints_with_tls(secure_space: SecureSpace, secure_folder: Folder) -> None:
    connector = aiohttp.TCPConnector(ssl=secure_space.context)
    async with aiohttp.ClientSession(connector=connector) as session:
        alice = Agent(session, secure_space.pair, secure_space.pair.token)
        target = f"vos://{secure_space.pair.authority}{secure_folder.path}/a"
        both = transfer_document("", "pushToVoSpace", [CORE + "httpput", HTTPS_PUT], target=target)
        answer = (await alice.send("POST", "/synctrans", both)).assert_status(303)
        (endpoint,) = endpoints_of((await alice.send("GET", answer.location)).xml)
        assert endpoint.startswith(f"{secure_space.pair.storage_url}/store/files/")
        plain = await alice.sync("", "pushToVoSpace", CORE + "httpput", target=target)
        job = plain.location.removesuffix("/results/transferDetails")
        assert await alice.error(job) == "ProtocolNotSupported"


@pytest.mark.clause("T2")
@pytest.mark.parametrize("direction", ["pushToVoSpace", "pullFromVoSpace"])
async def test_of_the_protocols_of_vos_the_one_without_a_method(alice: Agent, folder: Folder, direction: str) -> None:
    path = folder.node_path("a")
    await alice.push(path, BYTES)
    name = HTTPS_PUT if direction == "pushToVoSpace" else HTTPS_GET
    document = transfer_document(path, direction, [name], methods=[PRIVATE]).replace(
        "</transfer>", f'<protocol uri="{name}"/></transfer>'
    )
    answer = (await alice.send("POST", "/synctrans", document)).assert_status(303)
    details = (await alice.send("GET", answer.location)).xml
    (endpoint,) = endpoints_of(details)
    assert not [element for element in details.iter() if str(element.tag).endswith("securityMethod")]
    if direction == "pushToVoSpace":
        (await alice.send("PUT", endpoint, BYTES)).assert_status(201)
    else:
        assert (await alice.send("GET", endpoint)).body == BYTES


@pytest.mark.clause("T2")
@pytest.mark.parametrize("method", [None, SSO_ANON, SSO_TOKEN])
async def test_endpoints_as_vosfs_reads_them(alice: Agent, folder: Folder, method: str | None) -> None:
    """Whatever method was asked for: the URL needs no credential."""
    path = folder.node_path("a")
    sent = build_transfer_document(f"vos://localhost~space{path}", direction="pushToVoSpace", protocols=[HTTPS_PUT])
    if method:
        inner = f'<vos:securityMethod standardID="{method}"/>'.encode()
        sent = sent.replace(b"/></vos:transfer>", b">" + inner + b"</vos:protocol></vos:transfer>")
    answer = (await alice.send("POST", "/synctrans", sent)).assert_status(303)
    (found,) = parse_transfer_details((await alice.send("GET", answer.location)).body)
    (await alice.send("PUT", found.url, BYTES)).assert_status(201)


@pytest.mark.clause("T3")
async def test_endpoints_are_used_more_than_once(alice: Agent, endpoint: str, stored: str) -> None:
    for _ in range(3):
        (await alice.send("HEAD", endpoint)).assert_status(200)
        (await alice.send("PUT", endpoint, BYTES)).assert_status(201)
    for start in range(0, 50, 10):
        answer = await alice.send("GET", stored, headers={"Range": f"bytes={start}-{start + 9}"})
        assert answer.body == BYTES[start : start + 10]


@pytest.mark.clause("T4")
@pytest.mark.parametrize("credential", ["Bearer good", "Bearer bad", "Basic !", "Nonsense"])
async def test_credentials_at_endpoints(alice: Agent, endpoint: str, stored: str, credential: str) -> None:
    headers = {
        "Authorization": credential.replace("good", str(alice.token)),
        "X-CADC-DelegationToken": str(alice.token),
    }
    (await alice.send("PUT", endpoint, BYTES, headers=headers)).assert_status(201)
    assert (await alice.send("GET", stored, headers=headers)).body == BYTES


@pytest.mark.clause("T5")
async def test_redirects_of_a_transfer(alice: Agent, folder: Folder) -> None:
    answer = (await alice.sync(folder.node_path("a"), "pushToVoSpace", HTTPS_PUT)).assert_status(303)
    url = answer.location
    while (details := await alice.send("GET", url)).status == 303:
        url = details.location
    assert endpoints_of(details.assert_status(200).xml)
    assert url.endswith("/results/transferDetails")
    assert "xfer" not in url
    job = url.removesuffix("/results/transferDetails")
    phase = (await alice.send("GET", f"{job}/phase")).assert_status(200)
    assert (phase.headers["Content-Type"], phase.body) == ("text/plain", b"EXECUTING")


def by_parameters(target: str, **more: str) -> str:
    """Write the query that vosfs sends."""
    asked = {
        "TARGET": target,
        "DIRECTION": "pullFromVoSpace",
        "PROTOCOL": HTTPS_GET,
        "SECURITYMETHOD": SSO_ANON,
        "REQUEST": "redirect",
        **more,
    }
    return "/synctrans?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items() if value)


@pytest.mark.clause("T6")
@pytest.mark.parametrize("method", [SSO_ANON, SSO_TOKEN, ""])
async def test_transfer_by_parameters(alice: Agent, folder: Folder, method: str) -> None:
    """With the type of a document and no document."""
    await alice.push(folder.node_path("a b"), BYTES)
    url = alice.pair.url + by_parameters(folder.vos("a b"), SECURITYMETHOD=method)
    answer = (await alice.send("POST", url, b"", headers={"Content-Type": "text/xml"})).assert_status(303)
    assert "files" in urlsplit(answer.location).path.split("/")
    assert (await alice.send("GET", answer.location)).assert_status(200).body == BYTES


@pytest.mark.clause("T6")
@pytest.mark.clause("T7")
async def test_transfer_by_parameters_that_cannot_be(alice: Agent, nobody: Agent, folder: Folder) -> None:
    headers = {"Content-Type": "text/xml"}
    url = alice.pair.url + by_parameters(folder.vos("missing"))
    (await alice.send("POST", url, b"", headers=headers)).assert_fault(404, "NodeNotFound")
    (await nobody.send("POST", url, b"", headers=headers)).assert_fault(401, "NotAuthenticated")


@pytest.mark.clause("T7")
@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("vos://localhost~space{}/missing", "NodeNotFound"),
        ("vos://localhost~space/home", "InvalidArgument"),
        ("vos://elsewhere~space/a", "InvalidURI"),
        ("vos://localhost~space/a//b", "InvalidURI"),
    ],
)
async def test_a_refusal_is_a_job_that_failed(alice: Agent, folder: Folder, target: str, fault: str) -> None:
    document = transfer_document("", "pullFromVoSpace", [HTTPS_GET], target=target.format(folder.path))
    answer = (await alice.send("POST", "/synctrans", document)).assert_status(303)
    assert endpoints_of((await alice.send("GET", answer.location)).assert_status(200).xml) == []
    job = answer.location.removesuffix("/results/transferDetails")
    assert await alice.phase(job) == "ERROR"
    assert await alice.error(job) == fault


@pytest.mark.clause("T8")
@pytest.mark.clause("T9")
async def test_201_with_a_digest(alice: Agent, folder: Folder) -> None:
    for content in (b"first", b"second", b""):
        answer = await alice.push(folder.node_path("a"), content)
        assert answer.status == 201
        assert answer.headers["Digest"] == digest(content)


@pytest.mark.clause("T10")
async def test_a_wrong_digest_keeps_the_old_bytes(alice: Agent, folder: Folder) -> None:
    path = folder.node_path("a")
    await alice.push(path, b"old")
    _, endpoint = await alice.negotiate(path, Direction.PUSH_TO_VOSPACE)
    for _ in range(3):
        wrong = await alice.send("PUT", endpoint, b"damaged", headers={"Digest": digest(b"new")})
        assert (wrong.status, wrong.text.startswith("checksum mismatch")) == (412, True)
        assert await alice.pull(path) == b"old"
    (await alice.send("PUT", endpoint, b"new", headers={"Digest": digest(b"new")})).assert_status(201)
    assert await alice.pull(path) == b"new"


LARGE = """
import sys
from cadcutils.net import ws
ws.MAX_MD5_COMPUTE_SIZE = ws.FILE_SEGMENT_THRESHOLD = 4096
ws.PREFERRED_SEGMENT_SIZE = 5000
from vos.commands.vcp import vcp
sys.argv[0] = "vcp"
vcp()
"""


@pytest.mark.clause("T11")
def test_vcp_of_a_file_that_it_takes_for_one_above_5_gib(machine: Machine, folder: Folder, fits_file: Path) -> None:
    """Its thresholds are lowered; everything else is vos. It comes in segments of one transaction."""
    machine.python(LARGE, "--token", str(machine.token), fits_file, folder.vos("a.fits"))
    machine.vos("vcp", folder.vos("a.fits"), "large")
    machine.run("cmp", fits_file, "large")


@pytest.mark.clause("T12")
async def test_head_of_an_endpoint_for_writing(alice: Agent, endpoint: str) -> None:
    before = (await alice.send("HEAD", endpoint)).assert_status(200)
    assert "Digest" not in before.headers
    (await alice.send("PUT", endpoint, BYTES)).assert_status(201)
    assert (await alice.send("HEAD", endpoint)).assert_status(200).headers["Digest"] == digest(BYTES)


@pytest.mark.clause("T13")
@pytest.mark.parametrize("accepted", ["identity", "gzip, deflate, br"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_headers_of_bytes(alice: Agent, stored: str, method: str, accepted: str) -> None:
    answer = (await alice.send(method, stored, headers={"Accept-Encoding": accepted})).assert_status(200)
    assert answer.headers["Content-Length"] == str(len(BYTES))
    assert answer.headers["Content-Type"] == "application/fits"
    assert answer.headers["Digest"] == digest(BYTES)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "Content-Encoding" not in answer.headers
    disposition = Message()
    disposition["Content-Disposition"] = answer.headers["Content-Disposition"]
    assert disposition.get_filename() == "b c.fits"
    assert answer.body == (BYTES if method == "GET" else b"")


@pytest.mark.clause("T14")
@pytest.mark.parametrize("wanted", [slice(0, 1), slice(100, 200), slice(10000, None), slice(-5, None)])
async def test_ranges(alice: Agent, stored: str, wanted: slice) -> None:
    start, stop, _ = wanted.indices(len(BYTES))
    text = f"bytes={wanted.start if wanted.start >= 0 else ''}-{wanted.stop - 1 if wanted.stop else ''}"
    text = "bytes=-5" if wanted.start < 0 else text
    answer = (await alice.send("GET", stored, headers={"Range": text})).assert_status(206)
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BYTES)}"
    assert answer.headers["Content-Length"] == str(stop - start)
    assert answer.headers["Digest"] == digest(BYTES)
    assert answer.body == BYTES[wanted]


@pytest.mark.clause("T14")
async def test_a_range_behind_the_end(alice: Agent, stored: str) -> None:
    answer = await alice.send("GET", stored, headers={"Range": f"bytes={len(BYTES)}-"})
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(BYTES)}"


@pytest.mark.clause("T15")
@pytest.mark.parametrize("name", ["b c.fits", "link", "link to link"])
async def test_bytes_by_path(alice: Agent, folder: Folder, stored: str, name: str) -> None:
    """The range survives the redirect, which takes no credential to the storage server."""
    await alice.make(folder.node_path("link"), "LinkNode", target=folder.vos("b c.fits"))
    await alice.make(folder.node_path("link to link"), "LinkNode", target=folder.vos("link"))
    url = URL(folder.file_url(name), encoded=True)
    headers = {"Authorization": f"Bearer {alice.token}"}
    async with alice.session.get(url, headers=headers) as answer:
        assert await answer.read() == BYTES
    async with alice.session.get(url, headers={**headers, "Range": "bytes=100-199"}) as answer:
        assert (answer.status, await answer.read()) == (206, BYTES[100:200])
        assert "Authorization" not in answer.request_info.headers
    async with alice.session.head(url, headers=headers, allow_redirects=True) as answer:
        assert (answer.status, answer.headers["Digest"]) == (200, digest(BYTES))


@pytest.mark.clause("T15")
@pytest.mark.parametrize("pushed", [False, True])
async def test_no_bytes_by_path(alice: Agent, folder: Folder, *, pushed: bool) -> None:
    path = await alice.make(folder.node_path("a b"))
    if pushed:
        await alice.push(path, b"")
    url = URL(folder.file_url("a b"), encoded=True)
    async with alice.session.get(url, headers={"Authorization": f"Bearer {alice.token}"}) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert answer.headers["Content-Length"] == "0"
        assert "filename=\"a b\"; filename*=UTF-8''a%20b" in answer.headers["Content-Disposition"]


@pytest.fixture
async def impatient(
    postgres_server: PostgresServer, database_name: str, tmp_path: Path
) -> AsyncIterator[tuple[Pair, aiohttp.ClientSession]]:
    """Servers that wait for nobody."""
    environment = {"PYVOSPACE_LIMITS__BODY_TIMEOUT": "0.5", "PYVOSPACE_STORAGE__IDLE_TIMEOUT": "0.5"}
    pair = await asyncio.to_thread(
        Pair,
        postgres_server.dsn(database_name),
        tmp_path,
        storage_dsn=postgres_server.dsn(database_name, STORAGE_ROLE),
        environment=environment,
    )
    try:
        await asyncio.to_thread(pair.start)
        async with aiohttp.ClientSession() as session:
            yield pair, session
    finally:
        await asyncio.to_thread(pair.stop)


async def half_a_request(url: str, headers: dict[str, str]) -> bytes:
    """Send a PUT with fewer bytes than announced and give the answer's first line, which comes unasked."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = [f"PUT {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Length: 1000"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", "half"]).encode())
    line = await reader.readline()
    writer.close()
    return line


@pytest.mark.clause("T16")
async def test_who_sends_no_more_is_told_408(impatient: tuple[Pair, aiohttp.ClientSession]) -> None:
    pair, session = impatient
    alice = Agent(session, pair, pair.token)
    login = {"Authorization": f"Bearer {pair.token}", "Content-Type": "text/xml"}
    assert (await half_a_request(f"{pair.url}/nodes{pair.home}/a", login)).startswith(b"HTTP/1.1 408 ")
    _, endpoint = await alice.negotiate(f"{pair.home}/a", Direction.PUSH_TO_VOSPACE)
    assert (await half_a_request(endpoint, {})).startswith(b"HTTP/1.1 408 ")
    (await alice.send("PUT", endpoint, BYTES)).assert_status(201)


@pytest.mark.clause("T16")
def test_servers_wait_less_than_vos() -> None:
    """It gives up after 120 s without a byte."""
    settings = Settings()
    assert settings.limits.body_timeout <= 60
    assert settings.storage.idle_timeout <= 60
    assert settings.database.upload_acquire_timeout < 120


async def conversation(url: str, head: list[str], content: bytes) -> bytes:
    """Send a request that expects 100-continue, its body after the word, and give all that comes back."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = [*head, f"Host: {parts.netloc}", "Expect: 100-continue", "Connection: close"]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    said = await reader.readuntil(b"\r\n\r\n")
    if content:
        assert said.startswith(b"HTTP/1.1 100 ")
        writer.write(content)
    said += await reader.read()
    writer.close()
    return said


@pytest.mark.clause("T17")
async def test_expect_without_a_body(alice: Agent, folder: Folder) -> None:
    """As vos reads each node."""
    head = [f"GET /nodes{folder.path}?limit=0 HTTP/1.1", f"Authorization: Bearer {alice.token}", "Accept: */*"]
    said = await conversation(alice.pair.url, head, b"")
    assert b"HTTP/1.1 200 OK\r\n" in said
    assert said.endswith(b"</vos:node>\n")


@pytest.mark.clause("T17")
@pytest.mark.parametrize("size", [10, 3 * 1024**2])
async def test_expect_with_a_body(alice: Agent, folder: Folder, endpoint: str, size: int) -> None:
    content = os.urandom(size)
    path = urlsplit(endpoint).path
    said = await conversation(endpoint, [f"PUT {path} HTTP/1.1", f"Content-Length: {size}"], content)
    assert b"HTTP/1.1 201 Created\r\n" in said
    assert await alice.pull(folder.node_path("a")) == content


@pytest.mark.clause("T18")
@pytest.mark.parametrize("size", [0, 10, 3 * 1024**2])
async def test_chunks(alice: Agent, folder: Folder, endpoint: str, size: int) -> None:
    content = os.urandom(size)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield content[start : start + 100_000]

    async with alice.session.put(URL(endpoint, encoded=True), data=pieces()) as answer:
        assert answer.request_info.headers["Transfer-Encoding"] == "chunked"
        assert (answer.status, answer.headers["Digest"]) == (201, digest(content))
    assert await alice.pull(folder.node_path("a")) == content
