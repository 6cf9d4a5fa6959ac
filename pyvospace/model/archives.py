"""Archives of trees: their formats, and what storage servers and the catalogue tell each other about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from pyvospace.model.claims import StoredFile, UploadClaim
from pyvospace.model.vocabulary import DEFAULT_VIEW, FORMAT, PACKAGE_VIEW, TAR_GZ_VIEW, TAR_VIEW, ZIP_VIEW

if TYPE_CHECKING:
    from pyvospace.model.nodes import View


@dataclass(frozen=True, slots=True)
class ArchiveFormat:
    """A format of archives."""

    view: str
    """URI of the view that is written."""
    content_type: str
    suffix: str
    """Of the name of the file."""
    synonyms: frozenset[str]
    """What else clients call it: media types, and view URIs of other services."""


TAR: Final = ArchiveFormat(
    TAR_VIEW,
    "application/x-tar",
    ".tar",
    frozenset(
        {
            "application/x-tar",
            "application/tar",
            "ivo://ivoa.net/vospace/views#tar",
            "ivo://ia2.inaf.it/vospace/views#tar",
        }
    ),
)
TAR_GZ: Final = ArchiveFormat(
    TAR_GZ_VIEW,
    "application/gzip",
    ".tar.gz",
    frozenset({"application/gzip", "application/x-gzip", "application/x-tar+gzip", "application/x-gtar"}),
)
ZIP: Final = ArchiveFormat(
    ZIP_VIEW,
    "application/zip",
    ".zip",
    frozenset({"application/zip", "application/x-zip-compressed", "ivo://ia2.inaf.it/vospace/views#zip"}),
)
FORMATS: Final = (TAR, TAR_GZ, ZIP)

_BY_NAME: Final = {name: one for one in FORMATS for name in (one.view, *one.synonyms)}


def format_named(name: str) -> ArchiveFormat | None:
    """Find a format by the URI of its view or a synonym."""
    return _BY_NAME.get(name)


def archive_format(view: View) -> ArchiveFormat | None:
    """Give the format of the archive that a view makes of a container; None: it makes none.

    OpenCADC's package view names the format in a parameter, the default view leaves it to us: tar.
    """
    if view.uri == PACKAGE_VIEW:
        wanted = next((one.value.strip() for one in view.params if one.uri == FORMAT), TAR.content_type)
        return format_named(wanted)
    return TAR if view.uri == DEFAULT_VIEW else format_named(view.uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackClaim:
    """The right to fetch a tree as an archive, once more."""

    job_id: str
    user_id: int | None
    format: ArchiveFormat
    nodes: tuple[int, ...]
    """Ids of what goes into it, each with all that is below it."""
    waiting: bool
    """The job waits for its first complete delivery."""


class PackedNode(NamedTuple):
    """A node that goes into an archive, as the caller may read it now. A tuple: of these there are many."""

    id: int
    parent_id: int | None
    name: str
    type: str
    """A value of `NodeType`."""
    size: int
    modified: datetime
    target: str | None
    """Of a link."""
    location: str | None
    """None: it has no bytes."""
    storage: str | None
    """UUID of another storage that has them; None: this one has."""
    url: str | None
    """Base URL of that other storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackClaim(UploadClaim):
    """The right to bring an archive to a container, held under a lease."""

    format: ArchiveFormat
    path: tuple[str, ...]
    """Names that lead to the container."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node of an unpacked archive that is no container."""

    folder: int
    """Place of its container among the folders, from 1 on; 0: the container that the archive was brought to."""
    name: str
    stored: StoredFile | None
    """None: a link."""
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The tree that an archive held."""

    folders: tuple[tuple[int, str], ...]
    """Place of its container, and name, level by level."""
    level_ends: tuple[int, ...]
    """Number of folders down to each level."""
    leaves: tuple[Leaf, ...]
