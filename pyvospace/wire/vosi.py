"""Capabilities and availability of a service (VOSI 1.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyvospace.model.faults import InvalidArgument, InvalidData
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.model.vosi import Availability, Capability
from pyvospace.wire import xml
from pyvospace.wire.markup import DECLARATION, attribute, text
from pyvospace.wire.nodes import is_true

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from lxml.etree import _Element as Element

CAPABILITIES = "http://www.ivoa.net/xml/VOSICapabilities/v1.0"
AVAILABILITY = "http://www.ivoa.net/xml/VOSIAvailability/v1.0"
DATA_SERVICE = "http://www.ivoa.net/xml/VODataService/v1.1"
_A = f"{{{AVAILABILITY}}}"
_NO_ADDRESS = re.compile(r"[^0-9A-Za-z.:%]")


def render_capabilities(capabilities: Iterable[Capability]) -> bytes:
    """Write what the service can do.

    The elements below the root have no namespace and ``xsi`` is declared on the root, as the schema and cadcutils
    want it. Each capability has an interface for anonymous callers first, then one for each method to log in
    (VOResource 1.1 allows but one in each): cadcutils takes an interface as anonymous only if it is the first, vosfs
    only if it has no method at all.
    """
    inner = "".join(
        [
            f'\n<capability standardID="{attribute(one.standard_id)}">{_interfaces(one)}\n</capability>'
            for one in capabilities
        ]
    )
    spaces = f'xmlns:vosi="{CAPABILITIES}" xmlns:vs="{DATA_SERVICE}" xmlns:xsi="{xml.XSI}"'
    return f"{DECLARATION}<vosi:capabilities {spaces}>{inner}\n</vosi:capabilities>\n".encode()


def _interfaces(capability: Capability) -> str:
    url = f'<accessURL use="{attribute(capability.use)}">{text(capability.url)}</accessURL>'
    methods = [f'<securityMethod standardID="{attribute(one)}"/>' for one in capability.methods]
    return "".join(
        [f'\n<interface xsi:type="vs:ParamHTTP" role="std">{url}{method}</interface>' for method in ["", *methods]]
    )


def parse_capabilities(body: bytes) -> tuple[Capability, ...]:
    """Read what a service can do: for each capability its first URL, and the methods of all its interfaces.

    Raises
    ------
    InvalidData
        It is no such document.
    """
    root = xml.read_answer(body, f"{{{CAPABILITIES}}}capabilities")
    return tuple(_capability(one) for one in root.iterfind("capability") if one.find("interface/accessURL") is not None)


def _capability(element: Element) -> Capability:
    url = element.find("interface/accessURL")
    methods = [one.get("standardID") for one in element.iterfind("interface/securityMethod")]
    return Capability(
        standard_id=element.get("standardID") or "",
        url=("" if url is None else url.text or "").strip(),
        use=("" if url is None else url.get("use")) or "full",
        methods=tuple(dict.fromkeys(one for one in methods if one)),
    )


def render_availability(availability: Availability, *, client: str = "") -> bytes:
    """Write whether the service can serve; the address of the client stands in a comment, as at OpenCADC."""
    comment = f"<!-- <clientip>{_NO_ADDRESS.sub('?', client)}</clientip> -->\n" if client else ""
    times = [
        f"<vosi:{name}>{write_instant(time)}</vosi:{name}>"
        for name, time in (
            ("upSince", availability.up_since),
            ("downAt", availability.down_at),
            ("backAt", availability.back_at),
        )
        if time is not None
    ]
    notes = [f"<vosi:note>{text(note)}</vosi:note>" for note in availability.notes]
    available = "true" if availability.available else "false"
    return (
        f'{DECLARATION}<vosi:availability xmlns:vosi="{AVAILABILITY}"><vosi:available>{available}</vosi:available>'
        f"{''.join(times)}{''.join(notes)}</vosi:availability>\n{comment}"
    ).encode()


def parse_availability(body: bytes) -> Availability:
    """Read whether a service can serve.

    Raises
    ------
    InvalidData
        It is no such document.
    """
    root = xml.read_answer(body, _A + "availability")
    return Availability(
        available=is_true(root.findtext(_A + "available")),
        up_since=_moment(root, "upSince"),
        down_at=_moment(root, "downAt"),
        back_at=_moment(root, "backAt"),
        notes=tuple(one.text or "" for one in root.iterfind(_A + "note")),
    )


def _moment(root: Element, name: str) -> datetime | None:
    word = (root.findtext(_A + name) or "").strip()
    try:
        return read_instant(word) if word else None
    except InvalidArgument as fault:
        raise InvalidData(f"{name}: {fault.detail}") from None
