"""Names between the kernel, which has bytes, and the space, which has text: of files, links and properties."""

from __future__ import annotations

import errno
import os
import posixpath
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import MAX_NAME_BYTES, RESERVED, NodeUri, check_name
from pyvospace.model.vocabulary import CORE, KNOWN_CORE

Names = tuple[str, ...]
"""Names from the top of the mount."""

XATTR: Final = b"user.vospace."
"""What the names of extended attributes begin with that are properties."""
_FILE: Final = "file://"
_TEXT: Final = "#symlink:"
"""Begins the fragment with the text of a symbolic link."""
_URI_SAFE: Final = "-._~!$&'()*+,;=:@/"


def text_of(name: bytes) -> str:
    """Read a name that something new is to have.

    Raises
    ------
    OSError
        No node can be called so.
    """
    try:
        text = check_name(name.decode("utf-8", "strict"))
    except UnicodeError:
        raise OSError(errno.EILSEQ, "a name is no UTF-8") from None
    except InvalidURI:
        raise OSError(
            errno.ENAMETOOLONG if len(name) > MAX_NAME_BYTES else errno.EINVAL, "no node has such a name"
        ) from None
    if text in RESERVED:
        raise OSError(errno.EINVAL, "the standard reserves this name")
    return text


def is_possible(name: bytes) -> bool:
    """Say whether a node can have this name; if not nobody needs to be asked.

    Raises
    ------
    OSError
        It is longer than any name.
    """
    if len(name) > MAX_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, "no node has such a name")
    try:
        text_of(name)
    except OSError:
        return False
    return True


class Links:
    """Targets of symbolic links and of link nodes.

    A symbolic link of this mount leads to a ``vos:`` URI in the space, or to a ``file:`` URI if it leads out of the
    mount. A link that another client has made is shown as a relative path if it leads into the mount; any other URI is
    shown as it is. What another user has made never leads out of the mount: whoever follows it follows him.

    Parameters
    ----------
    root
        The container that is mounted.
    directory
        Where it is mounted, absolute.
    """

    def __init__(self, root: NodeUri, directory: str) -> None:
        self._root = root
        self._directory = directory

    def uri_of(self, target: bytes, parent: Names) -> str:
        """Give what a link node is to lead to whose symbolic link would stand in `parent`.

        The text stands behind the URI as a fragment, which the service does not look at: it comes back as it was, also
        when a directory above is moved.

        Raises
        ------
        OSError
            The target is no text.
        """
        try:
            text = target.decode("utf-8", "strict")
        except UnicodeError:
            raise OSError(errno.EILSEQ, "the target of a link is no UTF-8") from None
        if "://" in text and urlsplit(text).scheme.isalnum():
            return text
        return f"{self._leads_to(text, parent)}{_TEXT}{quote(text, safe=_URI_SAFE)}"

    def _leads_to(self, text: str, parent: Names) -> str:
        inside = posixpath.normpath(posixpath.join(self._directory, *parent, text))
        if inside == self._directory:
            return str(self._root)
        if not inside.startswith(self._directory.rstrip("/") + "/"):
            return _FILE + quote(inside, safe=_URI_SAFE)
        names = tuple(inside.removeprefix(self._directory).strip("/").split("/"))
        return str(NodeUri(self._root.authority, (*self._root.path, *names)))

    def target_of(self, uri: str, parent: Names, *, own: bool = True) -> bytes:
        """Give what a symbolic link in `parent` shows for the target of a link node; `own`: the user has made it."""
        bare, mark, text = uri.partition(_TEXT)
        kept = unquote(text) if mark else ""
        if mark and (own or _stays_below(kept, len(parent))):
            return kept.encode()
        if own and bare.startswith(_FILE + "/"):
            return os.fsencode(unquote(bare.removeprefix(_FILE)))
        try:
            leads_to = NodeUri.parse(bare)
        except InvalidURI:
            return _shown(uri)
        depth = len(self._root.path)
        if leads_to.authority != self._root.authority or leads_to.path[:depth] != self._root.path:
            return _shown(uri)
        return posixpath.relpath("/" + "/".join(leads_to.path[depth:]), "/" + "/".join(parent)).encode()


def _stays_below(text: str, depth: int) -> bool:
    """Say whether a symbolic link that is so many directories deep cannot lead out at the top, whatever stands there.

    Going up anywhere but at the beginning depends on where other links lead.
    """
    segments = text.split("/")
    above = next((at for at, segment in enumerate(segments) if segment not in {"..", "."}), len(segments))
    return bool(segments[0]) and segments[:above].count("..") <= depth and ".." not in segments[above:]


def _shown(uri: str) -> bytes:
    """Give a URI as a path that leads nowhere: none that goes up, or begins at the root of this machine."""
    return (uri if ".." not in uri.split("/") and not uri.startswith("/") else quote(uri, safe="")).encode()


def property_of(attribute: bytes) -> str | None:
    """Give the URI of the property that an extended attribute stands for; None: it stands for none.

    >>> property_of(b"user.vospace.title")
    'ivo://ivoa.net/vospace/core#title'
    """
    if not attribute.startswith(XATTR):
        return None
    name = attribute[len(XATTR) :].decode("utf-8", "replace")
    if ":" not in name:
        name = unquote(name)
    if ":" in name:
        return name
    return CORE + name if CORE + name in KNOWN_CORE else None


def attribute_of(uri: str) -> bytes:
    """Give the extended attribute of a property: the name of one of the standard, else the whole URI."""
    short = uri.removeprefix(CORE) if uri in KNOWN_CORE else uri
    return XATTR + short.encode()
