"""Bad input gets the right fault in plain text, and the server goes on (I32; T1, T4, T15 to T17, T19, T23)."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import pytest

from pyvospace.model.faults import FAULTS
from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from pyvospace.wire.xml import V
from tests.server.conftest import Space
from tests.support.agents import Agent, children_of, node_document, transfer_document, uri_of
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.raw import RawAnswer, talk

NS = V[1:-1]


@pytest.fixture(autouse=True)
async def healthy(alice: Agent, pair: Pair) -> AsyncIterator[None]:
    """The server answers afterwards, and found no defect in itself."""
    yield
    await alice.node("", limit=0)
    for name in ("metadata", "storage"):
        assert "defect" not in pair.log(name), pair.log(name)[pair.log(name).index("defect") :][:3000]


# XML

BOMB = '<!DOCTYPE b [<!ENTITY a "x">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "empty": "",
    "spaces": "  \n ",
    "no XML": "hello",
    "nul": "\0",
    "cut": '<node xmlns="',
    "never closed": f'<node xmlns="{NS}">',
    "closed twice": f'<node xmlns="{NS}"/></node>',
    "two roots": f'<node xmlns="{NS}"/><node xmlns="{NS}"/>',
    "other root": f'<banana xmlns="{NS}"/>',
    "no namespace": '<node uri="vos://localhost~space/x"/>',
    "other namespace": '<node xmlns="urn:x" uri="vos://localhost~space/x"/>',
    "html": "<!DOCTYPE html><html><body>hi</body></html>",
    "internal entity": '<!DOCTYPE n [<!ENTITY x "y">]><node xmlns="{NS}" uri="&x;"/>',
    "external entity": '<!DOCTYPE n [<!ENTITY x SYSTEM "file:///etc/passwd">]><node>&x;</node>',
    "external dtd": '<!DOCTYPE n SYSTEM "http://127.0.0.1:1/x.dtd"><node/>',
    "parameter entity": '<!DOCTYPE n [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><node/>',
    "bomb": BOMB + "]><node>&i;</node>",
    "undefined entity": f'<node xmlns="{NS}" uri="&nbsp;"/>',
    "xinclude": f'<node xmlns="{NS}"><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/hosts"/></node>',
    "deep": f'<node xmlns="{NS}">' + "<properties>" * 5000,
    "many attributes": f'<node xmlns="{NS}" ' + " ".join(f'a{n}="x"' for n in range(20000)) + "/>",
    "many namespaces": "<node " + " ".join(f'xmlns:n{n}="urn:{n}"' for n in range(10000)) + f' xmlns="{NS}"/>',
    "same attribute twice": f'<node xmlns="{NS}" uri="a" uri="b"/>',
    "control character": f'<node xmlns="{NS}" uri="a\x01b"/>',
    "reference to nul": f'<node xmlns="{NS}" uri="&#0;"/>',
    "unbound prefix": '<vos:node uri="x"/>',
    "instruction": f'<?xml-stylesheet href="http://127.0.0.1:1/"?><node xmlns="{NS}"',
    "wrong encoding": f'<?xml version="1.0" encoding="utf-7"?><node xmlns="{NS}"/>',
    "unknown encoding": f'<?xml version="1.0" encoding="klingon"?><node xmlns="{NS}"/>',
    "version 2": f'<?xml version="2.0"?><node xmlns="{NS}"/>',
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_documents(alice: Agent, folder: str, kind: str) -> None:
    body = HOSTILE[kind]
    for method, path in (("PUT", f"/nodes{folder}/a"), ("POST", f"/nodes{folder}"), ("POST", "/synctrans")):
        answer = await alice.send(method, path, body)
        assert (answer.status, answer.fault) in {(400, "InvalidArgument"), (400, "InvalidURI")}, answer.text
        assert "root:" not in answer.text
        assert len(answer.text) < 2000
    assert children_of(await alice.node(folder)) == []


async def test_documents_in_other_encodings(alice: Agent, folder: str) -> None:
    document = node_document(f"{folder}/a", properties={CORE + "title": "é"})
    for name, encoding in (("utf-16", "utf-16"), ("iso-8859-1", "latin-1"), ("UTF-8", "utf-8-sig")):
        body = f'<?xml version="1.0" encoding="{name}"?>{document}'.encode(encoding)
        (await alice.send("PUT", f"/nodes{folder}/a", body)).assert_status(201)
        assert "é" in (await alice.get(f"{folder}/a")).text
        await alice.delete(f"{folder}/a")
    for body in (b"\xff\xfe", document.encode("latin-1"), b"\xef\xbb\xbf", document.encode("utf-32"), b"\x80" * 100):
        (await alice.send("PUT", f"/nodes{folder}/a", body)).assert_fault(400, "InvalidArgument")


async def test_document_of_another_kind(alice: Agent, folder: str) -> None:
    node, transfer = (
        node_document(f"{folder}/a"),
        transfer_document(f"{folder}/a", "pushToVoSpace", [CORE + "httpsput"]),
    )
    (await alice.send("PUT", f"/nodes{folder}/a", transfer)).assert_fault(400, "InvalidArgument")
    (await alice.send("POST", f"/nodes{folder}", transfer)).assert_fault(400, "InvalidArgument")
    (await alice.send("POST", "/synctrans", node)).assert_fault(400, "InvalidArgument")
    (await alice.send("PUT", f"/nodes{folder}/a", f'<protocols xmlns="{NS}"/>')).assert_fault(400, "InvalidArgument")


async def test_document_that_is_too_large(alice: Agent, folder: str, pair: Pair) -> None:
    head = node_document(f"{folder}/a", properties={})
    large = head.replace("<properties>", "<properties>" + " " * (1 << 20))
    for method, path in (("PUT", f"/nodes{folder}/a"), ("POST", f"/nodes{folder}"), ("POST", "/synctrans")):
        (await alice.send(method, path, large)).assert_fault(413, "RequestEntityTooLarge")
    (await alice.send("PUT", f"/nodes{folder}/a", large[: 1 << 20])).assert_fault(400, "InvalidArgument")
    # By its announcement alone, and without one.
    request = f"PUT /nodes{folder}/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n"
    answer = await talk(pair.port, f"{request}Content-Length: 99999999999\r\n\r\n".encode())
    assert answer.status == 413
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = await talk(pair.port, f"{request}Transfer-Encoding: chunked\r\n\r\n".encode(), *[chunk] * 32)
    assert answer.status in {413, 0}


async def test_many_elements(alice: Agent, folder: str) -> None:
    views = "<view uri='x'/>" * 20000
    inner = f"<accepts>{views}</accepts>"
    (await alice.put(f"{folder}/a", properties={}, inner=inner)).assert_fault(400, "InvalidArgument")
    # Children are not read at all, however many.
    children = f"<nodes>{'<node/>' * 50000}</nodes>"
    (await alice.put(f"{folder}/a", "ContainerNode", properties={}, inner=children)).assert_status(201)


# Content types and encodings


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/xml", 201),
        ("application/xml", 201),
        ("text/xml; charset=utf-8", 201),
        ("TEXT/XML", 201),
        ("", 201),
        ("image/png", 415),
        ("application/json", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
async def test_content_types(alice: Agent, folder: str, content_type: str, status: int) -> None:
    document = node_document(f"{folder}/a")
    answer = await alice.send("PUT", f"/nodes{folder}/a", document, headers={"Content-Type": content_type})
    assert (answer.status, answer.fault) == (status, "" if status == 201 else "UnsupportedMediaType")


async def test_request_without_content_type(alice: Agent, folder: str, pair: Pair) -> None:
    document = node_document(f"{folder}/a")
    head = f"PUT /nodes{folder}/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nContent-Length: "
    assert (await talk(pair.port, f"{head}{len(document)}\r\n\r\n{document}".encode())).status == 201


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x", "gzip, gzip"])
async def test_compressed_documents_are_refused(alice: Agent, folder: str, encoding: str) -> None:
    body = gzip.compress(node_document(f"{folder}/a").encode())
    headers = {"Content-Encoding": encoding}
    for method, path in (("PUT", f"/nodes{folder}/a"), ("POST", f"/nodes{folder}"), ("POST", "/synctrans")):
        (await alice.send(method, path, body, headers=headers)).assert_fault(415, "UnsupportedMediaType")


async def test_compressed_bytes_come_back_as_sent(alice: Agent, folder: str) -> None:
    body = gzip.compress(b"x" * 1000)
    await alice.push(f"{folder}/a", body, Content_Encoding="gzip")
    _, endpoint = await alice.negotiate(f"{folder}/a", "pullFromVoSpace")
    answer = await alice.send("GET", endpoint)
    assert (answer.body, answer.headers.get("Content-Encoding")) == (body, None)


# Paths

BAD_PATHS = {
    "dots": "..",
    "dot": ".",
    "encoded dots": "%2e%2e",
    "half encoded dots": ".%2E",
    "encoded slash": "a%2Fb",
    "encoded slash, small": "a%2fb",
    "up and away": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "nul": "a%00b",
    "line end": "a%0ab",
    "carriage return": "a%0db",
    "delete": "a%7fb",
    "escape": "%1b[2J",
    "no UTF-8": "%ff%fe",
    "overlong": "%c0%af",
    "surrogate": "%ed%a0%80",
    "cut character": "%e2%82",
    "256 bytes": "x" * 256,
    "256 bytes, encoded": "%C3%A9" * 128,
    "empty name": "a//b",
    "many levels": "/".join("x" * 201),
}


@pytest.mark.parametrize("kind", BAD_PATHS)
async def test_bad_paths(alice: Agent, folder: str, kind: str) -> None:
    path = f"{folder}/{BAD_PATHS[kind]}"
    for method in ("GET", "PUT", "POST", "DELETE"):
        body = node_document(path) if method in {"PUT", "POST"} else None
        (await alice.send(method, f"/nodes{path}", body)).assert_fault(400, "InvalidURI")
    for method in ("GET", "PUT"):
        (await alice.send(method, f"/files{path}", None if method == "GET" else b"x")).assert_fault(400, "InvalidURI")
    parameters = (
        f"TARGET={quote(uri_of(path), safe='')}&DIRECTION=pushToVoSpace&PROTOCOL={quote(CORE, safe='')}httpsput"
    )
    (await alice.send("POST", f"/synctrans?{parameters}")).assert_fault(400, "InvalidURI")
    (await alice.get(folder, uri=uri_of(path))).assert_fault(400, "InvalidURI")
    target = await alice.send("POST", "/synctrans", transfer_document(path, "pushToVoSpace", [CORE + "httpsput"]))
    assert await alice.error(target.location.removesuffix("/results/transferDetails")) == "InvalidURI"
    assert children_of(await alice.node(folder)) == []


@pytest.mark.parametrize("name", ["a%", "a%zz", "%u0041"])
async def test_percent_that_begins_no_escape(alice: Agent, folder: str, name: str) -> None:
    """Wrong in a URL. In a URI inside a document it stands for itself, since vos writes names as they are."""
    path = f"{folder}/{name}"
    for method in ("GET", "PUT", "POST", "DELETE"):
        body = node_document(path) if method in {"PUT", "POST"} else None
        (await alice.send(method, f"/nodes{path}", body)).assert_fault(400, "InvalidURI")
    written = f"{folder}/{name.replace('%', '%25')}"
    made = (await alice.put(written, uri=uri_of(path))).assert_status(201).xml
    assert made.get("uri") == uri_of(written)


async def test_names_that_look_bad_and_are_not(alice: Agent, folder: str) -> None:
    names = [
        "..%2520",
        "%255c..%255c",
        "...",
        "a%5Cb",
        "C%3A",
        "~",
        "-rf",
        "%24%28id%29",
        "%27%3B--",
        "%3Cscript%3E",
        "%EF%BF%BE",
    ]
    names += ["x" * 255, "%C3%A9" * 127, "%E2%80%AE", "%2520", "con", "%F0%9F%94%AD", "%C2%85", "nul", "%7B%7D"]
    for name in names:
        (await alice.send("PUT", f"/nodes{folder}/{name}", node_document(f"{folder}/{name}"))).assert_status(201)
        (await alice.get(f"{folder}/{name}")).assert_status(200)
    assert len(children_of(await alice.node(folder))) == len(names)


async def test_longest_path_of_longest_names(alice: Agent, folder: str, pair: Pair) -> None:
    """What the rules allow fits into a request, too."""
    deep = folder + ("/" + "%C3%A9" * 127) * 197
    (await alice.get(deep)).assert_fault(404, "NodeNotFound")
    (await alice.put(deep)).assert_fault(404, "ContainerNotFound")
    (await alice.get(deep + "/x")).assert_fault(400, "InvalidURI")
    longer = await talk(pair.port, b"GET /nodes/" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert longer.status == 400


# Methods


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/nodes", "DELETE, GET, HEAD, POST, PUT"),
        ("/nodes/home", "DELETE, GET, HEAD, POST, PUT"),
        ("/files/home/x", "GET, HEAD, PUT"),
        ("/synctrans", "GET, POST"),
        ("/transfers", "GET, HEAD, POST"),
        (f"/transfers/{'0' * 40}", "DELETE, GET, HEAD, POST"),
        (f"/transfers/{'0' * 40}/phase", "GET, HEAD, POST"),
        (f"/transfers/{'0' * 40}/results/transferDetails", "GET, HEAD"),
        ("/capabilities", "GET, HEAD"),
        ("/search", "GET, HEAD"),
        ("/searches", "GET, HEAD, POST"),
    ],
)
async def test_methods(nobody: Agent, alice: Agent, path: str, allowed: str) -> None:
    for method in ("PATCH", "OPTIONS", "TRACE", "PROPFIND", "COPY", "MOVE", "MKCOL", "LOCK"):
        for agent in (nobody, alice):
            answer = (await agent.send(method, path)).assert_fault(405, "MethodNotAllowed")
            assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/x",
        "/nodesx",
        "/node",
        "/Nodes",
        "//nodes",
        "/nodes.xml",
        "/transfers/",
        "/.git/config",
        "/metrics",
        "/%00",
    ],
)
async def test_unknown_resources(nobody: Agent, path: str) -> None:
    for method in ("GET", "PUT", "POST"):
        (await nobody.send(method, path)).assert_fault(404, "NotFound")


# Credentials


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer", "Bearer ", "Bearer x", "Bearer " + "x" * 8000, "Bearer \xff\xfe", "bearer null", "Bearer a b",
        "Basic", "Basic x",
        "Basic " + "=" * 100, "Basic YWxpY2U6", "Basic YWxpY2U6d3Jvbmc=", "Basic OmFsaWNl",
        "Basic AAAA", "Basic bm9ib2R5Ong=", "Digest username=alice", "Negotiate x", "x", "", " ", ",",
        "Bearer x, Basic YTpi",
        "Bearer eyJhbGciOiJub25lIn0.e30.", "Basic /////w==",
    ],
)  # fmt: skip
async def test_bad_credentials_are_never_anonymous(space: Space, nobody: Agent, folder: str, credential: str) -> None:
    headers = {"Authorization": credential}
    for path in ("/nodes?limit=0", f"/nodes{folder}", "/capabilities", "/synctrans", f"/transfers/{'0' * 40}"):
        answer = await nobody.send("GET", path, headers=headers)
        answer.assert_fault(401, "NotAuthenticated")
        assert [one.split()[0] for one in answer.challenges] == ["Bearer", "ivoa_bearer", "ivoa_bearer", "Basic"]
        assert credential[7:] == "" or credential[7:] not in answer.text or len(credential) < 12


async def test_credentials_that_are_not_the_users(nobody: Agent, pair: Pair) -> None:
    for headers in (
        {"X-Forwarded-User": "admin"},
        {"X-CADC-DelegationToken": "x"},
        {"Cookie": "token=x"},
        {"X-VO-Bearer": "x"},
    ):
        answer = await nobody.send("GET", "/nodes/home/alice", headers=headers)
        answer.assert_fault(401, "NotAuthenticated")
    twice = f"GET /nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {pair.token}\r\nAuthorization: Bearer x\r\n\r\n"
    assert (await talk(pair.port, twice.encode())).status in {200, 400, 401}


async def test_scheme_without_regard_to_case(space: Space, pair: Pair) -> None:
    for scheme in ("bearer", "BEARER", "Bearer "):
        headers = {"Authorization": f"{scheme} {pair.token}"}
        (await space.agent("nobody").send("GET", "/nodes/home/alice", headers=headers)).assert_status(200)


# HTTP itself

REQUEST = "GET /nodes?limit=0 HTTP/1.1\r\nHost: x\r\n"
POST = "POST /synctrans HTTP/1.1\r\nHost: x\r\n"
BROKEN = {
    "two hosts": "GET /nodes HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": "GET /nodes HTTP/1.1\r\n\r\n",
    "no HTTP": "hello\r\n\r\n",
    "bytes": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "unknown method": "BREW /nodes HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown version": "GET /nodes HTTP/7.1\r\nHost: x\r\n\r\n",
    "space in the path": "GET /nodes/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw bytes in the path": "GET /nodes/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "star": "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "space before the colon": REQUEST + "X : y\r\n\r\n",
    "nul in a header": REQUEST + "X: a\0b\r\n\r\n",
    "folded header": REQUEST + "X: a\r\n b\r\n\r\n",
    "long header": REQUEST + f"X: {'a' * 300_000}\r\n\r\n",
    "many headers": REQUEST + "".join(f"X-{number}: y\r\n" for number in range(1000)) + "\r\n",
    "negative length": REQUEST + "Content-Length: -1\r\n\r\n",
    "two lengths": REQUEST + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "list of lengths": REQUEST + "Content-Length: 1, 1\r\n\r\na",
    "length in words": REQUEST + "Content-Length: one\r\n\r\na",
    "huge length": REQUEST + f"Content-Length: {'9' * 30}\r\n\r\n",
    "length and chunks": POST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown transfer encoding": POST + "Transfer-Encoding: x\r\n\r\n",
    "chunked twice": POST + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": POST + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "negative chunk": POST + "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "bare line ends": "GET /nodes HTTP/1.1\nHost: x\n\n",
    "carriage return in a header": REQUEST + "X: a\rb\r\n\r\n",
}


def assert_plain_fault(answer: RawAnswer, kind: str) -> None:
    """Fail unless it is a fault of ours, or nothing at all."""
    if answer.status == 0:
        return
    assert 400 <= answer.status < 500, f"{kind}: {answer}"
    assert answer.headers["content-type"] == "text/plain"
    assert any(answer.text.startswith(name) for name in FAULTS), answer.text
    assert "server" not in answer.headers or "aiohttp" not in answer.headers["server"].lower()
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"Traceback|\.py|python", answer.text, re.IGNORECASE)


@pytest.mark.parametrize("kind", BROKEN)
async def test_broken_http(pair: Pair, kind: str) -> None:
    for port in (pair.port, pair.storage_port):
        assert_plain_fault(await talk(port, BROKEN[kind].encode("latin-1"), hang_up=True), kind)


async def test_broken_http_leaves_no_trace_in_the_log(pair: Pair) -> None:
    secret = "Authorization: Bearer very-secret\0"
    for port in (pair.port, pair.storage_port):
        await talk(port, f"{REQUEST}{secret}\r\n\r\n".encode())
    for name in ("metadata", "storage"):
        assert "very-secret" not in pair.log(name)
        assert "Traceback" not in pair.log(name)


async def test_absurd_headers_do_no_harm(pair: Pair) -> None:
    for header in (
        "Expect: nonsense", "Upgrade: websocket\r\nConnection: Upgrade", "Range: bytes=0-1,5-", "If-Match: *",
        "Accept: application/nonsense;q=x", "Accept-Encoding: gzip;q=0.0.1", "Connection: x, y, z", "Cookie: ;;=;=",
        "If-Modified-Since: yesterday", "Forwarded: for=_x;host=evil", "X-Forwarded-Host: evil", "Content-Type: ;;;=",
        "Transfer-Encoding: identity", "TE: trailers", "Max-Forwards: -1", "X-HTTP-Method-Override: DELETE",
    ):  # fmt: skip
        answer = await talk(pair.port, f"{REQUEST}{header}\r\n\r\n".encode())
        assert answer.status in {200, 400}, header
        assert "evil" not in answer.text


async def test_host_of_the_client_leads_nowhere(alice: Agent, folder: str, pair: Pair) -> None:
    """Locations come from the settings (T14)."""
    await alice.make(f"{folder}/a")
    for first, host in (
        (f"GET /nodes{folder}/a?view=data", "evil.example"),
        (f"GET http://evil.example/nodes{folder}/a?view=data", "x"),
    ):
        headers = f"Host: {host}\r\nX-Forwarded-Host: evil.example\r\nAuthorization: Bearer {alice.token}"
        answer = await talk(pair.port, f"{first} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        assert (answer.status, answer.headers["location"]) == (303, f"{pair.url}/files{folder}/a")


async def test_chunked_document(alice: Agent, folder: str, pair: Pair) -> None:
    document = node_document(f"{folder}/a").encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in document) + b"0\r\n\r\n"
    head = f"PUT /nodes{folder}/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n"
    answer = await talk(pair.port, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), chunks)
    assert answer.status == 201


async def test_client_that_waits_to_be_asked(alice: Agent, folder: str, pair: Pair) -> None:
    document = node_document(f"{folder}/a").encode()
    head = (
        f"PUT /nodes{folder}/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nExpect: 100-continue\r\n"
    )
    answer = await talk(pair.port, f"{head}Content-Length: {len(document)}\r\n\r\n".encode(), document, pause=0.05)
    assert answer.status == 201


async def test_client_that_goes_in_the_middle(alice: Agent, folder: str, pair: Pair) -> None:
    document = node_document(f"{folder}/a").encode()
    head = f"PUT /nodes{folder}/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n"
    for cut in range(0, len(document), 97):
        request = f"{head}Content-Length: {len(document)}\r\n\r\n".encode() + document[:cut]
        answer = await talk(pair.port, request, hang_up=True)
        assert answer.status in {0, 400}
    assert children_of(await alice.node(folder)) == []


async def test_pipelined_requests(alice: Agent, pair: Pair) -> None:
    reader_answer = await talk(pair.port, (REQUEST + "\r\n").encode() * 50)
    assert reader_answer.status == 200


# Parameters


@pytest.mark.parametrize(
    "query",
    [
        "TARGET=%00&DIRECTION=%00&PROTOCOL=%00", "TARGET=%ff", "%ff=x", "=", "&&&", "TARGET", "REQUEST=redirect",
        "TARGET=a&TARGET=b", "&".join(f"a{number}=b" for number in range(1000)), "TARGET[]=x", "target.uri=x",
        "x" * 100_000, "TARGET=" + "%2e%2e%2f" * 5000, "PHASE=%0d%0aX:y", "%00=%00",
    ],
)  # fmt: skip
async def test_parameters(alice: Agent, query: str) -> None:
    for method in ("GET", "POST"):
        (await alice.send(method, f"/synctrans?{query}")).assert_status(400)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    (await alice.send("POST", "/synctrans", query, headers=form)).assert_status(400)
    assert (await alice.send("GET", f"/nodes?limit=0&{query}")).status in {200, 400}
    (await alice.send("POST", "/synctrans", b"\xff\xfe=\x00", headers=form)).assert_status(400)


async def test_control_characters_do_not_reach_headers_or_logs(alice: Agent, folder: str, pair: Pair) -> None:
    (await alice.send("GET", "/nodes/a%0d%0aSet-Cookie:%20x=y")).assert_fault(400, "InvalidURI")
    answer = await alice.send("GET", "/synctrans?TARGET=%0d%0aX-Evil:1&DIRECTION=pullFromVoSpace&PROTOCOL=x")
    assert "X-Evil" not in answer.headers
    await alice.send("GET", "/nodes/line%0aend%1b[31m")
    assert "\x1b" not in pair.log("metadata")


# Slow clients


@pytest.fixture(scope="module")
def hasty_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Servers with little patience."""
    environment = {
        "PYVOSPACE_LIMITS__BODY_TIMEOUT": "0.5",
        "PYVOSPACE_LIMITS__HEADER_TIMEOUT": "1",
        "PYVOSPACE_STORAGE__IDLE_TIMEOUT": "0.5",
    }
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        folder = tmp_path_factory.mktemp("hasty")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


async def test_document_that_does_not_come(hasty_pair: Pair) -> None:
    head = f"PUT /nodes/home/alice/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hasty_pair.token}\r\n"
    for rest in ("Content-Length: 100\r\n\r\n<no", "Transfer-Encoding: chunked\r\n\r\n3\r\n<no\r\n"):
        answer = await talk(hasty_pair.port, (head + rest).encode())
        assert (answer.status, answer.text.split()[0]) == (408, "RequestTimeout")


async def test_document_that_trickles(hasty_pair: Pair) -> None:
    head = f"PUT /nodes/home/alice/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hasty_pair.token}\r\n"
    answer = await talk(hasty_pair.port, f"{head}Content-Length: 100\r\n\r\n".encode(), *[b"<"] * 50, pause=0.05)
    assert answer.status == 408


@pytest.mark.parametrize("pieces", [[b""], [b"GET /no"], [b"GET /nodes HTTP/1.1\r\nHost: x\r\n", *[b"X: y\r\n"] * 60]])
async def test_head_that_does_not_come_or_trickles(hasty_pair: Pair, pieces: list[bytes]) -> None:
    for port in (hasty_pair.port, hasty_pair.storage_port):
        answer = await talk(port, *pieces, pause=0.05)
        assert answer.status in {0, 408}
