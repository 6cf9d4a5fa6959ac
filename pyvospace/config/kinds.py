"""Kinds of values that settings have, and what every section of them has in common."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import decode_path, normalise_authority

_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 (recognised, not bound to)
_LAST_PORT = 65535
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
STRICT = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


def _authority(text: str) -> str:
    try:
        return normalise_authority(text)
    except InvalidURI:
        raise ValueError(
            "an authority begins with a letter or digit and holds letters, digits and . - _ ~ ! only"
        ) from None


def _dsn(secret: SecretStr) -> SecretStr:
    if urlsplit(secret.get_secret_value()).scheme not in {"postgresql", "postgres"}:
        raise ValueError("a DSN begins with postgresql://")
    return secret


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write it as http://host:port or https://host/path, without query and fragment")
    return text.rstrip("/")


def words_of(value: object) -> object:
    """Let an environment variable hold a list as words between spaces."""
    return tuple(value.split()) if isinstance(value, str) else value


def port_range(text: str) -> tuple[int, int]:
    """Read ``443`` or ``8000-8999``.

    Raises
    ------
    ValueError
        It is neither.
    """
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal() and 0 < int(first) <= int(last or first) <= _LAST_PORT):
        raise ValueError(f"{text!r} is no port and no range of ports: write 443 or 8000-8999")
    return int(first), int(last or first)


def network_of(text: str) -> IPv4Network | IPv6Network | None:
    """Read an address or a network; None: it is neither, so a name."""
    try:
        return ip_network(text)
    except ValueError:
        return None


def _ports(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        port_range(word)
    return words


def _places(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if network_of(word) is None and not _NAME.fullmatch(word):
            raise ValueError(f"{word!r} is no address, no network (10.1.0.0/16, without bits of a host) and no name")
    return words


def _far_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("write it as https://host/path, without user, query and fragment")
    return text


def require_tls(section: SectionT, url: str) -> SectionT:
    """Require TLS for a URL, unless the section allows plain http.

    Raises
    ------
    ValueError
        Tokens would travel for everybody to read.
    """
    if not url.startswith("https:") and not getattr(section, "plain_http", False):
        raise ValueError(
            "it begins with http://: tokens would travel for everybody to read (plain_http = true allows it)"
        )
    return section


def _origins(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if word != "*" and not _ORIGIN.fullmatch(word):
            raise ValueError(f"{word!r} is no origin: write https://host or https://host:port in lower case, or *")
    return words


def _node_path(text: str) -> str:
    try:
        names = decode_path(text)
    except InvalidURI as error:
        raise ValueError(str(error)) from None
    if not names or not text.startswith("/"):
        raise ValueError("write it as /home")
    return text


def _networks(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if network_of(word) is None:
            raise ValueError(f"{word!r} is no address and no network (10.1.0.0/16, without bits of a host)")
    return words


def _labels(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if not _LABEL.fullmatch(word):
            raise ValueError(f"{word!r} is no label: up to 40 letters, digits and . _ -")
    return words


def default_url(data: dict[str, Any]) -> str:
    """Give the URL of a server that listens as these settings say."""
    scheme = "https" if data["tls_cert"] else "http"
    host = socket.gethostname() if data["host"] in _EVERYWHERE else data["host"]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{data['port']}"


Authority = Annotated[str, AfterValidator(_authority)]
Dsn = Annotated[SecretStr, AfterValidator(_dsn)]
Port = Annotated[int, Field(ge=1, le=65535)]
Percent = Annotated[int, Field(ge=1, le=100)]
Positive = Annotated[int, Field(ge=1)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
SectionT = TypeVar("SectionT", bound=BaseModel)
FarUrl = Annotated[str, AfterValidator(_far_url)]
Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(words_of)]
Ports = Annotated[Words, AfterValidator(_ports)]
Places = Annotated[Words, AfterValidator(_places)]
Origins = Annotated[Words, AfterValidator(_origins)]
NodePath = Annotated[str, AfterValidator(_node_path)]
Networks = Annotated[Words, AfterValidator(_networks)]
Labels = Annotated[Words, AfterValidator(_labels)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,80}$")]


class Section(BaseModel):
    """A group of settings: a table of the file."""

    model_config = STRICT
