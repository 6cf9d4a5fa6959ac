"""Input that nobody thought of: the answer is a fault or a success, never a defect (I32; T19, T20)."""

from __future__ import annotations

import http.client
import uuid
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvospace.model.faults import FAULTS
from pyvospace.model.vocabulary import CORE, KNOWN_CORE
from pyvospace.wire.nodes import read_node
from tests.server.conftest import encoded
from tests.support.agents import node_document, transfer_document
from tests.support.documents import assert_valid
from tests.support.pair import Pair
from tests.support.strategies import examples, names, property_uris, texts

quickly = settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Wire:
    """A connection to a pair on which one request follows the other, each of them held against the rules."""

    def __init__(self, pair: Pair, folder: str) -> None:
        self.pair = pair
        self.folder = folder
        self._connection = http.client.HTTPConnection("127.0.0.1", pair.port, timeout=30)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        given_headers = {"Authorization": f"Bearer {self.pair.token}"} | (headers or {})
        try:
            self._connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in given_headers.items():
                self._connection.putheader(name, value.encode("latin-1"))
            self._connection.putheader("Content-Length", str(len(body or b"")))
            self._connection.endheaders(body)
            response = self._connection.getresponse()
            answer = response.status, response.read()
        except (http.client.HTTPException, ConnectionError):
            self._connection.close()
            raise
        if response.will_close:
            self.close()
        self._check(response.getheader("Content-Type"), *answer)
        return answer

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    @staticmethod
    def _check(content_type: str | None, status: int, body: bytes) -> None:
        assert status < 500, body
        if content_type == "text/xml":
            assert_valid(body)
        if status >= 400:
            assert content_type == "text/plain"
            assert not body or any(body.startswith(name.encode()) for name in FAULTS), body  # none behind HEAD
            assert not any(leak in body for leak in (b"Traceback", b"asyncpg", b'.py"', b"/site-packages")), body


@pytest.fixture(scope="module")
def wire(pair: Pair) -> Iterator[Wire]:
    folder = f"/home/alice/{uuid.uuid4().hex}"
    made = Wire(pair, folder)
    status, text = made.send("PUT", f"/nodes{folder}", node_document(folder, "ContainerNode").encode())
    assert status == 201, text
    yield made
    assert made.send("GET", "/nodes?limit=0")[0] == 200
    made.close()
    for name in ("metadata", "storage"):
        assert "defect" not in pair.log(name)


def documents(folder: str) -> list[bytes]:
    """Give valid documents of every kind."""
    properties = {CORE + "title": "é<&>", CORE + "ispublic": "true", "urn:x": None, CORE + "groupread": "ivo://x/y?z"}
    view = '<accepts><view uri="urn:x" original="false"><param uri="urn:p">v</param></view></accepts>'
    return [
        node_document(f"{folder}/fuzz", properties=properties, inner=view).encode(),
        node_document(f"{folder}/fuzz", "LinkNode", properties=properties, target="urn:x").encode(),
        node_document(f"{folder}/fuzz", "ContainerNode", inner="<nodes/>").encode(),
        transfer_document(
            f"{folder}/fuzz",
            "pushToVoSpace",
            [CORE + "httpsput"],
            view=CORE + "anyview",
            methods=["ivo://ivoa.net/sso#token"],
            params={CORE + "length": "3"},
        ).encode(),
        b'<protocols xmlns="http://www.ivoa.net/xml/VOSpace/v2.0"/>',
    ]


REQUESTS = (("PUT", "/nodes{}/fuzz"), ("POST", "/nodes{}"), ("POST", "/synctrans"))


def post_everywhere(wire: Wire, body: bytes, *, valid: bool = False) -> None:
    for method, path in REQUESTS:
        status, _ = wire.send(method, path.format(wire.folder), body, {"Content-Type": "text/xml"})
        assert valid or 400 <= status < 500, body
    wire.send("DELETE", f"/nodes{wire.folder}/fuzz")


@pytest.mark.parametrize("number", range(5))
def test_documents_cut_at_any_byte(wire: Wire, number: int) -> None:
    document = documents(wire.folder)[number]
    for end in range(len(document)):
        post_everywhere(wire, document[:end])


@given(st.data())
@quickly
def test_documents_with_errors(wire: Wire, data: st.DataObject) -> None:
    document = bytearray(data.draw(st.sampled_from(documents(wire.folder))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(document) - 1))
        piece = data.draw(
            st.sampled_from([b"", b"<", b">", b"&", b'"', b"\0", b"\xff", b"</", b"<!--", b"]]>", b"<?x ?>"])
        )
        document[place : place + data.draw(st.integers(0, 3))] = piece
    post_everywhere(wire, bytes(document), valid=True)


@given(st.binary(max_size=300))
@quickly
def test_any_bytes_as_a_document(wire: Wire, body: bytes) -> None:
    post_everywhere(wire, body)


URL_PIECES = st.sampled_from(
    [
        *"/.~aF20:;@&=+$,![]()*'%?",
        "%2F",
        "%2e",
        "%00",
        "%ff",
        "%c3%a9",
        "%25",
        "..",
        "//",
        ".auto",
        ".null",
        "%0d%0a",
        "\\",
        "|",
        "^",
    ]
)


@given(st.lists(URL_PIECES, max_size=12).map("".join), st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]))
@quickly
def test_any_path(wire: Wire, tail: str, method: str) -> None:
    document = node_document(f"{wire.folder}/{tail}").encode()
    for resource in (f"/nodes{wire.folder}/x", f"/files{wire.folder}/x", "/nodes/home/x", "/transfers/", "/"):
        wire.send(method, resource + tail, document if method in {"PUT", "POST"} else None)


PARAMETERS = (
    "TARGET",
    "DIRECTION",
    "PROTOCOL",
    "VIEW",
    "REQUEST",
    "SECURITYMETHOD",
    "detail",
    "limit",
    "uri",
    "sort",
    "PHASE",
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["pushToVoSpace", "pullFromVoSpace", "vos://localhost~space/home/alice/x", "redirect", CORE + "httpsput"]
    ),
    st.integers().map(str),
)


@given(st.lists(st.tuples(st.sampled_from(PARAMETERS), VALUES), max_size=6), st.booleans())
@quickly
def test_any_parameters(wire: Wire, pairs: list[tuple[str, str]], raw: bool) -> None:
    safe = "%&=+/" if raw else ""
    query = "&".join(f"{name}={quote(value, safe=safe)}" for name, value in pairs)
    wire.send("GET", f"/nodes{wire.folder}?{query}")
    wire.send("GET", f"/synctrans?{query}")
    wire.send("POST", f"/synctrans?{query}")
    wire.send("POST", "/synctrans", query.encode(), {"Content-Type": "application/x-www-form-urlencoded"})
    wire.send("POST", f"/transfers/{'0' * 40}/phase?{query}")


HEADER_VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
HEADERS = (
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "Accept",
    "Range",
    "If-None-Match",
    "Cookie",
    "Expect",
    "Digest",
)


@given(st.dictionaries(st.sampled_from(HEADERS), HEADER_VALUES, max_size=4))
@quickly
def test_any_headers(wire: Wire, headers: dict[str, str]) -> None:
    document = documents(wire.folder)[0]
    for method, path in (("GET", "/nodes"), ("GET", f"/nodes{wire.folder}"), ("PUT", f"/nodes{wire.folder}/fuzz")):
        status, _ = wire.send(method, path, document if method == "PUT" else None, headers)
        if "Authorization" in headers:
            assert status == 401, "a bad credential is never anonymous"
    wire.send("DELETE", f"/nodes{wire.folder}/fuzz")


@given(names)
@quickly
def test_any_name(wire: Wire, name: str) -> None:
    """Every name that the rules allow works in every operation, and comes back as it was sent."""
    path = f"{wire.folder}/{encoded(name)}"
    reserved = name in {".auto", ".null"}
    status, body = wire.send("PUT", f"/nodes{path}", node_document(path).encode())
    if reserved:
        return
    assert status == 201, body
    node = read_node(body)
    assert node.uri.name == name
    status, body = wire.send("GET", f"/nodes{wire.folder}?uri={quote(f'vos://localhost~space{path}', safe='')}&limit=1")
    assert [child.uri.name for child in read_node(body).nodes] == [name]
    assert wire.send("PUT", f"/files{path}")[0] == 307
    assert wire.send("DELETE", f"/nodes{path}")[0] == 204


FREE = property_uris.filter(lambda uri: uri.strip() and not uri.strip().lower().startswith("ivo"))
"""Names that are not the standard's; one of mere spaces is none."""


@given(st.dictionaries(FREE, texts, max_size=5))
@quickly
def test_any_property(wire: Wire, properties: dict[str, str]) -> None:
    """What the service does not know it keeps, and gives back unchanged."""
    assert KNOWN_CORE.isdisjoint(properties)
    path = f"{wire.folder}/properties"
    kept = {uri: value.replace("\r\n", "\n").replace("\r", "\n") for uri, value in properties.items()}
    body = node_document(path, properties=kept).encode()
    status, answer = wire.send("PUT", f"/nodes{path}", body)
    if status == 400:  # a URI that no schema can hold
        assert answer.startswith(b"InvalidArgument")
        return
    assert status == 201
    told = {one.uri: one.value for one in read_node(wire.send("GET", f"/nodes{path}")[1]).properties}
    assert {uri: told.get(uri) for uri in kept} == kept
    assert wire.send("DELETE", f"/nodes{path}")[0] == 204


_SEARCHED = ("name", "type", "owner", "property", "contenttype", "minsize", "maxdate", "minctime", "limit", "after")
_WORDS = (
    texts | st.text("ab*?[]!-\\%_^", max_size=20) | property_uris | st.integers().map(str) | st.datetimes().map(str)
    | st.sampled_from(["LinkNode", "vos:DataNode", "MA==", "MS4wLw==", "0001-01-01", "9999-12-31T23:59:59.999-14:00"])
)  # fmt: skip


@quickly
@given(asked=st.lists(st.tuples(st.sampled_from(_SEARCHED), _WORDS), max_size=4))
def test_searches(wire: Wire, asked: list[tuple[str, str]]) -> None:
    query = urlencode([("target", f"vos://{wire.pair.authority}/home"), *asked])
    assert wire.send("GET", f"/search?{query}")[0] in {200, 400}
