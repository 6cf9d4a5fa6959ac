"""Where the spaces of a user are and how he gets in: options, environment, ``~/.config/pyvospace/client.toml``."""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pyvospace.model.faults import InvalidArgument, InvalidURI
from pyvospace.model.uris import normalise_authority

log = logging.getLogger(__name__)

PREFIX: Final = "VOSPACE_"
"""What the name of each environment variable begins with."""
FILE: Final = "VOSPACE_CLIENT_CONFIG"
"""Environment variable that names another file than ``~/.config/pyvospace/client.toml``."""
_SECRETS: Final = ("token", "password")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach one space; None: not said."""

    url: str | None = None
    """Base URL of the service."""
    token: str | None = field(default=None, repr=False)
    """Bearer token; it comes before user and password."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    authority: str | None = None
    """The space's name in URIs; if it is not said, the service is asked."""
    home: str | None = None
    """Container in which relative paths begin, as a path or a URI."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust besides the system's."""

    def __post_init__(self) -> None:
        if self.url is not None:
            object.__setattr__(self, "url", _checked_url(self.url))
        if self.authority is not None:
            object.__setattr__(self, "authority", normalise_authority(self.authority))

    def parameters(self) -> dict[str, Any]:
        """Give what a `Space` is made with.

        Raises
        ------
        InvalidArgument
            No URL is said.
        """
        if self.url is None:
            raise InvalidArgument("no space is named: give --url, or set VOSPACE_URL (access.env of pyvospace up does)")
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def authorization(self) -> str | None:
        """Give the value of the header Authorization; None: anonymous.

        Raises
        ------
        InvalidArgument
            The secret cannot stand in a header.
        """
        if self.token is not None:
            return f"Bearer {_checked_secret(self.token)}"
        if self.user is None or self.password is None:
            return None
        return f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"

    def over(self, other: Access) -> Access:
        """Fill what is not said here from `other`; nothing if that is for another service.

        So a token in the environment never goes to the service of a ``--url``.
        """
        if self.url is not None and other.url not in {None, self.url}:
            return self
        if self.token is not None or self.password is not None:
            other = replace(other, token=None, password=None)
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(other, **{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Spaces:
    """All the spaces that a user can name."""

    default: Access
    others: Mapping[str, Access]
    """By authority."""
    file: Path
    """Where further ones can be entered."""

    def of(self, authority: str | None) -> Access:
        """Choose the space of an authority; None: the default one.

        Raises
        ------
        InvalidURI
            Nothing is known of it.
        """
        if authority is not None and authority in self.others and authority != self.default.authority:
            return self.others[authority]
        if authority is None or self.default.authority in {None, authority}:
            return self.default
        hint = f'a section [spaces."{authority}"] with url and token in {self.file} makes it known'
        raise InvalidURI(f"vos://{authority} is not the space {self.default.authority}; {hint}")


def find_spaces(options: Access, environ: Mapping[str, str] = os.environ) -> Spaces:
    """Put together what options, environment and file say, in this order.

    Raises
    ------
    InvalidArgument, InvalidURI
        A setting is wrong or unknown.
    """
    file = config_file(environ)
    top, others = _read(file)
    default = options.over(_from_environment(environ)).over(top)
    return Spaces(default=default, others=others, file=file)


def _from_environment(environ: Mapping[str, str]) -> Access:
    said = {one.name: environ.get(PREFIX + one.name.upper()) or None for one in fields(Access)}
    return _access(said, "the environment")


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Give the path of the file, whether it is there or not."""
    if FILE in environ:
        return Path(environ[FILE])
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "pyvospace" / "client.toml"


def _read(file: Path) -> tuple[Access, Mapping[str, Access]]:
    try:
        with file.open("rb") as stream:
            shared = stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077
            said = tomllib.load(stream)
    except FileNotFoundError:
        return Access(), {}
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{file}: {error}") from None
    if not isinstance(said.pop("defaults", {}), dict):  # it is the command line that reads it
        raise InvalidArgument(f"{file}: defaults is a section [defaults]")
    sections = said.pop("spaces", {})
    if not isinstance(sections, dict) or not all(isinstance(one, dict) for one in sections.values()):
        raise InvalidArgument(f'{file}: spaces are sections [spaces."authority"]')
    if shared and any(name in one for one in (said, *sections.values()) for name in _SECRETS):
        log.warning("%s holds a secret and others can read it: chmod 600 %s", file, file)
    others = {
        normalise_authority(name): _access({**one, "authority": name}, f'{file} [spaces."{name}"]')
        for name, one in sections.items()
    }
    return _access(said, str(file)), others


def _access(said: Mapping[str, Any], where: str) -> Access:
    known = {one.name for one in fields(Access)}
    for name, value in said.items():
        if name not in known:
            raise InvalidArgument(f"{where}: no setting {name!r}; there are {', '.join(sorted(known))}")
        if value is not None and not isinstance(value, str):
            raise InvalidArgument(f"{where}: {name} is to be text between quotes")
    try:
        access = Access(**{**said, "ca_file": None})
    except (InvalidArgument, InvalidURI) as fault:
        raise InvalidArgument(f"{where}: {fault.detail}") from None
    path = said.get("ca_file")
    return replace(access, ca_file=Path(path).expanduser()) if path else access


def _checked_url(text: str) -> str:
    try:
        parts = urlsplit(text.strip())
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise InvalidArgument(f"{text!r} is no URL") from None
    if not sound or parts.query or parts.fragment:
        raise InvalidArgument(f"{text!r} is no URL of a service; write it as https://host/path")
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument("user and password do not belong into the URL")
    return text.strip().rstrip("/")


def _checked_secret(token: str) -> str:
    """Refuse what cannot stand in a header: a line break would begin another one."""
    bare = token.strip()
    if not bare.isascii() or not bare.isprintable() or not bare:
        raise InvalidArgument("the token holds characters that no token has")
    return bare
