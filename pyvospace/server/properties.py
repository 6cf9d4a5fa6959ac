"""Properties: what a document asks to change, and what a document tells (VOSpace 2.1, section 3.2)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from pyvospace.model.faults import InvalidArgument, PermissionDenied
from pyvospace.model.instants import write_instant
from pyvospace.model.nodes import Property
from pyvospace.model.stored import Allowance, Changes
from pyvospace.model.vocabulary import (
    AVAILABLE_SPACE,
    BTIME,
    CADC,
    CONTENT_DATE,
    CORE,
    CORE_IS_LOCKED,
    CREATOR,
    CTIME,
    DATE,
    GROUP_READ,
    GROUP_WRITE,
    IMMUTABLE,
    INHERIT_PERMISSIONS,
    INTEGRITY,
    IS_LOCKED,
    IS_PUBLIC,
    KNOWN_CORE,
    LENGTH,
    LOCKS,
    MANAGED,
    MD5,
    MTIME,
    PUBLIC_READ,
    QUOTA,
    QUOTA_STATE,
    READABLE,
    TIER,
    WRITABLE,
    NodeType,
)

if TYPE_CHECKING:
    from pyvospace.model.stored import StoredNode

_DIGITS: Final = 18
"""Of a number of bytes, at the most."""
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0", ""})
_KNOWN: Final = {uri.casefold(): uri for uri in KNOWN_CORE | {IS_LOCKED, INHERIT_PERMISSIONS, READABLE, WRITABLE}}
_RESERVED: Final = (CORE.casefold(), CADC.casefold())


def canonical(uri: str) -> str:
    """Give the one spelling of a property of the standard; any other URI comes back as it is.

    Names that only look like those of the standard (case, percent-encoding, compatibility characters, spaces) are
    taken for them, so that none of them can be set beside the real one.

    Raises
    ------
    InvalidArgument
        The standard's name space has no such property.
    """
    if uri in KNOWN_CORE:
        return uri
    plain = unicodedata.normalize("NFKC", unquote(uri)).strip().casefold()
    if plain in _KNOWN:
        return _KNOWN[plain]
    if plain.startswith(_RESERVED[0]):
        raise InvalidArgument(f"{uri}: VOSpace has no such property; use a URI of your own for it")
    return uri


def changes_of(
    properties: Sequence[Property],
    current: StoredNode | None,
    *,
    lenient: bool,
    admin: bool = False,
    target: str | None = None,
) -> Changes:
    """Read what a document asks to change of a node; None: of one that is to be made.

    Parameters
    ----------
    lenient
        Ignore every read-only property, as OpenCADC does.
    admin
        An administrator asks, who may set quotas and owners; from others a creator is ignored.
    target
        New target of a link.

    Raises
    ------
    InvalidArgument
        A value that its property cannot have, or the same property twice.
    PermissionDenied
        Another value for a property that is read-only (rulings of A-07).
    """
    kept, plain = _asked(properties, current)
    if lenient and not admin:
        kept.pop(QUOTA, None)
    quota = _quota(kept, current)
    if quota is not None and not admin:
        raise PermissionDenied(f"{QUOTA} is read-only for you: administrators set it")
    stored = current.properties if current else {}
    return Changes(
        removed=tuple(uri for uri, value in plain.items() if value is None and uri in stored),
        properties={uri: value for uri, value in plain.items() if value is not None and stored.get(uri) != value},
        public=_flag(kept, IS_PUBLIC, current=current.public if current else None),
        group_read=_groups(kept, GROUP_READ, current=current.group_read if current else None),
        group_write=_groups(kept, GROUP_WRITE, current=current.group_write if current else None),
        inherit=_flag(kept, INHERIT_PERMISSIONS, current=current.inherit if current else None),
        locked=_flag(kept, IS_LOCKED, current=current.locked if current else None),
        immutable=_flag(kept, IMMUTABLE, current=current.immutable if current else None),
        target=target if target and (current is None or current.target != target) else None,
        quota=quota,
        owner=_owner(properties, current) if admin else None,
    )


def changes_of_all(properties: Iterable[Property]) -> Changes:
    """Read what a document asks to change of many nodes, whatever each of them has already.

    Raises
    ------
    InvalidArgument
        As `changes_of`; also for ``core#immutable``, which holds for all that is below a node anyway.
    PermissionDenied
        A property that is read-only.
    """
    kept, plain = _asked(properties, None)
    if IMMUTABLE in kept:
        raise InvalidArgument(f"{IMMUTABLE}: set it at the container, it holds for all below")
    if kept.get(QUOTA) is not None:
        raise PermissionDenied(f"{QUOTA} is read-only here: set it at one container after the other")
    return Changes(
        removed=tuple(uri for uri, value in plain.items() if value is None),
        properties={uri: value for uri, value in plain.items() if value is not None},
        public=_flag(kept, IS_PUBLIC, current=None),
        group_read=_groups(kept, GROUP_READ, current=None),
        group_write=_groups(kept, GROUP_WRITE, current=None),
        inherit=_flag(kept, INHERIT_PERMISSIONS, current=None),
        locked=_flag(kept, IS_LOCKED, current=None),
    )


def _asked(
    properties: Iterable[Property], current: StoredNode | None
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Give what is asked for by its one spelling, without what the service itself keeps; and what of it is plain."""
    asked: dict[str, str | None] = {}
    for one in properties:
        uri = canonical(one.uri)
        uri = _TWINS.get(uri, uri)
        twice = uri in asked and asked[uri] != one.value
        asked[uri] = _news(uri, (asked[uri], one.value), current) if twice else one.value
    kept = {uri: value for uri, value in asked.items() if uri not in MANAGED}
    plain = {uri: value for uri, value in kept.items() if uri not in _SPECIAL}
    return kept, plain


_SPECIAL: Final = frozenset({IS_PUBLIC, GROUP_READ, GROUP_WRITE, INHERIT_PERMISSIONS, IMMUTABLE, QUOTA, *LOCKS})
_TWINS: Final = {PUBLIC_READ: IS_PUBLIC, CORE_IS_LOCKED: IS_LOCKED}
"""Flags with two names: the second one, and the one that is kept."""


def _news(uri: str, values: tuple[str | None, str | None], current: StoredNode | None) -> str | None:
    """Choose between two values of one flag: clients change one of its names and send the other as it was."""
    if current is not None and uri in _TWINS.values():
        known = current.public if uri == IS_PUBLIC else current.locked
        news = [value for value in values if _truth(uri, value) != known]
        if len(news) == 1:
            return news[0]
    raise InvalidArgument(f"{uri}: given twice with different values")


def _quota(asked: dict[str, str | None], current: StoredNode | None) -> Allowance | None:
    """Read a number of bytes; None: not asked for, or as it is already."""
    if QUOTA not in asked:
        return None
    text = (asked[QUOTA] or "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidArgument(f"{QUOTA}: {text[:80]!r} is no number of bytes")
    value = int(text) if text else None
    return None if value == (current.quota if current else None) else Allowance(value)


def _owner(properties: Sequence[Property], current: StoredNode | None) -> str | None:
    """Read whose a node is to be; None: not asked for, or as it is already."""
    asked = {one.value for one in properties if one.value and canonical(one.uri) == CREATOR}
    if len(asked) > 1:
        raise InvalidArgument(f"{CREATOR}: given twice with different values")
    return next((name for name in asked if current is None or name != current.owner), None)


def _flag(asked: dict[str, str | None], uri: str, *, current: bool | None) -> bool | None:
    """Read a boolean; None: not asked for, or as it is already."""
    if uri not in asked:
        return None
    value = _truth(uri, asked[uri])
    return None if value == current else value


def _truth(uri: str, value: str | None) -> bool:
    text = (value or "").strip().lower()
    if text not in _TRUE | _FALSE:
        raise InvalidArgument(f"{uri}: {text[:80]!r} is neither true nor false")
    return text in _TRUE


def _groups(asked: dict[str, str | None], uri: str, *, current: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Read group URIs between spaces or commas (rulings of A-06); None: not asked for, or as they are already."""
    if uri not in asked:
        return None
    value = tuple(dict.fromkeys((asked[uri] or "").replace(",", " ").split()))
    return None if value == current else value


Fact = tuple[str, str, bool]
"""URI of a property, its value, and whether it is read-only."""


def describe_properties(node: StoredNode, *, with_rights: bool) -> tuple[Property, ...]:
    """Tell all properties of a node: the service's own first, then the client's."""
    return tuple([Property(*fact) for fact in facts(node, with_rights=with_rights)])


def facts(node: StoredNode, *, with_rights: bool) -> list[Fact]:
    """Give what `describe_properties` tells, without the objects."""
    told = _of_bytes(node)
    told.append((CREATOR, node.owner, True))
    public = _bool(node.public)
    told += (IS_PUBLIC, public, False), (PUBLIC_READ, public, False)
    _add_rights(told, node)
    if with_rights:
        told += (READABLE, _bool(node.readable), True), (WRITABLE, _bool(node.writable), True)
    told += [(uri, value, False) for uri, value in node.properties.items()]
    return told


def _of_bytes(node: StoredNode) -> list[Fact]:
    # How much is below a container, the nodes included that the caller may not see, is for those who fill it: to
    # others the sum would tell the size of a single node, and that it is there.
    told_usage = node.is_container and node.writable
    changed = write_instant(node.changed)
    modified = write_instant(node.modified) if node.modified is not None else None
    told: list[Fact] = []
    if node.type is not NodeType.LINK:
        told.append((LENGTH, str((node.used if told_usage else node.size) or 0), True))
    if node.md5 is not None:
        told.append((MD5, node.md5.hex(), True))
    told += (DATE, modified or changed, True), (BTIME, write_instant(node.created), True), (CTIME, changed, True)
    if modified is not None:
        told += (MTIME, modified, True), (CONTENT_DATE, modified, True)
    told += [(uri, value, True) for uri, value in ((INTEGRITY, node.integrity), (TIER, node.tier)) if value]
    if told_usage and node.available is not None:
        told.append((AVAILABLE_SPACE, str(node.available), True))
    if node.quota is not None:
        told.append((QUOTA, str(node.quota), True))
    if told_usage and node.quota_state:
        told.append((QUOTA_STATE, str(node.quota_state), True))
    return told


def _add_rights(told: list[Fact], node: StoredNode) -> None:
    if node.group_read:
        told.append((GROUP_READ, " ".join(node.group_read), False))
    if node.group_write:
        told.append((GROUP_WRITE, " ".join(node.group_write), False))
    if node.inherit:
        told.append((INHERIT_PERMISSIONS, "true", False))
    if node.locked:
        told += (IS_LOCKED, "true", False), (CORE_IS_LOCKED, "true", False)
    if node.immutable:
        told.append((IMMUTABLE, "true", True))


def _bool(value: bool) -> str:  # noqa: FBT001 (it has no other argument)
    return "true" if value else "false"
