"""Node URIs (VOSpace 2.1, section 2): the only place where a path is decoded.

A path is decoded once, into a tuple of names, and checked; the same function serves the path of a URL, the ``uri``
of a document, ``target``, ``direction`` and query parameters.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from pyvospace.model.faults import InvalidURI

MAX_NAME_BYTES = 255
"""Longest name, in bytes of UTF-8."""
MAX_DEPTH = 200
"""Most names in a path."""
AUTO = ".auto"
"""Last name that asks for a generated one (section 3.1)."""
NULL = ".null"
"""Last name of the bit bucket (section 3.1)."""
RESERVED = frozenset({AUTO, NULL})

_SCHEME = "vos://"
_AUTHORITY = re.compile(r"[a-z0-9][a-z0-9._~!-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH = re.compile(r"%2[Ff]")
_PLAIN_PATH = re.compile(
    r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$'()*+,;=:@-]{1,255}/)*(?!\.{1,2}\Z)[A-Za-z0-9._~!$'()*+,;=:@-]{1,255}"
).fullmatch
"""Names of letters that are never encoded, each of them valid."""
_SAFE = "-._~!$'()*+,;=:@"
"""What RFC 3986 lets stand in a segment besides letters and digits, without ``&``: it would need escaping in XML."""
_URI = _SAFE + "&%/?#[]"
"""What it lets stand in a URI."""


def normalise_authority(authority: str) -> str:
    """Give the one spelling of an authority: lower case, ``~`` for ``!`` (rulings of A-01).

    Raises
    ------
    InvalidURI
        It holds a character that no authority of a space has.
    """
    normal = authority.lower().replace("!", "~")
    if not _AUTHORITY.fullmatch(normal):
        raise InvalidURI(f"{authority!r} is no authority of a space")
    return normal


def check_name(name: str) -> str:
    """Give back a name that may stand in a path.

    Raises
    ------
    InvalidURI
        Empty, ``.`` or ``..``, with ``/`` or a control character, no valid Unicode, or over 255 bytes.
    """
    if name in {"", ".", ".."}:
        raise InvalidURI(f"{name!r} cannot be the name of a node")
    if "/" in name or _CONTROL.search(name):
        raise InvalidURI(f"{name!r} holds a character that no name may hold")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidURI("a name is no valid Unicode") from None
    if size > MAX_NAME_BYTES:
        raise InvalidURI(f"a name of {size} bytes is longer than {MAX_NAME_BYTES}")
    return name


def decode_name(segment: str) -> str:
    """Decode one percent-encoded segment of a path, once.

    Raises
    ------
    InvalidURI
        As `check_name`; also for ``%2F``, a broken escape and bytes that are not UTF-8.
    """
    if _ENCODED_SLASH.search(segment) or _BAD_ESCAPE.search(segment):
        raise InvalidURI(f"{segment[:300]!r} is not well encoded")
    try:
        return check_name(unquote_to_bytes(segment).decode("utf-8", "strict"))
    except UnicodeError:
        raise InvalidURI(f"{segment[:300]!r} is no UTF-8") from None


def decode_path(path: str) -> tuple[str, ...]:
    """Decode a path into names; slashes at the ends do not count, the empty path is the root.

    Raises
    ------
    InvalidURI
        A name is not valid, or there are more than 200.
    """
    inner = path.removeprefix("/").removesuffix("/")
    if _PLAIN_PATH(inner):  # as nearly always: nothing is to be decoded, and nothing to be found in a name
        names = tuple(inner.split("/"))
    else:
        names = tuple(decode_name(segment) for segment in inner.split("/")) if inner else ()
    if len(names) > MAX_DEPTH:
        raise InvalidURI(f"a path of {len(names)} names is deeper than {MAX_DEPTH}")
    return names


def encode_path(names: tuple[str, ...]) -> str:
    """Percent-encode a path, without slashes at the ends."""
    plain = "/".join(names)
    if _PLAIN_PATH(plain) and plain.count("/") == len(names) - 1:
        return plain
    return "/".join([quote(name, safe=_SAFE) for name in names])


def encode_uri(text: str) -> str:
    """Percent-encode what may not stand in a URI (RFC 3986) and leave everything else, escapes included, as it is."""
    return quote(_BAD_ESCAPE.sub("%25", text), safe=_URI)


@dataclass(frozen=True, slots=True)
class NodeUri:
    """The identifier of a node."""

    authority: str
    """As `normalise_authority` gives it."""
    path: tuple[str, ...] = ()
    """Names, decoded; empty for the root."""

    @classmethod
    def parse(cls, text: str) -> NodeUri:
        """Read a ``vos:`` URI; a query or a fragment is dropped (section 2.1).

        Characters that should have been encoded (a space, an accent, a ``%`` that begins no escape) are taken as they
        stand, since vos sends them.

        Raises
        ------
        InvalidURI
            It is no URI of scheme vos, or its path is not valid.
        """
        if text[: len(_SCHEME)].lower() != _SCHEME:
            raise InvalidURI(f"{text[:300]!r} is no URI that begins with vos://")
        rest = re.split(r"[?#]", text[len(_SCHEME) :], maxsplit=1)[0]
        authority, _, path = rest.partition("/")
        return cls(normalise_authority(authority), decode_path("/" + _BAD_ESCAPE.sub("%25", path)))

    @property
    def name(self) -> str:
        """Name of the node; empty for the root."""
        return self.path[-1] if self.path else ""

    @property
    def parent(self) -> NodeUri:
        """The container of the node; the root's is the root."""
        return NodeUri(self.authority, self.path[:-1])

    def child(self, name: str) -> NodeUri:
        """Give the URI of the child of that name."""
        return NodeUri(self.authority, (*self.path, name))

    def __str__(self) -> str:
        """Write the URI, percent-encoded (section 3.1)."""
        return f"{_SCHEME}{self.authority}/{encode_path(self.path)}" if self.path else f"{_SCHEME}{self.authority}"


def same_node(text: str, uri: NodeUri) -> bool:
    """Say whether a ``vos:`` URI from a document names the node that the URL named.

    It may be encoded (Java, vosfs) or raw (vos), and ``a%20b`` can be either: one reading that agrees is enough.
    """
    if text == str(uri):  # as nearly always
        return True
    with suppress(InvalidURI):
        if NodeUri.parse(text) == uri:
            return True
    with suppress(InvalidURI):
        authority, _, path = text[len(_SCHEME) :].partition("/")
        same_space = text[: len(_SCHEME)].lower() == _SCHEME and normalise_authority(authority) == uri.authority
        return same_space and path.removesuffix("/") == "/".join(uri.path)
    return False
