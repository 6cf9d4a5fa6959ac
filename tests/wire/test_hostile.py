"""What strangers send: a fault of the client's side, always, and nothing that lasts."""

import subprocess
import sys
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.faults import Fault, InvalidArgument, InvalidData, RequestEntityTooLarge
from pyvospace.model.uris import NodeUri
from pyvospace.wire import nodes, service, transfers, uws, vosi, xml
from pyvospace.wire.xml import Limits

SPACE = 'xmlns="http://www.ivoa.net/xml/VOSpace/v2.0"'
XSI = "http://www.w3.org/2001/XMLSchema-instance"
SPACES = f'{SPACE} xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" xmlns:xsi="{XSI}"'
QUOTES = "''"
NODE = (
    f'<?xml version="1.0" encoding="UTF-8"?><node {SPACES} xsi:type="vos:ContainerNode" version="2.1" '
    'uri="vos://x~y/a%20b">'
    '<properties><property uri="urn:a" readOnly="true">é &lt; &#x20AC;</property><property uri="b" xsi:nil="true"/>'
    '<!-- c --><?pi d?><property uri="e"><![CDATA[<f>]]></property></properties><accepts><view uri="urn:v"/></accepts>'
    "<nodes><node uri='vos://x~y/a%20b/c'><target>d</target></node></nodes></node>"
).encode()
TRANSFER = (
    f"<transfer {SPACE} version='2.1'><target>vos://x~y/a b</target><direction>pullFromVoSpace</direction>"
    "<view uri='urn:v'/><protocol uri='urn:p'><securityMethod uri='urn:s'/></protocol>"
    "<param uri='urn:l'>1</param></transfer>"
).encode()
PROTOCOLS = f"<protocols {SPACE}><accepts/><provides><protocol uri='urn:p'/></provides></protocols>".encode()
REQUESTS: list[tuple[Callable[[bytes], object], bytes]] = [
    (nodes.parse_node, NODE),
    (transfers.parse_transfer, TRANSFER),
    (service.parse_protocols_request, PROTOCOLS),
    (service.root_name, NODE),
]


def read_all(body: bytes) -> None:
    reader = nodes.NodeReader()
    reader.feed(body)
    reader.close()


JOB = (
    b'<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">'
    b"<uws:jobId>1</uws:jobId><uws:phase>PENDING</uws:phase><uws:creationTime>2026-03-01T09:00:00.000Z</uws:creationTime>"
    b'<uws:executionDuration>5</uws:executionDuration><uws:results><uws:result id="a" xlink:href="b"/></uws:results>'
    b"</uws:job>"
)
CAPABILITIES = (
    b'<c:capabilities xmlns:c="http://www.ivoa.net/xml/VOSICapabilities/v1.0"><capability standardID="urn:a">'
    b"<interface><accessURL use='full'>https://h/a</accessURL></interface></capability></c:capabilities>"
)
AVAILABILITY = (
    b'<a:availability xmlns:a="http://www.ivoa.net/xml/VOSIAvailability/v1.0"><a:available>true</a:available>'
    b"<a:upSince>2026-03-01T09:00:00Z</a:upSince></a:availability>"
)
ANSWERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (nodes.read_node, NODE),
    (read_all, NODE),
    (transfers.read_transfer, TRANSFER),
    (service.parse_protocols, PROTOCOLS),
    (uws.parse_job, JOB),
    (vosi.parse_capabilities, CAPABILITIES),
    (vosi.parse_availability, AVAILABILITY),
]


def name(case: object) -> str:
    return getattr(case, "__name__", "body")


def judge(parse: Callable[[bytes], object], body: bytes) -> bool:
    """Say whether a document was taken; anything but a fault of the client's side passes through and fails."""
    try:
        parse(body)
    except Fault as fault:
        refused = fault
    else:
        return True
    assert HTTPStatus.BAD_REQUEST <= refused.status < HTTPStatus.INTERNAL_SERVER_ERROR
    assert len(str(refused).encode()) < 4000
    return False


# Documents that break


@pytest.mark.parametrize(("parse", "body"), [*REQUESTS, *ANSWERS], ids=name)
def test_cut_off_at_every_byte(parse: Callable[[bytes], object], body: bytes) -> None:
    assert judge(parse, body)
    for length in range(len(body)):
        taken = judge(parse, body[:length])
        assert parse is service.root_name or not taken


@pytest.mark.parametrize(("parse", "body"), [*REQUESTS, *ANSWERS], ids=name)
def test_every_byte_replaced(parse: Callable[[bytes], object], body: bytes) -> None:
    for at in range(len(body)):
        for byte in (b"\x00", b"<", b"&", b'"', b"\xff"):
            judge(parse, body[:at] + byte + body[at + 1 :])


@pytest.mark.parametrize(("parse", "body"), [*REQUESTS, *ANSWERS], ids=name)
@given(data=st.data())
def test_bits_flipped(parse: Callable[[bytes], object], body: bytes, data: st.DataObject) -> None:
    broken = bytearray(body)
    for at in data.draw(st.lists(st.integers(0, 8 * len(body) - 1), min_size=1, max_size=4)):
        broken[at // 8] ^= 1 << at % 8
    judge(parse, bytes(broken))


@pytest.mark.parametrize(("parse", "body"), [*REQUESTS, *ANSWERS], ids=name)
@given(data=st.data())
def test_pieces_moved(parse: Callable[[bytes], object], body: bytes, data: st.DataObject) -> None:
    start, end, to = (data.draw(st.integers(0, len(body))) for _ in range(3))
    piece = body[min(start, end) : max(start, end)]
    judge(parse, body[:to] + piece + body[to:])


@given(st.binary(max_size=200))
def test_nonsense(body: bytes) -> None:
    for parse, _ in [*REQUESTS, *ANSWERS]:
        assert not judge(parse, body)


@given(st.text())
def test_nonsense_in_characters(body: str) -> None:
    for parse, _ in [*REQUESTS, *ANSWERS]:
        assert not judge(parse, body.encode("utf-8", "replace"))


# Documents that attack

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
DOCTYPES = {
    "empty": "<!DOCTYPE node>",
    "laughs": f'<!DOCTYPE node [<!ENTITY l0 "ha">{LAUGHS}]>',
    "file": '<!DOCTYPE node [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    "net": '<!DOCTYPE node [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]>',
    "external": '<!DOCTYPE node SYSTEM "http://127.0.0.1:9/x.dtd">',
    "public": '<!DOCTYPE node PUBLIC "-//x" "file:///etc/passwd">',
    "parameter": '<!DOCTYPE node [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>',
    "default": '<!DOCTYPE node [<!ATTLIST property uri CDATA "urn:x">]>',
    "after comment": "<!-- <node> --> <?pi <node> ?>\n<!DOCTYPE node>",
    "after declaration": "<?xml version='1.0'?><!DOCTYPE node>",
}


@pytest.mark.parametrize("doctype", DOCTYPES.values(), ids=DOCTYPES)
@pytest.mark.parametrize("entity", ["", "&l9;", "&x;", "&l0;"])
def test_document_types_are_refused(doctype: str, entity: str) -> None:
    body = doctype + node(f"<properties><property uri='a'>{entity}</property></properties>")
    for encoding in ("utf-8", "utf-16"):
        for parse in (nodes.parse_node, service.root_name):
            with pytest.raises(InvalidArgument, match="document type"):
                parse(body.encode(encoding))
    for read in (nodes.read_node, read_all):
        with pytest.raises(InvalidData):
            read(body.encode())


def test_words_that_look_like_a_document_type() -> None:
    value = "<!DOCTYPE a [<!ENTITY b 'c'>]>"
    body = f'<!-- x --><node {SPACES} uri="vos://x~y/a"><properties><property uri="a"><![CDATA[{value}]]></property>'
    assert nodes.parse_node(f"{body}</properties></node>".encode()).value("a") == value


@pytest.mark.parametrize("entity", ["&x;", "&nbsp;", "&#0;", "&#x1F;", "&#xD800;", "&#xFFFF;", "&#x110000;", "&;", "&"])
def test_references_that_are_none(entity: str) -> None:
    for parse, body in REQUESTS[:2]:
        with pytest.raises(InvalidArgument, match="well-formed"):
            parse(body.replace(b"urn:v", entity.encode()))


def test_inclusions_are_not_followed() -> None:
    include = '<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    for inner in (include, f"<properties><property uri='a'>{include}</property></properties>"):
        with pytest.raises(InvalidArgument, match="not known"):
            nodes.parse_node(f'<node {SPACES} uri="vos://x~y/a">{inner}</node>'.encode())


def test_schemas_named_in_a_document_are_not_read() -> None:
    hint = 'xsi:schemaLocation="urn:x file:///dev/zero" xsi:noNamespaceSchemaLocation="file:///dev/zero"'
    body = f'<node {SPACES} {hint} uri="vos://x~y/a"><properties {hint}/></node>'
    assert nodes.parse_node(body.encode()).uri == NodeUri.parse("vos://x~y/a")


@pytest.mark.parametrize("depth", [33, 300, 3000, 100_000])
def test_depth(depth: int) -> None:
    for tag in ("nodes", "node", "properties"):
        body = f'<node {SPACES} uri="vos://x~y/a">{f"<{tag}>" * depth}{f"</{tag}>" * depth}</node>'.encode()
        with pytest.raises(InvalidArgument, match="deep"):
            nodes.parse_node(body, limits=Limits(document_bytes=10 << 20))
        judge(nodes.read_node, body)
        judge(read_all, body)


def test_depth_within_children() -> None:
    """They are not read, but counted."""
    inner = "<a>" * 30 + "</a>" * 30
    body = f'<node {SPACES} xsi:type="vos:ContainerNode" uri="vos://x~y/a"><nodes>{inner}</nodes></node>'
    assert nodes.parse_node(body.encode()).nodes == ()
    with pytest.raises(InvalidArgument, match="deep"):
        nodes.parse_node(body.replace("<a>", "<a><b/>").encode(), limits=Limits(depth=32))


def test_size() -> None:
    with pytest.raises(RequestEntityTooLarge):
        nodes.parse_node(NODE + b" " * (1 << 20))
    with pytest.raises(RequestEntityTooLarge):
        service.root_name(NODE + b" " * (1 << 20))


BIG = "x" * (1 << 19)
URI = 'uri="vos://x~y/a"'


def node(inner: str = "", attributes: str = URI) -> str:
    return f"<node {SPACES} {attributes}>{inner}</node>"


def numbered(form: str, count: int) -> str:
    return " ".join(form.format(number) for number in range(count))


WIDE = {
    "value": node(f"<properties><property uri='a'>{BIG}</property></properties>"),
    "uri": node(attributes=f"uri='vos://x~y/{BIG}'"),
    "attribute": node(attributes=f"{URI} version='{BIG}' odd=''"),
    "attributes": node(attributes=numbered("a{}=''", 50_000)),
    "foreign": node(attributes=f"uri='' xmlns:q='urn:q' {numbered('q:a{}=_', 50_000).replace('_', QUOTES)}"),
    "spaces": node(attributes=f"uri='' {numbered('xmlns:q{0}=^urn:{0}^', 30_000).replace('^', QUOTES[0])}"),
    "name": f"<{BIG}/>",
    "views": node(
        f"<accepts>{'<view uri=_/>' * 40_000}</accepts>".replace("_", QUOTES), f"xsi:type='vos:DataNode' {URI}"
    ),
    "properties": node(f"<properties>{'<property uri=_/>' * 40_000}</properties>".replace("_", QUOTES)),
    "text": node("<accepts/>x" * 9_000),
    "prefixes": node("<vos:nodes xmlns:vos='urn:x'/>" * 9_000),
    "references": node(f"<properties><property uri='a'>{'&#120;' * 90_000}</property></properties>"),
    "comments": node("<!-- -->" * 100_000, f"uri='vos://x~y/{'a' * 300}'"),
    "instructions": f"{'<?a b?>' * 100_000}<node/>",
    "open comment": f"{'<!-- -->' * 100_000}<!--",
    "type": node(attributes=f"xsi:type='vos:{BIG}' {URI}"),
}


@pytest.mark.parametrize("body", WIDE.values(), ids=WIDE)
def test_width(body: str) -> None:
    assert not judge(nodes.parse_node, body.encode())
    judge(service.root_name, body.encode())
    judge(nodes.read_node, body.encode())


# Encodings

ENCODED = NODE.decode().partition("?>")[2]
VALUE = "é < €"


@pytest.mark.parametrize(
    ("start", "encoding"),
    [
        (b"", "utf-8"),
        (b"\xef\xbb\xbf", "utf-8"),
        (b'<?xml version="1.0"?>', "utf-8"),
        (b"<?xml version='1.0' encoding='utf-8' standalone='yes'?>", "utf-8"),
        (b'<?xml version="1.0" encoding="US-ASCII"?>', "ascii"),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?>', "iso-8859-1"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
    ],
)
def test_encodings(start: bytes, encoding: str) -> None:
    node = nodes.parse_node(start + ENCODED.encode(encoding, "xmlcharrefreplace"))
    assert node.value("urn:a") == VALUE


@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0" encoding="UTF-7"?>' + ENCODED.encode("utf-7"),
        b'<?xml version="1.0" encoding="UTF-16"?>' + ENCODED.encode(),
        b'<?xml version="1.0" encoding="UTF-32"?>' + ENCODED.encode(),
        b'<?xml version="1.0" encoding="rot13"?>' + ENCODED.encode(),
        b'<?xml version="1.0" encoding="EBCDIC-CP-US"?>' + ENCODED.encode(),
        b'<?xml version="1.0" encoding="UTF-8"?>' + ENCODED.encode("iso-8859-1"),
        ENCODED.encode("iso-8859-1"),
        ENCODED.encode("utf-16-le"),
        ENCODED.encode("utf-32"),
        ENCODED.encode("utf-7").replace(b"<", b"+ADw-"),
        b"\xff\xfe" + ENCODED.encode("utf-16-le")[:-1],
        b"\xff\xfe\x00\xd8" + ENCODED.encode("utf-16-le"),
        ENCODED.encode().replace(b"\xc3\xa9", b"\xed\xa0\x80"),
        ENCODED.encode().replace(b"\xc3\xa9", b"\xc0\xaf"),
        ENCODED.encode().replace(b"\xc3\xa9", b"\x00"),
        ENCODED.encode().replace(b"\xc3\xa9", b"\x0b"),
        ENCODED.encode().replace("é".encode(), "\uffff".encode()),
        ENCODED.encode() + b"\x00",
        b"\x00" + ENCODED.encode(),
        b" <?xml version='1.0'?>" + ENCODED.encode(),
    ],
)
def test_encodings_that_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        nodes.parse_node(body)


# What lasts


def grown(*arguments: str) -> int:
    """Give the bytes that a process keeps of names it never saw before."""
    command = [sys.executable, "-m", "tests.wire.fresh_names", *arguments]
    root = Path(__file__).parents[2]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout)


def test_fresh_names_leave_nothing_behind() -> None:
    """lxml never forgets a name, so that a document of a stranger must not reach it with names of his own."""
    assert grown() < 4 << 20


def test_fresh_names_would_fill_the_memory() -> None:
    """Should lxml forget one day, `xml.read_request` may read by it as well."""
    assert grown("lxml") > 4 << 20


def test_schema_is_compiled_once() -> None:
    nodes.parse_node(NODE)
    assert xml._schema() is xml._schema()
