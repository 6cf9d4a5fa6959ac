"""Views (VOSpace 2.1, section 3.4): the one table of what nodes accept and provide, and who serves it.

An operation is what the endpoint of a transfer is signed for: the storage server takes or gives the bytes as they
are ("put", "get"), an archive ("unpack", "pack"), or what a plugin computes of them ("render").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.model.archives import FORMATS, archive_format, format_named
from pyvospace.model.faults import InvalidArgument, ViewNotSupported
from pyvospace.model.nodes import Param, View
from pyvospace.model.vocabulary import (
    ANY_VIEW,
    BINARY_VIEW,
    BYTE_VIEWS,
    DEFAULT_VIEW,
    FORMAT,
    PACKAGE_VIEW,
    NodeType,
)
from pyvospace.structures.installed import check_params, find_view, structured_types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyvospace.model.claims import Operation
    from pyvospace.model.stored import StoredNode

_ARCHIVES: Final = tuple(View(one.view) for one in FORMATS)
_DATA_ACCEPTS: Final = (View(ANY_VIEW), View(BINARY_VIEW))
_DATA_PROVIDES: Final = (View(DEFAULT_VIEW), View(BINARY_VIEW))
_CONTAINER_ACCEPTS: Final = _ARCHIVES
_CONTAINER_PROVIDES: Final = (View(DEFAULT_VIEW), *_ARCHIVES)
_STRUCTURED_ACCEPTS: Final = tuple(View(one.import_view) for one in structured_types().values())
_STRUCTURED_PROVIDES: Final = {
    name: tuple(View(view.uri, original=False) for view in one.views) for name, one in structured_types().items()
}
"""Views that are computed, by the name of the structured type."""
_BYTES_OUT: Final = frozenset({DEFAULT_VIEW, BINARY_VIEW})

ACCEPTED: Final = (View(ANY_VIEW), View(BINARY_VIEW), View(DEFAULT_VIEW), *_ARCHIVES, *_STRUCTURED_ACCEPTS)
"""What some node of the space accepts: ``/views``."""
PROVIDED: Final = (
    View(DEFAULT_VIEW),
    View(BINARY_VIEW),
    *_ARCHIVES,
    View(PACKAGE_VIEW),
    *(view for views in _STRUCTURED_PROVIDES.values() for view in views),
)
"""What some node of the space provides: ``/views``."""


def accepts(node: StoredNode) -> tuple[View, ...]:
    """Give the views in which new data may come to a node."""
    if node.is_container:
        return _CONTAINER_ACCEPTS
    if node.type is NodeType.STRUCTURED:
        return (*_DATA_ACCEPTS, *_STRUCTURED_ACCEPTS)
    return _DATA_ACCEPTS if node.type.holds_bytes else ()


def provides(node: StoredNode) -> tuple[View, ...]:
    """Give the views in which the data of a node can be had: none of bytes that have not come yet."""
    if node.is_container:
        return _CONTAINER_PROVIDES
    if not node.type.holds_bytes or node.size is None:
        return ()
    return (*_DATA_PROVIDES, *_computed(node))


def _computed(node: StoredNode) -> tuple[View, ...]:
    """Give the views that a plugin computes of the data of a StructuredDataNode."""
    return _STRUCTURED_PROVIDES.get(node.structure or "", ())


def import_operation(node: StoredNode | None, view: View | None) -> Operation:
    """Say what an endpoint is for that takes data in a view to a node; None: a data node that is still to be made.

    Raises
    ------
    ViewNotSupported
        The node does not accept it (section 3.6.1).
    InvalidArgument
        The node takes no data but in a view, and none was named.
    """
    if node is not None and node.is_container:
        if view is None:
            raise _no_bytes(node)
        if format_named(view.uri) is None:
            raise ViewNotSupported(view.uri)
        return "unpack"
    if node is not None and not node.type.holds_bytes:
        raise _no_bytes(node)
    if view is not None and view.uri not in BYTE_VIEWS:
        _require_structured(node, view)
    return "put"


def _require_structured(node: StoredNode | None, view: View) -> None:
    """Refuse a view other than those by which a client says what structured data it brings."""
    if node is None and format_named(view.uri) is not None:
        raise ViewNotSupported(
            f"{view.uri}: the container that this archive is for is missing and has to be made first"
        )
    # A node that is still to be made becomes what the view says; one that is there keeps its type.
    structured = node is None or node.type is NodeType.STRUCTURED
    if not structured or view.uri not in {one.uri for one in _STRUCTURED_ACCEPTS}:
        raise ViewNotSupported(view.uri)
    if view.params:
        raise InvalidArgument(f"{view.params[0].uri[:300]}: the view {view.uri} has no such parameter")


def export_operation(node: StoredNode, view: View | None) -> Operation:
    """Say what an endpoint is for that gives the data of a node in a view.

    Raises
    ------
    ViewNotSupported, InvalidArgument
        As `import_operation`.
    """
    if node.is_container:
        if view is None:
            raise _no_bytes(node)
        if archive_format(view) is None:
            raise ViewNotSupported(view.uri)
        return "pack"
    if not node.type.holds_bytes:
        raise _no_bytes(node)
    if view is None or view.uri in _BYTES_OUT:
        return "get"
    computed = find_view(node.structure, view.uri)
    if computed is None:
        raise ViewNotSupported(view.uri)
    check_params(computed, view.params)
    return "render"


def package_operation(view: View) -> Operation:
    """Say what an endpoint is for that gives nodes of any kind as one package (OpenCADC).

    Raises
    ------
    InvalidArgument
        The format is none of ours.
    """
    if archive_format(view) is None:
        wanted = next(one.value for one in view.params if one.uri == FORMAT)
        raise InvalidArgument(f"{FORMAT}: {wanted[:80]!r} is no format of packages")
    return "pack"


def view_of_form(uri: str, form: Mapping[str, list[str]]) -> View:
    """Give a view that a form names (section 3.6.2, which leaves the parameters of views out).

    A parameter of a computed view is called as its URI ends, in upper case as all names of `form`.
    """
    params = [param for name in structured_types() if (found := find_view(name, uri)) for param in found.params]
    given = [Param(one.uri, value) for one in params for value in form.get(one.uri.rpartition("#")[2].upper(), [])]
    return View(uri, params=tuple(given))


def _no_bytes(node: StoredNode) -> InvalidArgument:
    hint = "; ask for a view that packs it" if node.is_container else ""
    return InvalidArgument(f"a {node.type} holds no bytes of its own{hint}")
