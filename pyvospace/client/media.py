"""Content types, guessed from names alone."""

from __future__ import annotations

import mimetypes
from typing import Final

# Nothing is read from the machine: a name means the same everywhere.
_TYPES: Final = mimetypes.MimeTypes()
for _kind, _suffixes in {
    "application/fits": (".fits", ".fit", ".fts", ".fz"),
    "application/x-votable+xml": (".vot", ".votable"),
    "application/x-hdf5": (".h5", ".hdf5"),
    "application/vnd.apache.parquet": (".parquet",),
    "text/markdown": (".md",),
}.items():
    for _suffix in _suffixes:
        _TYPES.add_type(_kind, _suffix)
_PACKED: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}


def content_type_of(name: str) -> str | None:
    """Guess what a file holds; None: its name does not say.

    What is packed is called by its packing (``image.fits.gz`` is ``application/gzip``): these are the bytes that are
    stored and delivered.
    """
    kind, packing = _TYPES.guess_type(f"/{name}", strict=True)
    return _PACKED.get(packing) if packing is not None else kind
