"""The structured types that are installed here."""

from __future__ import annotations

import logging
import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import InvalidArgument
from pyvospace.structures.interface import StructuredType, StructuredView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyvospace.model.nodes import Param

log = logging.getLogger(__name__)

ENTRY_POINTS: Final = "pyvospace.structures"
_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")


@cache
def structured_types() -> Mapping[str, StructuredType]:
    """Give the installed types by their names, in the order of the names.

    One that cannot be loaded is left out and named in the log: nobody else is to suffer from it.
    """
    found: dict[str, StructuredType] = {}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda one: one.name):
        one = _load(point)
        if one is not None and one.name not in found:
            found[one.name] = one
    return found


def _load(point: EntryPoint) -> StructuredType | None:
    try:
        kind = point.load()
        one = kind()
    except Exception:  # a plugin may raise anything
        log.exception("the structured type %s cannot be loaded", point.name)
        return None
    if not isinstance(one, StructuredType) or not _NAME.fullmatch(one.name):
        log.error("%s is no structured type", point.value)
        return None
    return one


def log_what_is_missing() -> None:
    """Tell the administrator, at a start, which views cannot be had for want of something."""
    for one in structured_types().values():
        missing = one.missing()
        if missing is not None:
            log.warning("structured type %s: %s", one.name, missing)


def find_view(structure: str | None, uri: str) -> StructuredView | None:
    """Give a view of a type by its URI; None: there is no such view, or no such type."""
    one = structured_types().get(structure or "")
    return next((view for view in one.views if view.uri == uri), None) if one else None


def check_params(view: StructuredView, params: Iterable[Param]) -> dict[str, str]:
    """Give the parameters of a view by their URIs.

    Raises
    ------
    InvalidArgument
        The view has no such parameter, it is given twice, or its value cannot be.
    """
    known = {one.uri: one for one in view.params}
    given: dict[str, str] = {}
    for param in params:
        if param.uri not in known:
            raise InvalidArgument(f"{param.uri[:300]}: the view {view.uri} has no such parameter")
        if param.uri in given:
            raise InvalidArgument(f"{param.uri}: given twice")
        if not re.fullmatch(known[param.uri].pattern, param.value):
            raise InvalidArgument(f"{param.uri}: the value {param.value[:80]!r} cannot be")
        given[param.uri] = param.value
    return given
