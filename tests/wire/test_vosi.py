"""Capabilities and availability."""

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
import vosfs.capabilities
from cadcutils.net.wscapabilities import CapabilitiesReader

from pyvospace.model.faults import InvalidData
from pyvospace.model.vocabulary import (
    SSO_BASIC,
    SSO_TOKEN,
    STANDARD_FILES,
    STANDARD_NODES,
    STANDARD_SYNC,
    STANDARD_TRANSFERS,
    STANDARD_VOSI_AVAILABILITY,
    STANDARD_VOSI_CAPABILITIES,
)
from pyvospace.model.vosi import Availability, Capability
from pyvospace.wire import vosi as wire
from tests.support.documents import assert_valid

METHODS = (SSO_TOKEN, SSO_BASIC)
BASE = "https://example.org/space"
CAPABILITIES = (
    Capability(STANDARD_VOSI_CAPABILITIES, f"{BASE}/capabilities", "full"),
    Capability(STANDARD_VOSI_AVAILABILITY, f"{BASE}/availability", "full"),
    Capability(STANDARD_NODES, f"{BASE}/nodes", "base", METHODS),
    Capability(STANDARD_TRANSFERS, f"{BASE}/transfers", "base", METHODS),
    Capability(STANDARD_SYNC, f"{BASE}/synctrans", "full", METHODS),
    Capability(STANDARD_FILES, f"{BASE}/files", "base", METHODS),
)


def test_capabilities() -> None:
    body = wire.render_capabilities(CAPABILITIES)
    assert_valid(body)
    assert wire.parse_capabilities(body) == CAPABILITIES


def test_capabilities_for_cadcutils() -> None:
    """D1, D2, D5: it finds an URL for the anonymous and for the one with a token."""
    found = CapabilitiesReader().parsexml(wire.render_capabilities(CAPABILITIES))
    assert found.get_access_url(STANDARD_NODES, [SSO_TOKEN]) == f"{BASE}/nodes"
    assert found.get_access_url(STANDARD_NODES, ["ivo://ivoa.net/sso#anon"]) == f"{BASE}/nodes"
    assert found.get_access_url(STANDARD_FILES, [SSO_TOKEN]) == f"{BASE}/files"


@pytest.mark.parametrize("method", [SSO_TOKEN, vosfs.capabilities.ANONYMOUS_METHOD])
def test_capabilities_for_vosfs(method: str) -> None:
    """D4, D5: `use` must be what it expects, the anonymous interface has no method."""
    root = ET.fromstring(wire.render_capabilities(CAPABILITIES))
    for standard, path, use in (
        (STANDARD_NODES, "nodes", "base"),
        (STANDARD_TRANSFERS, "transfers", "base"),
        (STANDARD_SYNC, "synctrans", "full"),
    ):
        assert vosfs.capabilities._resolve(root, standard, method, use=use) == f"{BASE}/{path}"


def test_capabilities_of_other_services() -> None:
    body = (
        b'<c:capabilities xmlns:c="http://www.ivoa.net/xml/VOSICapabilities/v1.0"><capability standardID="urn:a">'
        b"<interface><accessURL> https://h/a </accessURL><securityMethod/><securityMethod standardID='urn:m'/>"
        b"</interface></capability><capability standardID='urn:b'/></c:capabilities>"
    )
    assert wire.parse_capabilities(body) == (Capability("urn:a", "https://h/a", "full", ("urn:m",)),)


@pytest.mark.parametrize(
    "state",
    [
        Availability(available=True),
        Availability(
            available=False,
            up_since=datetime(2026, 2, 28, tzinfo=UTC),
            down_at=datetime(2026, 3, 2, tzinfo=UTC),
            back_at=datetime(2026, 3, 2, 6, 0, 0, 500_000, tzinfo=UTC),
            notes=("database upgrade", "a < b & c"),
        ),
    ],
)
def test_availability(state: Availability) -> None:
    body = wire.render_availability(state)
    assert_valid(body)
    assert wire.parse_availability(body) == state


def test_availability_that_is_none() -> None:
    body = wire.render_availability(Availability(available=True, up_since=datetime(2026, 2, 28, tzinfo=UTC)))
    with pytest.raises(InvalidData):
        wire.parse_availability(body.replace(b"2026-02", b"2026-99"))
    with pytest.raises(InvalidData):
        wire.parse_availability(wire.render_capabilities(CAPABILITIES))
