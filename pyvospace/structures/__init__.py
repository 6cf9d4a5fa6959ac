"""Structured data: types of files whose content the service understands (VOSpace 2.1, section 3.1).

A package adds a type by an entry point of the group ``pyvospace.structures`` that names a `StructuredType`. The
metadata servers read from it what views there are; the storage servers recognise bytes by it and compute the views.
"""

from pyvospace.structures.interface import (
    Bytes,
    Check,
    Rendering,
    StructuredType,
    StructuredView,
    ViewParam,
)

__all__ = [
    "Bytes",
    "Check",
    "Rendering",
    "StructuredType",
    "StructuredView",
    "ViewParam",
]
