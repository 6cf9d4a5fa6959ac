"""Reading XML safely: what strangers send goes through here before anybody looks at it.

A request is read by expat, which forgets it afterwards, and put together anew from names that we know. lxml alone
would do, but for one thing: it keeps every name of an element, attribute or prefix that it ever met, so that a
stranger with fresh names in each document could fill the memory of the process. Answers, which a client asked for,
are read by lxml directly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers import expat

from lxml import etree

from pyvospace.model.faults import InvalidArgument, InvalidData, RequestEntityTooLarge, TypeNotSupported
from pyvospace.model.uris import MAX_DEPTH, MAX_NAME_BYTES
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

VOSPACE = "http://www.ivoa.net/xml/VOSpace/v2.0"
UWS = "http://www.ivoa.net/xml/UWS/v1.0"
XLINK = "http://www.w3.org/1999/xlink"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

V = f"{{{VOSPACE}}}"
XSI_TYPE = f"{{{XSI}}}type"
XSI_NIL = f"{{{XSI}}}nil"

NODE_TYPES = {str(one): one for one in NodeType}
SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a document of a stranger may be."""

    document_bytes: int = 1 << 20
    depth: int = 32
    """Elements inside one another."""
    elements: int = 10_000
    """Elements in all, without the children of a container, which are not read."""
    properties: int = 1000
    property_bytes: int = 16 << 10
    """Of one text or URI, of a property or of anything else, in UTF-8."""
    uri_bytes: int = 512 + MAX_DEPTH * (3 * MAX_NAME_BYTES + 1)
    """Of the URI of a node, a target or a direction: room for the deepest path of the longest names, encoded."""


REQUEST = Limits()
ANSWER_BYTES = 64 << 20
"""Largest answer that a client reads in one piece."""

_ELEMENTS = frozenset(
    {
        "node", "properties", "property", "accepts", "provides", "capabilities", "capability", "nodes", "target",
        "view", "param", "endpoint", "protocol", "protocols", "securityMethod", "transfer", "direction", "keepBytes",
    }
)  # fmt: skip
"""Elements of the three documents that a client may send."""
_PLACES = frozenset({"node", "target", "direction"})
"""Elements that name a node by its whole path."""
_ATTRIBUTES = frozenset({"uri", "version", "busy", "readOnly", "original", "standardID"})
_SKIPPED = "nodes"
"""Children are neither created nor changed by a document (sections 6.2.1 and 6.3.2): nobody reads them."""
_VALUES = frozenset({"property", "param"})
"""Elements in which white space means something."""
_NSMAP = {"vos": VOSPACE, "xsi": XSI}

_ENCODINGS = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "ascii": "utf-8",
    "iso-8859-1": "iso-8859-1", "latin1": "iso-8859-1", "latin-1": "iso-8859-1",
}  # fmt: skip
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DECLARED = re.compile(rb"""<\?xml\s[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_DOCTYPE = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)


def decode(body: bytes, limits: Limits = REQUEST) -> str:
    """Give the characters of a document that has no document type declaration.

    Raises
    ------
    RequestEntityTooLarge
        It has more bytes than the limit.
    InvalidArgument
        It is empty, in an encoding that we do not read or not in the one it says, or declares a document type.
    """
    if len(body) > limits.document_bytes:
        raise RequestEntityTooLarge(f"a document of {len(body)} bytes is larger than {limits.document_bytes}")
    declared = _DECLARED.match(body)
    name = declared.group(1).decode().lower() if declared else "utf-8"
    encoding = next((codec for mark, codec in _MARKS if body.startswith(mark)), _ENCODINGS.get(name))
    if encoding is None:
        raise InvalidArgument(f"a document in {name} is not read: use UTF-8")
    try:
        characters = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the document is not in {encoding}: byte {error.start}") from None
    if _DOCTYPE.match(characters):
        raise InvalidArgument("a document with a document type declaration is refused")
    return characters


def feed(parser: expat.XMLParserType, characters: str) -> None:
    """Give a whole document to a parser; InvalidArgument if it is not well-formed."""
    try:
        parser.Parse(characters, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise InvalidArgument(f"no well-formed XML, line {error.lineno}: {reason}") from None


def local_name(name: str) -> str:
    """Give the local name of an element, written "namespace name"; InvalidArgument if no request may hold it."""
    space, _, local = name.rpartition(" ")
    if space != VOSPACE or local not in _ELEMENTS:
        raise InvalidArgument(f"the element {name[:200]!r} is not known here")
    return local


class _Builder:
    """Puts a request together anew as it is read, from known names only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._prefixes: dict[str | None, list[str | None]] = {}
        self._path: list[Element] = []
        self._names: list[str] = []
        self._texts: list[list[str]] = []
        self._depth = 0
        self._count = 0
        self._properties = 0
        self._skipping = 0
        self.root: Element | None = None

    def read(self, characters: str) -> Element:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartNamespaceDeclHandler = self._bind
        parser.EndNamespaceDeclHandler = self._unbind
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        feed(parser, characters)
        if self.root is None:
            raise InvalidArgument("the document has no element")
        return self.root

    def _bind(self, prefix: str | None, uri: str | None) -> None:
        self._prefixes.setdefault(prefix, []).append(uri)

    def _unbind(self, prefix: str | None) -> None:
        self._prefixes[prefix].pop()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > self._limits.depth:
            raise InvalidArgument(f"elements are more than {self._limits.depth} deep")
        if self._skipping:
            return
        local = local_name(name)
        self._admit(local)
        known = {key: value for one, given in attributes.items() for key, value in self._attribute(one, given)}
        self._check_length(local, "uri", known.get("uri", ""))
        if self._path:
            element = etree.SubElement(self._path[-1], V + local, known)
        else:
            element = self.root = etree.Element(V + local, known, nsmap=_NSMAP)
        self._path.append(element)
        self._names.append(local)
        self._texts.append([])
        if local == _SKIPPED:
            self._skipping = self._depth

    def _admit(self, local: str) -> None:
        self._count += 1
        self._properties += local == "property"
        if self._count > self._limits.elements:
            raise InvalidArgument(f"there are more than {self._limits.elements} elements")
        if self._properties > self._limits.properties:
            raise InvalidArgument(f"there are more than {self._limits.properties} properties")

    def _attribute(self, name: str, value: str) -> list[tuple[str, str]]:
        """Give what we know of an attribute: foreign ones are passed over."""
        space, _, local = name.rpartition(" ")
        if space == XSI and local == "type":
            return [(XSI_TYPE, f"vos:{self._type(value)}")]
        if space == XSI and local == "nil":
            return [(XSI_NIL, value)]
        if space:
            return []
        if local not in _ATTRIBUTES:
            raise InvalidArgument(f"the attribute {local[:200]!r} is not known here")
        return [(local, value)]

    def _type(self, value: str) -> NodeType:
        prefix, _, local = value.strip().rpartition(":")
        bound = self._prefixes.get(prefix or None)
        if not bound or bound[-1] != VOSPACE or local not in NODE_TYPES:
            raise TypeNotSupported(value[:200])
        return NODE_TYPES[local]

    def _characters(self, characters: str) -> None:
        if not self._skipping:
            self._texts[-1].append(characters)

    def _end(self, _name: str) -> None:
        if not self._skipping or self._skipping == self._depth:
            self._skipping = 0
            self._close(self._path.pop(), self._names.pop(), "".join(self._texts.pop()))
        self._depth -= 1

    def _close(self, element: Element, local: str, characters: str) -> None:
        if local not in _VALUES and not characters.strip():
            return  # what makes a document pretty
        self._check_length(local, (element.get("uri") or "text")[:200], characters)
        element.text = characters or None

    def _check_length(self, local: str, what: str, value: str) -> None:
        limit = self._limits.uri_bytes if local in _PLACES else self._limits.property_bytes
        if len(value.encode()) > limit:
            raise InvalidArgument(f"{what} of {local} is longer than {limit} bytes")


def read_request(body: bytes, limits: Limits = REQUEST) -> Element:
    """Read a document that a stranger sent, without the schema check.

    The children of a container are left out. ``xsi:type`` has the prefix ``vos``, whatever the sender wrote.

    Raises
    ------
    RequestEntityTooLarge
        It has more bytes than the limit.
    InvalidArgument
        It is no well-formed XML, has a document type declaration or unknown elements, or breaks a limit.
    TypeNotSupported
        An ``xsi:type`` is none of a node.
    """
    return _Builder(limits).read(decode(body, limits))


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(file=str(SCHEMAS / "requests.xsd"))


def check(root: Element) -> None:
    """Check a request against the schema.

    Raises
    ------
    InvalidArgument
        It is not valid.
    """
    try:
        _schema().assertValid(root)
    except etree.DocumentInvalid as error:
        raise InvalidArgument(f"the document is not valid: {str(error).replace(V, 'vos:')[:500]}") from None


def pull_parser(tag: str) -> etree.XMLPullParser:
    """Make a parser for answers that come in pieces, with events for one element."""
    return etree.XMLPullParser(
        events=("start", "end"),
        tag=tag,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def read_answer(body: bytes, *names: str) -> Element:
    """Read a document that a service sent; its root must have one of the `names`, in Clark's notation.

    Raises
    ------
    InvalidData
        It is no well-formed XML, has a document type declaration or another root.
    """
    if len(body) > ANSWER_BYTES:
        raise InvalidData(f"an answer of {len(body)} bytes is too large to be read in one piece")
    parser = etree.XMLParser(
        no_network=True,
        load_dtd=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InvalidData(f"the answer is no XML: {str(error)[:200]}") from None
    refuse_doctype(root)
    if root.tag not in names:
        raise InvalidData(f"the answer is {str(root.tag)[:200]}, not {names[0]}")
    return root


def refuse_doctype(root: Element) -> None:
    """Refuse an answer with a document type declaration: ours have none, so it comes from elsewhere.

    Raises
    ------
    InvalidData
        It has one.
    """
    if root.getroottree().docinfo.internalDTD is not None:
        raise InvalidData("the answer has a document type declaration")
