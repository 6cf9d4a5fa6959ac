"""Archive formats: which views pack a tree into one file, and how such a file is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
