"""Paths as fsspec wants them: ``/home/x`` in the default space, ``authority/home/x`` in the one of that name.

A URL is a URI of a node: what is percent-encoded in it is decoded, what is not is taken as it stands. The names of a
path are never decoded. A URL whose space is left out (``pyvospace:///home/x``) is of the default space.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import MAX_DEPTH, check_name, normalise_authority

PROTOCOLS: Final = ("pyvospace", "vos")
"""The first one is ours alone; another package may have taken the second one."""
ROOT: Final = "/"
_URL: Final = re.compile(rf"(?:{'|'.join(PROTOCOLS)}):(?:(//)|:)(.*)", re.DOTALL)
_SLASHES: Final = re.compile("/{2,}")
_ESCAPE: Final = re.compile("%(?=[0-9A-Fa-f]{2})")


def path_of(text: str | os.PathLike[str]) -> str:
    """Give the path that a URL or a path means; of a path that was given by this function, the same.

    Raises
    ------
    ValueError
        The URL names no space, or holds what cannot be the name of a node. It is not repeated if it may hold a secret.
    """
    whole = os.fspath(text)
    found = _URL.fullmatch(whole)
    if found is None:
        path = whole
    elif found[1] is None:
        path = found[2]  # the end of a chain, as simplecache::vos::path
    else:
        path = _decoded(found[2])
    return _SLASHES.sub("/", path).rstrip("/") or ROOT


def _decoded(rest: str) -> str:
    authority, _, path = rest.partition("/")
    if "@" in authority:
        raise ValueError("user and password do not belong into a URL: give them as storage options")
    if ":" in authority:
        raise ValueError(f"{authority} is no name of a space: name a service by the storage option endpoint_url")
    try:
        space = normalise_authority(authority) if authority else ""
        return "/".join([space, *(_decoded_name(one) for one in path.split("/"))])
    except InvalidURI as fault:
        raise ValueError(fault.detail) from None


def _decoded_name(segment: str) -> str:
    try:
        name = unquote_to_bytes(segment).decode()
    except UnicodeError:
        raise InvalidURI(f"{segment!r} is not well encoded") from None
    if "/" in name:
        raise InvalidURI(f"{segment!r}: no name holds a slash")
    return name


def url_of(path: str) -> str:
    """Give the URL of a path; a URL stays as it is.

    Only what would be decoded is encoded, since others (``fsspec.generic.rsync``) take names out of URLs as they stand.
    """
    if _URL.fullmatch(path):
        return path
    space, slash, rest = path_of(path).partition("/")
    return f"{PROTOCOLS[0]}://{space}{slash}{_ESCAPE.sub('%25', rest)}"


def parent_of(path: str) -> str:
    """Give the path of the container; of the root of a space, the same."""
    above, slash, _ = path.rpartition("/")
    return above or (ROOT if slash else path)


def below(path: str, name: str) -> str:
    """Give the path of what is called so in a container."""
    return f"{path.rstrip('/')}/{name}"


def names_of(path: str) -> tuple[str | None, tuple[str, ...]]:
    """Give the authority of a path, None in the default space, and its names.

    Raises
    ------
    InvalidURI
        It can be no path of a node.
    """
    authority, _, rest = path.partition("/")
    names = tuple(check_name(name) for name in rest.split("/")) if rest else ()
    if len(names) > MAX_DEPTH:
        raise InvalidURI(f"a path of {len(names)} names is deeper than {MAX_DEPTH}")
    return (normalise_authority(authority) if authority else None), names
