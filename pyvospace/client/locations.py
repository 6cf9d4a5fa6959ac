"""URIs as people write them: ``vos://authority/path``, ``vos:/path`` and ``vos:path``."""

from __future__ import annotations

import re
from typing import Final

from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import NodeUri, decode_path

SCHEME: Final = "vos:"
_CUTS: Final = re.compile(r"[?#]")


def is_uri(text: str) -> bool:
    """Say whether a text names a node, in contrast to a local file."""
    return text[: len(SCHEME)].lower() == SCHEME


def is_relative(text: str) -> bool:
    """Say whether a URI begins in a home."""
    return is_uri(text) and text[len(SCHEME) : len(SCHEME) + 1] != "/"


def authority_of(text: str) -> str | None:
    """Give the authority that a URI names; None: a short form, which names none."""
    return NodeUri.parse(text).authority if text[4:6] == "//" else None


def resolve(text: str, authority: str, home: str | None) -> NodeUri:
    """Read a URI in any of its forms.

    Parameters
    ----------
    authority
        Of short forms.
    home
        Container in which a path without a slash at its front begins, as a path or a URI.

    Raises
    ------
    InvalidURI
        It is none, or it holds a bare ``?`` or ``#``: what stands behind would be lost.
    """
    if not is_uri(text):
        raise InvalidURI(f"{text!r} does not begin with vos:")
    if _CUTS.search(text):
        raise InvalidURI(f"{text!r}: in a URI ? is written %3F and # is written %23")
    if text[4:6] == "//":
        return NodeUri.parse(text)
    path = text[len(SCHEME) :]
    if path.startswith("/"):
        return NodeUri(authority, decode_path(path))
    if not home:
        raise InvalidURI(f"{text!r} is relative to a home and VOSPACE_HOME is not set: log in, or write vos:/path")
    start = NodeUri.parse(home).path if home.lower().startswith("vos://") else decode_path(home)
    return NodeUri(authority, start + decode_path(path))
