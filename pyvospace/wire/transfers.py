"""Transfer documents (VOSpace 2.1, section 3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml import etree

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.nodes import Param
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.uris import encode_uri
from pyvospace.model.vocabulary import PACKAGE_TARGET
from pyvospace.wire import xml
from pyvospace.wire.markup import DECLARATION, identifier, text
from pyvospace.wire.nodes import is_true, read_params, read_view, render_params, render_view
from pyvospace.wire.xml import REQUEST, Limits, V

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_TRANSFER = V + "transfer"


def render_transfer(transfer: Transfer) -> bytes:
    """Write a whole document; URIs that a client wrote raw come out encoded."""
    return f"{DECLARATION}{transfer_element(transfer)}\n".encode()


def render_package_request(transfer: Transfer) -> bytes:
    """Write a document that asks for a package, with all of its targets as OpenCADC wants them."""
    targets = "".join([f"<vos:target>{_uri(one)}</vos:target>" for one in transfer.targets])
    return f"{DECLARATION}{_element(transfer, targets, transfer.params)}\n".encode()


def transfer_element(transfer: Transfer) -> str:
    """Write a transfer, as part of a document (``jobInfo`` of a job).

    The schema of the standard has one target: those of a package behind the first are told as parameters.
    """
    more = [Param(PACKAGE_TARGET, encode_uri(one)) for one in transfer.more_targets]
    return _element(transfer, f"<vos:target>{_uri(transfer.target)}</vos:target>", (*transfer.params, *more))


def _element(transfer: Transfer, targets: str, params: tuple[Param, ...]) -> str:
    version = f' version="{identifier(transfer.version)}"' if transfer.version is not None else ""
    direction = f"<vos:direction>{_uri(transfer.direction)}</vos:direction>" if transfer.direction else ""
    view = render_view(transfer.view) if transfer.view is not None else ""
    keep = ""
    if transfer.keep_bytes is not None:
        keep = f"<vos:keepBytes>{'true' if transfer.keep_bytes else 'false'}</vos:keepBytes>"
    return (
        f'<vos:transfer xmlns:vos="{xml.VOSPACE}"{version}>'
        f"{targets}{direction}{view}"
        f"{''.join([render_protocol(one) for one in transfer.protocols])}{keep}"
        f"{render_params(params)}</vos:transfer>"
    )


def render_protocol(protocol: Protocol) -> str:
    """Write a protocol, as part of a document."""
    endpoint = f"<vos:endpoint>{_uri(protocol.endpoint)}</vos:endpoint>" if protocol.endpoint is not None else ""
    methods = "".join([f'<vos:securityMethod uri="{identifier(uri)}"/>' for uri in protocol.security_methods])
    inner = endpoint + render_params(protocol.params) + methods
    start = f'<vos:protocol uri="{identifier(protocol.uri)}"'
    return f"{start}>{inner}</vos:protocol>" if inner else f"{start}/>"


def _uri(value: str) -> str:
    return text(encode_uri(value))


def parse_transfer(body: bytes, limits: Limits = REQUEST) -> Transfer:
    """Read a transfer that a client posted.

    Raises
    ------
    InvalidArgument
        It is no valid transfer document.
    RequestEntityTooLarge
        It has too many bytes.
    """
    root = xml.read_request(body, limits)
    if root.tag != _TRANSFER:
        raise InvalidArgument(f"the document is a {etree.QName(root).localname}, not a transfer")
    xml.check(root)
    transfer = transfer_of(root)
    if not transfer.direction:
        raise InvalidArgument("the transfer has no direction")
    if transfer.more_targets and not transfer.is_package:
        raise InvalidArgument(f"target: only a package has {len(transfer.targets)} of them")
    return transfer


def read_transfer(body: bytes) -> Transfer:
    """Read a transfer that a service sent; what is unknown in it is passed over.

    Raises
    ------
    InvalidData
        It is no transfer document.
    """
    return transfer_of(xml.read_answer(body, _TRANSFER))


def transfer_of(element: Element) -> Transfer:
    """Read a transfer, as part of a document."""
    view = element.find(V + "view")
    keep = element.findtext(V + "keepBytes")
    targets = [(one.text or "").strip() for one in element.iterfind(V + "target")] or [""]
    return Transfer(
        target=targets[0],
        direction=(element.findtext(V + "direction") or "").strip(),
        view=None if view is None else read_view(view),
        protocols=tuple(read_protocol(one) for one in element.iterfind(V + "protocol")),
        keep_bytes=None if keep is None else is_true(keep),
        params=read_params(element),
        version=element.get("version"),
        more_targets=tuple(targets[1:]),
    )


def read_protocol(element: Element) -> Protocol:
    """Read a protocol, as part of a document; a security method without name is none."""
    endpoint = (element.findtext(V + "endpoint") or "").strip()
    named = [one.get("uri") or one.get("standardID") for one in element.iterfind(V + "securityMethod")]
    return Protocol(
        uri=(element.get("uri") or "").strip(),
        endpoint=endpoint or None,
        params=read_params(element),
        security_methods=tuple(uri.strip() for uri in named if uri),
    )
