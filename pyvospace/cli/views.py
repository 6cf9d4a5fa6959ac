"""Views as people name them: ``fits-hdu,extname=SCI``."""

from __future__ import annotations

from collections.abc import Iterable

from pyvospace.client import Space
from pyvospace.model.faults import InvalidArgument, ViewNotSupported
from pyvospace.model.nodes import Param, View


async def accepted_view(space: Space, text: str | None) -> View | None:
    """Find the view in which something is brought; None: no view is named.

    Raises
    ------
    ViewNotSupported
        The service knows none of this name.
    """
    return None if text is None else _find(text, (await space.views())[0])


async def provided_view(space: Space, text: str | None) -> View | None:
    """Find the view in which something is wanted, likewise."""
    return None if text is None else _find(text, (await space.views())[1])


def _find(text: str, known: Iterable[View]) -> View:
    """Read a URI, or what stands behind its last ``#``, and parameters behind commas."""
    name, *params = text.split(",")
    uri = name
    if "://" not in name:
        found = [one.uri for one in known if one.uri.rpartition("#")[2] == name]
        if not found:
            names = sorted(one.uri.rpartition("#")[2] for one in known)
            raise ViewNotSupported(f"{name}: there are {', '.join(names)}")
        uri = found[0]
    return View(uri, params=tuple(_param(one, uri) for one in params))


def _param(text: str, view: str) -> Param:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgument(f"{text!r} is no parameter of a view: write name=value")
    return Param(name if "://" in name else f"{view.rpartition('#')[0]}#{name}", value)
