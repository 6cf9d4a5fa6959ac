"""Transfers (VOSpace 2.1, sections 3.5 and 3.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from pyvospace.model.claims import Operation
from pyvospace.model.faults import ProtocolNotSupported
from pyvospace.model.nodes import Param, View
from pyvospace.model.vocabulary import (
    PACKAGE_VIEW,
    PUBLIC_SHARE,
    REPLACE,
    SECURE_PROTOCOLS,
    SERVICE_PROTOCOLS,
    SSO_ANON,
    SSO_BASIC,
    Direction,
)

_TRUE: Final = frozenset({"true", "1"})


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way to move bytes."""

    uri: str
    endpoint: str | None = None
    """Where to; only in answers of client-driven transfers and in requests of service-driven ones."""
    params: tuple[Param, ...] = ()
    security_methods: tuple[str, ...] = ()
    """URIs of what the client must do to be let in; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A protocol beside HTTP that a storage server speaks."""

    uri: str
    """Of the protocol."""
    url: str
    """Base of its endpoints: ``sftp://host:port``. User and password of a job, and the name of its node, are added."""
    params: tuple[Param, ...] = ()
    """What clients are told of the protocol: how to know the server."""

    def endpoint(self, user: str, password: str, name: str) -> str:
        """Give the endpoint of a job, whose node has this name."""
        scheme, _, place = self.url.partition("://")
        return f"{scheme}://{user}:{password}@{place}/{quote(name, safe='')}"


@dataclass(frozen=True, slots=True)
class Served:
    """How the service serves a transfer that it has agreed to."""

    operation: Operation
    """What its endpoints are for."""
    nodes: tuple[int, ...] = ()
    """Of an archive: ids of the nodes that go into it."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What is to be moved where, and how."""

    target: str
    """URI of the node, as the client wrote it."""
    direction: str
    """A value of `Direction`, or the ``vos:`` URI that a move or copy leads to."""
    view: View | None = None
    protocols: tuple[Protocol, ...] = ()
    keep_bytes: bool | None = None
    params: tuple[Param, ...] = ()
    version: str | None = None
    """``2.1``, or None from a client of VOSpace 2.0."""
    more_targets: tuple[str, ...] = ()
    """Of a package (OpenCADC): the URIs behind the first."""
    served: Served | None = None
    """None: not agreed yet."""

    @property
    def targets(self) -> tuple[str, ...]:
        """URIs of all nodes."""
        return (self.target, *self.more_targets)

    @property
    def is_package(self) -> bool:
        """Say whether nodes are to leave as one package (OpenCADC)."""
        asked = self.view is not None and self.view.uri == PACKAGE_VIEW
        return asked and self.direction == Direction.PULL_FROM_VOSPACE

    @property
    def is_share(self) -> bool:
        """Say whether the endpoint is to be handed on to others (section 3.5.4)."""
        return any(one.uri == PUBLIC_SHARE for one in self.protocols)

    @property
    def replaces(self) -> bool:
        """Say whether a move puts the node in the place of what is at its destination (an extension of our own)."""
        return self.param(REPLACE) in _TRUE

    def param(self, uri: str) -> str | None:
        """Give the value of a parameter, None if there is none."""
        return next((one.value for one in self.params if one.uri == uri), None)


def is_usable(protocol: Protocol, direction: str) -> bool:
    """Say whether the service can use an endpoint of the request to drive the transfer itself (section 3.6.3).

    httpput is a synonym of httpget for pullToVoSpace, since the standard has it in its example (A-24). An endpoint of a
    secure protocol begins with ``https:``. Credentials are those in the endpoint, as in BasicAA, or none.
    """
    if protocol.uri not in SERVICE_PROTOCOLS.get(direction, frozenset()) or not protocol.endpoint:
        return False
    if protocol.uri in SECURE_PROTOCOLS and not protocol.endpoint.lower().startswith("https:"):
        return False
    return not protocol.security_methods or not {SSO_ANON, SSO_BASIC}.isdisjoint(protocol.security_methods)


def negotiate(wanted: Sequence[Protocol], offers: Mapping[str, str], methods: frozenset[str]) -> tuple[Protocol, ...]:
    """Choose what the service provides of what the client asked for, in the client's order.

    Parameters
    ----------
    wanted
        Protocols of the request.
    offers
        Endpoint for each protocol that the service provides now.
    methods
        Security methods that the endpoints understand besides none at all.

    Raises
    ------
    ProtocolNotSupported
        Nothing is left (section 3.6.4).

    Notes
    -----
    What we do not know is dropped without comment (section 6.4). A security method stands in the answer if and only
    if the client named it (section 5); ``sso#anon`` is the same as none.
    """
    agreed = []
    for one in wanted:
        if one.uri not in offers:
            continue
        if one.uri == PUBLIC_SHARE:  # whoever has it, whoever he is (section 3.5.4)
            agreed.append(replace(one, endpoint=offers[one.uri], params=(), security_methods=()))
            continue
        known = tuple(method for method in one.security_methods if method in methods or method == SSO_ANON)
        if one.security_methods and not known:
            continue
        agreed.append(replace(one, endpoint=offers[one.uri], params=(), security_methods=known[:1]))
    if not agreed:
        raise ProtocolNotSupported(" ".join(one.uri for one in wanted) or "no protocol was asked for")
    return tuple(agreed)
