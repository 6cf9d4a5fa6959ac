"""Client certificates: who stands in one, and one canonical form of his distinguished name.

A certificate comes with TLS, verified by OpenSSL, or in a header of a proxy that the operator trusts and that has
verified it.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from pyvospace.model.faults import InvalidArgument, NotAuthenticated
from pyvospace.service.proxies import proxy_header

if TYPE_CHECKING:
    from aiohttp import web

    from pyvospace.config import Settings

_Parts = Sequence[Sequence[tuple[ObjectIdentifier, str | bytes]]]
"""A name from the root on: attributes with values, most often one at each step."""

_NAMES: Final = {
    "C": NameOID.COUNTRY_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "E": NameOID.EMAIL_ADDRESS,
    "EMAIL": NameOID.EMAIL_ADDRESS,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "GN": NameOID.GIVEN_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "SN": NameOID.SURNAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "T": NameOID.TITLE,
    "TITLE": NameOID.TITLE,
    "UID": NameOID.USER_ID,
    "USERID": NameOID.USER_ID,
}
"""Attributes by the names that OpenSSL, Java and RFC 4514 give them."""
_WRITTEN: Final = {oid: name for name, oid in _NAMES.items() if name not in {"E", "EMAIL", "S", "T", "USERID"}}
_SPECIAL: Final = re.compile(r'[\\"+,;<>]|^#')
_RANKS: Final = {
    NameOID.COUNTRY_NAME: 0,
    NameOID.DOMAIN_COMPONENT: 0,
    NameOID.STATE_OR_PROVINCE_NAME: 1,
    NameOID.LOCALITY_NAME: 1,
    NameOID.ORGANIZATION_NAME: 2,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 3,
}
"""How far from the root an attribute stands in a name as authorities make them."""
_NEAREST: Final = 4
_TYPE: Final = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)"
_SLASH: Final = re.compile(rf"/(?={_TYPE}=)")
_COMMA: Final = re.compile(rf"(?<!\\)\s*([,;+])\s*(?={_TYPE}\s*=)")
_PART: Final = re.compile(rf"(^|(?<!\\)[,+])({_TYPE})\s*=\s*")
_QUOTED: Final = re.compile(r'="((?:[^"\\]|\\.)*)"')
_LONGEST_NAME: Final = 2000
_LONGEST: Final = 16 << 10
"""Characters of a certificate in a header."""
_PEM: Final = b"-----BEGIN"
_PROXY_INFO: Final = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
_INHERITING: Final = re.compile(
    rb"\x30[\x00-\x7f](?:\x02\x01[\x00-\x7f])?\x30[\x00-\x7f]\x06[\x00-\x7f]"
    rb"(?:\x2b\x06\x01\x05\x05\x07\x15\x01|\x2b\x06\x01\x04\x01\x9b\x50\x01\x01\x01\x09)",
    re.DOTALL,
)
"""DER of what a proxy certificate says if it may what its user may: inheritAll, and the limited proxy of Globus."""
_VERIFIED: Final = frozenset({"SUCCESS", "0"})
"""What nginx and HAProxy say of a certificate that they have verified."""
_NONE: Final = frozenset({"", "NONE"})


@dataclass(frozen=True, slots=True)
class _Identity:
    """Whom a chain of certificates stands for, and when."""

    name: str
    begins: datetime
    ends: datetime


class Certificates:
    """Finds the certificates that come with requests."""

    def __init__(self, settings: Settings) -> None:
        proxies = settings.proxies
        self._direct = settings.metadata.tls_client_ca is not None
        self._certificate_header = proxies.certificate_header
        self._name_header = proxies.certificate_name_header
        self._verified_header = proxies.certificate_verified_header

    def name(self, request: web.Request) -> str | None:
        """Give the canonical name of who shows a certificate; None: nobody does.

        Raises
        ------
        NotAuthenticated
            It is not good.
        """
        if self._direct and (chain := _chain(request)):
            return _valid(_identity(chain))
        if self._certificate_header or self._name_header:
            return self._from_proxy(request)
        return None

    def _from_proxy(self, request: web.Request) -> str | None:
        if self._verified_header:
            verified = proxy_header(request, self._verified_header) or ""
            if verified in _NONE:
                return None
            if verified not in _VERIFIED:
                raise NotAuthenticated("the proxy has not verified the certificate")
        if self._certificate_header and (text := proxy_header(request, self._certificate_header)):
            return _valid(_identity((_from_header(text),)))
        if self._name_header and (text := proxy_header(request, self._name_header)):
            try:
                return canonical_name(text)
            except InvalidArgument as fault:
                raise NotAuthenticated(fault.detail) from None
        return None


def canonical_name(text: str) -> str:
    """Give the one form of a distinguished name, in whatever form people and programs write it.

    These are the same: ``/C=XX/O=VO/CN=Alice A``, ``C=XX, O=VO, CN=Alice A`` and ``cn=alice  a,o=VO,c=xx``.

    Raises
    ------
    InvalidArgument
        It is none.
    """
    text = text[: _LONGEST_NAME + 1].strip()
    try:
        return _canonical(_of_slashes(text) if text.startswith("/") else _of_commas(text))
    except ValueError:
        raise InvalidArgument(f"{text[:200]!r} is no distinguished name; write CN=…,O=…,C=… or /C=…/O=…/CN=…") from None


def _of_slashes(text: str) -> _Parts:
    """Read the form of OpenSSL, from the root on."""
    parts = [part.partition("=") for part in _SLASH.split(text)[1:]]
    return [[(_type(name), value)] for name, _, value in parts]


def _of_commas(text: str) -> _Parts:
    """Read the form of RFC 4514 and its kin: with spaces, semicolons, quotes."""
    text = _QUOTED.sub(lambda found: "=" + re.sub(r"(?<!\\)([,;+<>#=])", r"\\\1", found[1]), text)
    text = _COMMA.sub(lambda found: "+" if found[1] == "+" else ",", text)
    text = _PART.sub(lambda found: f"{found[1]}{_type(found[2]).dotted_string}=", text)
    return _parts(x509.Name.from_rfc4514_string(text))


def _parts(name: x509.Name) -> _Parts:
    return [[(one.oid, one.value) for one in part] for part in name.rdns]


def _type(name: str) -> ObjectIdentifier:
    if name[:1].isdigit():
        return ObjectIdentifier(name)
    if name.upper() not in _NAMES:
        raise ValueError(name)
    return _NAMES[name.upper()]


def _canonical(parts: _Parts) -> str:
    if not parts or sum(len(value) for part in parts for _, value in part) > _LONGEST_NAME:
        raise ValueError
    if _rank(parts[0]) <= _rank(parts[-1]):  # else the authority writes the nearest first
        parts = parts[::-1]
    return ",".join("+".join(sorted(_written(oid, value) for oid, value in part)) for part in parts)


def _rank(part: Sequence[tuple[ObjectIdentifier, str | bytes]]) -> int:
    return min(_RANKS.get(oid, _NEAREST) for oid, _ in part)


def _written(oid: ObjectIdentifier, value: str | bytes) -> str:
    """Write one value, and fold what makes no difference (RFC 5280, 7.1): case, width, how many spaces."""
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 (of the name, not of the caller)
    value = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if not value or not value.isprintable():
        raise ValueError
    return f"{_WRITTEN.get(oid, oid.dotted_string)}={_SPECIAL.sub(lambda found: chr(92) + found[0], value)}"


def _from_header(text: str) -> bytes:
    """Read a certificate as proxies send it: base64 of DER, or PEM with escapes (nginx) or folded lines."""
    if "%" in text:
        text = unquote(text)
    bare = "".join(re.sub(r"-----(?:BEGIN|END) CERTIFICATE-----", "", text).strip(":").split())
    try:
        return base64.b64decode(bare[:_LONGEST], validate=True)
    except (binascii.Error, ValueError):
        raise NotAuthenticated("the proxy sends what is no certificate") from None


def _chain(request: web.Request) -> tuple[bytes, ...]:
    """Give the certificates that came with TLS, the client's first; empty: none."""
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    leaf = connection.getpeercert(True) if connection is not None else None
    if not leaf:
        return ()
    # A session that is resumed has no chain any more: then there is but the client's own.
    return _verified(connection) or (leaf,)


def _verified(connection: Any) -> tuple[bytes, ...]:
    """Give the chain that OpenSSL has verified, of which Python tells in public from 3.13 on."""
    if hasattr(connection, "get_verified_chain"):
        return tuple(connection.get_verified_chain() or ())
    found = connection._sslobj.get_verified_chain() or ()  # noqa: SLF001
    return tuple(one.public_bytes().encode() for one in found)


@lru_cache(maxsize=1000)
def _identity(chain: tuple[bytes, ...]) -> _Identity:
    """Find who stands at the end of a chain: the first who is no proxy (RFC 3820).

    Raises
    ------
    NotAuthenticated
        A proxy certificate may not what its user may, or it is not told whose it is.
    """
    begins, ends = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for one in _read(chain):
        begins, ends = max(begins, one.not_valid_before_utc), min(ends, one.not_valid_after_utc)
        info = _proxy_info(one)
        if info is None:
            return _Identity(_name_of(one), begins, ends)
        if not _INHERITING.fullmatch(info):
            raise NotAuthenticated("the proxy certificate is for something else")
    raise NotAuthenticated("nothing tells whose proxy certificate this is; connect without a proxy in front")


def _read(chain: Iterable[bytes]) -> Iterable[x509.Certificate]:
    try:
        for one in chain:
            yield (x509.load_pem_x509_certificate if one.startswith(_PEM) else x509.load_der_x509_certificate)(one)
    except ValueError:
        raise NotAuthenticated("the certificate cannot be read") from None


def _proxy_info(certificate: x509.Certificate) -> bytes | None:
    try:
        found = certificate.extensions.get_extension_for_oid(_PROXY_INFO).value
    except x509.ExtensionNotFound:
        return None
    except ValueError:
        raise NotAuthenticated("the certificate cannot be read") from None
    return found.value if isinstance(found, x509.UnrecognizedExtension) else b""


def _name_of(certificate: x509.Certificate) -> str:
    try:
        return _canonical(_parts(certificate.subject))
    except ValueError:
        raise NotAuthenticated("the certificate names nobody") from None


def _valid(identity: _Identity) -> str:
    """Give the name, if it is time: a connection may live longer than the certificate that it began with."""
    if not identity.begins <= datetime.now(UTC) <= identity.ends:
        raise NotAuthenticated("the certificate has expired or is not valid yet")
    return identity.name
