"""Negotiation of protocols (VOSpace 2.1, sections 3.5, 3.6.4, 5 and 6.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.faults import ProtocolNotSupported
from pyvospace.model.nodes import Param
from pyvospace.model.transfers import Protocol, negotiate
from pyvospace.model.vocabulary import HTTP_GET, HTTPS_GET, SSO_ANON, SSO_BASIC, SSO_TOKEN

OFFERS = {HTTP_GET: "http://h/files/t/a", HTTPS_GET: "https://h/files/t/a"}
METHODS = frozenset({SSO_TOKEN, SSO_BASIC})
PRIVATE = "vos://cadc.nrc.ca~vospace/CADC/std/Auth#token-1.0"


def agreed(*wanted: Protocol) -> list[tuple[str, str | None, tuple[str, ...]]]:
    return [(one.uri, one.endpoint, one.security_methods) for one in negotiate(wanted, OFFERS, METHODS)]


def test_order_of_the_client() -> None:
    assert agreed(Protocol(HTTPS_GET), Protocol(HTTP_GET)) == [
        (HTTPS_GET, OFFERS[HTTPS_GET], ()),
        (HTTP_GET, OFFERS[HTTP_GET], ()),
    ]
    assert [uri for uri, _, _ in agreed(Protocol(HTTP_GET), Protocol(HTTPS_GET))] == [HTTP_GET, HTTPS_GET]


def test_unknown_protocols_are_dropped() -> None:
    assert [uri for uri, _, _ in agreed(Protocol("urn:gopher"), Protocol(HTTP_GET))] == [HTTP_GET]


def test_what_vos_asks_for() -> None:
    """T2: its private method first, then none: the second is taken."""
    assert agreed(Protocol(HTTPS_GET, security_methods=(PRIVATE,)), Protocol(HTTPS_GET)) == [
        (HTTPS_GET, OFFERS[HTTPS_GET], ())
    ]


def test_methods_that_the_client_named() -> None:
    assert agreed(Protocol(HTTPS_GET, security_methods=(PRIVATE, SSO_BASIC, SSO_TOKEN))) == [
        (HTTPS_GET, OFFERS[HTTPS_GET], (SSO_BASIC,))
    ]
    assert agreed(Protocol(HTTPS_GET, security_methods=(SSO_ANON,))) == [(HTTPS_GET, OFFERS[HTTPS_GET], (SSO_ANON,))]


@pytest.mark.parametrize(
    "wanted",
    [(), (Protocol("urn:gopher"),), (Protocol(HTTP_GET, security_methods=(PRIVATE,)),), (Protocol(HTTP_GET.upper()),)],
)
def test_nothing_is_left(wanted: tuple[Protocol, ...]) -> None:
    with pytest.raises(ProtocolNotSupported):
        negotiate(wanted, OFFERS, METHODS)


def test_the_client_names_no_endpoint_and_no_parameter() -> None:
    wanted = Protocol(HTTP_GET, "http://elsewhere/", (Param("urn:a", "b"),))
    assert negotiate([wanted], OFFERS, METHODS) == (Protocol(HTTP_GET, OFFERS[HTTP_GET]),)


protocols = st.builds(
    Protocol,
    st.sampled_from([HTTP_GET, HTTPS_GET, "urn:gopher"]),
    security_methods=st.lists(st.sampled_from([SSO_ANON, SSO_TOKEN, SSO_BASIC, PRIVATE]), max_size=3).map(tuple),
)


@given(st.lists(protocols))
def test_a_method_is_answered_if_and_only_if_it_was_named(wanted: list[Protocol]) -> None:
    try:
        found = negotiate(wanted, OFFERS, METHODS)
    except ProtocolNotSupported:
        found = ()
    possible = [
        one
        for one in wanted
        if one.uri in OFFERS and (not one.security_methods or set(one.security_methods) & {*METHODS, SSO_ANON})
    ]
    assert [one.uri for one in found] == [one.uri for one in possible]
    for asked, given_one in zip(possible, found, strict=True):
        assert bool(asked.security_methods) == bool(given_one.security_methods)
        assert set(given_one.security_methods) <= set(asked.security_methods) & {*METHODS, SSO_ANON}
