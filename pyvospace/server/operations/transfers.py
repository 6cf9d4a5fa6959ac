"""pushToVoSpace and pullFromVoSpace: negotiation (VOSpace 2.1, sections 3.6 and 6.4).

The bytes travel between the client and a storage server; nothing of a node changes here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from pyvospace.db import placement, protocols
from pyvospace.db.integrity import require_good_bytes
from pyvospace.model.archives import archive_format
from pyvospace.model.claims import EndpointClaims, Operation, Place
from pyvospace.model.faults import (
    ContainerNotFound,
    Fault,
    InvalidArgument,
    NodeNotFound,
    NotAuthenticated,
    NotFound,
    OperationNotSupported,
    PermissionDenied,
    ProtocolNotSupported,
    ServiceBusy,
    UnreadableLinkTarget,
)
from pyvospace.model.jobs import Kind
from pyvospace.model.nodes import View
from pyvospace.model.transfers import Protocol, Served, Transfer, negotiate
from pyvospace.model.uris import AUTO, NULL
from pyvospace.model.vocabulary import (
    GET_PROTOCOLS,
    HTTPS_GET,
    HTTPS_PUT,
    LENGTH,
    PACKAGE_VIEW,
    PUBLIC_SHARE,
    PUT_PROTOCOLS,
    SSO_BASIC,
    SSO_OAUTH,
    SSO_TOKEN,
    TUS,
    Direction,
    Phase,
)
from pyvospace.server.operations.paths import follow
from pyvospace.server.policy import Right
from pyvospace.server.views import export_operation, import_operation, package_operation, view_of_form
from pyvospace.uws import jobs
from pyvospace.uws.jobs import Agreed, Target
from pyvospace.uws.transfers import unpack

if TYPE_CHECKING:
    from pyvospace.db.jobs import JobRow
    from pyvospace.model.stored import StoredNode
    from pyvospace.server.context import Context

_DIGITS = 18
"""Of a number of bytes, at the most."""
_BYTES: Final[Mapping[str, Operation]] = {Direction.PUSH_TO_VOSPACE: "put", Direction.PULL_FROM_VOSPACE: "get"}
"""What the endpoints of jobs are for that were made before views were."""
_RECALLED_IN: Final = 60
"""Seconds after which somebody who waits for bytes of a cold storage may ask again."""
_ANYWHERE: Final = frozenset({"get", "render"})
"""What every server can do that has the bytes of the node."""
_LEFT_OUT: Final = (
    ContainerNotFound,
    InvalidArgument,
    NodeNotFound,
    NotAuthenticated,
    PermissionDenied,
    UnreadableLinkTarget,
)
_BY_HTTP: Final = GET_PROTOCOLS | PUT_PROTOCOLS | {PUBLIC_SHARE, TUS}
METHODS = frozenset({SSO_TOKEN, SSO_OAUTH, SSO_BASIC})
"""Security methods that a client may name: an endpoint needs none and minds none of these."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A transfer that may begin."""

    job: Agreed
    agreed: Transfer
    """Without endpoints: these are signed when somebody wants to see them (see `with_endpoints`)."""
    target: Target


def offered(context: Context, direction: str) -> frozenset[str]:
    """Give the protocols that clients can use now in this direction (rulings of T1)."""
    pushed = direction == Direction.PUSH_TO_VOSPACE
    protocols = PUT_PROTOCOLS if pushed else GET_PROTOCOLS
    if context.service.secure:
        protocols &= {HTTPS_GET, HTTPS_PUT}
    return protocols | {TUS if pushed else PUBLIC_SHARE}


async def provided(context: Context) -> list[str]:
    """Give all protocols that clients can use now in some direction; HTTP alone while the database is away."""
    directions = (Direction.PULL_FROM_VOSPACE, Direction.PUSH_TO_VOSPACE)
    known = [uri for direction in directions for uri in sorted(offered(context, direction))]
    with suppress(ServiceBusy):
        known += sorted(await protocols.offered(context.database))
    return list(dict.fromkeys(known))


def is_internal(wanted: Transfer) -> bool:
    """Say whether a transfer moves or copies nodes within the space."""
    return wanted.direction.lower().startswith("vos:")


async def transfer(context: Context, wanted: Transfer, *, job: str | None = None) -> Negotiated:
    """Negotiate a transfer that the client drives, for a new job or one that waited to be run.

    Raises
    ------
    Fault
        As sections 6.4.1 and 6.4.3 list them; nothing is left behind.
    """
    if wanted.direction == Direction.PUSH_TO_VOSPACE:
        return await push_to_vospace(context, wanted, job=job)
    if wanted.direction == Direction.PULL_FROM_VOSPACE:
        return await pull_from_vospace(context, wanted, job=job)
    context.policy.exempt()
    if wanted.direction in set(Direction):
        raise OperationNotSupported(f"{wanted.direction} is not synchronous: POST it to /transfers (section 6.4)")
    raise InvalidArgument(f"direction: {wanted.direction[:300]!r} is none")


async def push_to_vospace(context: Context, wanted: Transfer, *, job: str | None = None) -> Negotiated:
    """Agree on where the client sends bytes to (section 6.4.1)."""
    path = context.own_path(wanted.target)
    if path[-1:] == (AUTO,):
        path = (*path[:-1], secrets.token_hex(10))
    target, served = await push_target(context, path, wanted.view)
    agreed = await _agree(context, wanted, served)
    placed = await jobs.agree_push(
        context.database,
        context.service.settings,
        context.caller,
        agreed,
        target,
        discard=path[-1:] == (NULL,),
        announced=_announced(wanted),
        near=near(context),
        job=job,
    )
    return Negotiated(placed, agreed, target)


async def push_target(context: Context, path: tuple[str, ...], view: View | None) -> tuple[Target, Served]:
    """Find the node that bytes are to come to, or the place of one to be made, if the caller may write there."""
    found = await follow(context, path, last=True)
    uri = str(context.uri(found.names))
    if found.node is None:
        container = context.policy.require(Right.CREATE, found)
        return Target(uri, None, container.id, found.names[-1]), Served(import_operation(None, view))
    node = context.policy.require(Right.WRITE, found)
    return Target(uri, node.id, node.parent_id or 0, node.name), Served(import_operation(node, view))


async def pull_from_vospace(context: Context, wanted: Transfer, *, job: str | None = None) -> Negotiated:
    """Agree on where the client fetches bytes from (section 6.4.3)."""
    if wanted.is_package:
        target, served = await _package_target(context, wanted)
    else:
        target, served = await pull_target(context, context.own_path(wanted.target), wanted.view)
    agreed = await _agree(context, wanted, served)
    settings = context.service.settings
    try:
        placed = await jobs.agree_pull(
            context.database, settings, context.caller, agreed, target, near=near(context), job=job
        )
    except ServiceBusy:
        if target.node_id is None or target.storage is None:
            raise
        if job is None:
            raise await _away(context, target.node_id) from None
        if not await _recall(context, target.node_id):
            raise
        await jobs.await_recall(context.database, settings, agreed, target, job)
        return Negotiated(Agreed(job, jobs.endpoint_expiry(0), ()), replace(agreed, protocols=()), target)
    return Negotiated(placed, agreed, target)


async def _recall(context: Context, node: int) -> bool:
    """Have bytes brought back that are in cold storages only; say whether they come.

    Raises
    ------
    InternalFault
        They are damaged everywhere.
    ServiceBusy
        There is nowhere to bring them.
    """
    await require_good_bytes(context.database, node)
    coming = await placement.recall(context.database, node, days=context.service.settings.placement.recall_days)
    if coming is False:
        raise ServiceBusy("the bytes are in a cold storage, and no other has room for them now")
    return bool(coming)


async def pull_target(context: Context, path: tuple[str, ...], view: View | None) -> tuple[Target, Served]:
    """Find the node whose bytes are to go elsewhere, if the caller may read it."""
    found = await follow(context, path, last=True)
    node = context.policy.require(Right.READ, found)
    served = Served(export_operation(node, view), (node.id,))
    return Target(str(context.uri(found.names)), node.id, node.parent_id or 0, node.name, node.storage), served


async def _package_target(context: Context, wanted: Transfer) -> tuple[Target, Served]:
    """Find the nodes of a package; what is missing, or the caller may not read, is left out (OpenCADC)."""
    operation = package_operation(wanted.view or View(PACKAGE_VIEW))
    nodes: dict[int, None] = {}
    for uri in wanted.targets:
        path = context.own_path(uri)
        with suppress(*_LEFT_OUT):
            nodes[context.policy.require(Right.READ, await follow(context, path, last=True)).id] = None
    context.policy.exempt()  # all may be left out before anybody was asked
    first = context.uri(context.own_path(wanted.target))
    return Target(str(first), next(iter(nodes), None), 0, first.name), Served(operation, tuple(nodes))


async def locate_file(
    context: Context, path: tuple[str, ...], *, right: Right = Right.READ
) -> tuple[StoredNode, str | None]:
    """Find the bytes of a data node by its path: the node, and an endpoint for them, or None.

    The endpoint is good for a short time and has no job (it dies with the right to read). There is none as long as
    no bytes have come, nor for somebody whose `right` is to see the node but not to read it.

    Raises
    ------
    ServiceBusy
        No server that has the bytes is there now.
    """
    found = await follow(context, path, last=True)
    node = context.policy.require(right, found)
    _require_data(node)
    if node.storage is None or not node.readable:
        return node, None
    places = await placement.to_read(context.database, node.id, near=near(context))
    if not places:
        raise await _away(context, node.id)
    claims = EndpointClaims(
        operation="get",
        node_id=node.id,
        job_id=None,
        user_id=context.caller.id or None,
        expires=jobs.endpoint_expiry(context.service.settings.endpoints.files_life),
        token_id=context.caller.token_id,
    )
    best = places[0]
    return node, await context.service.signer.endpoint(best.url, best.storage, claims, name=node.name)


async def _away(context: Context, node: int) -> ServiceBusy:
    """Say why bytes cannot be had now; those of a cold storage are recalled."""
    if await _recall(context, node):
        return ServiceBusy("the bytes are being brought back from a cold storage", retry_after=_RECALLED_IN)
    return ServiceBusy("no server that has these bytes is there now; try again")


def near(context: Context) -> str:
    """Give the site of the client; empty: nobody knows."""
    return context.service.settings.placement.site_of(context.caller.origin.remote)


def _require_data(node: StoredNode) -> None:
    if not node.type.holds_bytes:
        raise InvalidArgument(f"a {node.type} holds no bytes of its own")


def _announced(wanted: Transfer) -> int | None:
    text = wanted.param(LENGTH)
    if text is None:
        return None
    if not text.strip().isascii() or not text.strip().isdigit() or len(text) > _DIGITS:
        raise InvalidArgument(f"{LENGTH}: {text[:80]!r} is no number of bytes")
    return int(text)


async def _agree(context: Context, wanted: Transfer, served: Served) -> Transfer:
    offers = dict.fromkeys(offered(context, wanted.direction), "")
    # Views and archives are computed for plain HTTP only.
    if served.operation not in _BYTES.values():
        offers.pop(TUS, None)
    elif any(one.uri not in _BY_HTTP for one in wanted.protocols):
        offers |= dict.fromkeys(await protocols.offered(context.database), "")
    try:
        agreed = negotiate(wanted.protocols, offers, METHODS)
    except ProtocolNotSupported:
        # OpenCADC gives an empty list if it is only for the security methods that nothing is left.
        # A package is fetched from where the answer leads (`package_endpoint`), whatever the client listed.
        known = context.service.opencadc and not offers.keys().isdisjoint(one.uri for one in wanted.protocols)
        if not known and not wanted.is_package:
            raise
        agreed = ()
    return replace(wanted, protocols=agreed, served=served)


async def with_endpoints(context: Context, negotiated: Negotiated) -> Transfer:
    """Give every protocol its endpoints: as many as there are servers with the bytes, the best one first."""
    job, agreed, target = negotiated.job, negotiated.agreed, negotiated.target
    shared = endpoints = await _endpoints(context, job, agreed, target)
    if agreed.is_share:  # what is not handed on to others lasts as long as ever
        usual = jobs.endpoint_expiry(context.service.settings.endpoints.life)
        endpoints = await _endpoints(context, replace(job, expires=min(job.expires, usual)), agreed, target)
    by_uri = dict.fromkeys(_BY_HTTP, endpoints) | {PUBLIC_SHARE: shared}
    if any(one.uri == TUS for one in agreed.protocols):
        claims = _claims(context, job, agreed, target)
        by_uri[TUS] = [await context.service.signer.creation(job.best.url, job.best.storage, claims)]
    placed = tuple(
        replace(one, endpoint=endpoint) for one in agreed.protocols for endpoint in by_uri.get(one.uri, (None,))
    )
    if any(one.uri not in _BY_HTTP for one in placed):
        placed = await _beside_http(context, job, replace(agreed, protocols=placed), target)
    return replace(agreed, target=target.uri, protocols=placed)


async def _beside_http(context: Context, job: Agreed, agreed: Transfer, target: Target) -> tuple[Protocol, ...]:
    """Give those protocols that are not HTTP the endpoints of their servers, as far as these are there."""
    offers = await protocols.endpoints(context.database, job.best.storage, job.best.url)
    user, password = await context.service.signer.credential(job.best.storage, _claims(context, job, agreed, target))
    return tuple(
        replace(one, endpoint=offers[one.uri].endpoint(user, password, target.name), params=offers[one.uri].params)
        if one.uri in offers
        else one
        for one in agreed.protocols
        if one.uri in _BY_HTTP or one.uri in offers
    )


async def _endpoints(context: Context, job: Agreed, agreed: Transfer, target: Target) -> list[str]:
    """Sign an endpoint of each server; an archive is made by the one that its job was agreed with."""
    anywhere = _operation(agreed) in _ANYWHERE
    return [await _endpoint(context, job, one, agreed, target) for one in (job.places if anywhere else job.places[:1])]


async def _endpoint(context: Context, job: Agreed, place: Place, agreed: Transfer, target: Target) -> str:
    claims = _claims(context, job, agreed, target)
    packed = archive_format(agreed.view) if claims.operation == "pack" and agreed.view is not None else None
    name = target.name + packed.suffix if packed is not None else target.name
    return await context.service.signer.endpoint(place.url, place.storage, claims, name=name)


def _operation(agreed: Transfer) -> Operation:
    return agreed.served.operation if agreed.served else _BYTES[agreed.direction]


def _claims(context: Context, job: Agreed, agreed: Transfer, target: Target) -> EndpointClaims:
    return EndpointClaims(
        operation=_operation(agreed),
        node_id=target.node_id,
        job_id=job.id,
        user_id=context.caller.id or None,
        expires=job.expires,
    )


async def details(context: Context, job: JobRow) -> Transfer:
    """Give the transfer of a job with its endpoints signed anew; without any if it cannot move bytes (any more)."""
    agreed = unpack(job.request)
    placed = _placed(job)
    if placed is None:
        return replace(agreed, protocols=())
    if job.many_servers and job.node_id is not None and _operation(agreed) in _ANYWHERE:
        there = await placement.to_read(context.database, job.node_id, near=near(context))
        placed = replace(placed, places=there or placed.places)
    return await with_endpoints(context, Negotiated(placed, agreed, _target(job, agreed)))


async def package_endpoint(context: Context, job: JobRow) -> str:
    """Give where the package of a job can be fetched from.

    Raises
    ------
    NotFound
        The job has none, or not any more.
    """
    agreed, placed = unpack(job.request), _placed(job)
    if placed is None or not agreed.is_package:
        raise NotFound(f"the job {job.id} has no package: {job.message or job.phase}")
    return await _endpoint(context, placed, placed.best, agreed, _target(job, agreed))


def _placed(job: JobRow) -> Agreed | None:
    """Give where the endpoints of a job are; None: it can move no bytes (any more)."""
    dead = job.phase not in {Phase.EXECUTING, Phase.COMPLETED} or job.expired
    if dead or job.kind not in {Kind.PUSH, Kind.PULL} or job.storage is None or job.expires is None:
        return None
    return Agreed(job.id, job.expires, (Place(job.storage_url or "", job.storage),))


def _target(job: JobRow, agreed: Transfer) -> Target:
    return Target(job.node_uri or agreed.target, job.node_id, job.parent_id or 0, _name(job))


def _name(job: JobRow) -> str:
    return job.name or unquote((job.node_uri or "").rsplit("/", 1)[-1])


def is_refusal(context: Context, fault: Fault) -> bool:
    """Say whether a failed negotiation becomes a job in phase ERROR instead of a direct answer (rulings of T7)."""
    if isinstance(fault, (ServiceBusy, NotAuthenticated)):
        return False
    return not context.caller.anonymous


def parameter_transfer(parameters: Mapping[str, list[str]]) -> Transfer:
    """Read a transfer from parameters (section 3.6.2).

    Parameters
    ----------
    parameters
        Values by name, names in upper case.

    Raises
    ------
    InvalidArgument
        TARGET, DIRECTION or PROTOCOL is missing or given twice, or the direction cannot be asked for in this way.
    """
    target, direction = _one(parameters, "TARGET"), _one(parameters, "DIRECTION")
    if direction not in {Direction.PUSH_TO_VOSPACE, Direction.PULL_FROM_VOSPACE}:
        raise InvalidArgument(f"DIRECTION: {direction[:300]!r} cannot be asked for by parameters")
    protocol = Protocol(
        _one(parameters, "PROTOCOL"), security_methods=tuple(filter(None, parameters.get("SECURITYMETHOD", [])))
    )
    views = parameters.get("VIEW", [])
    if len(views) > 1:
        raise InvalidArgument("VIEW is given twice")
    return Transfer(
        target=target,
        direction=direction,
        view=view_of_form(views[0], parameters) if views else None,
        protocols=(protocol,),
        version="2.1",
    )


def _one(parameters: Mapping[str, list[str]], name: str) -> str:
    values = parameters.get(name, [])
    if len(values) != 1:
        raise InvalidArgument(f"{name} must be given once, not {len(values)} times")
    return values[0]
