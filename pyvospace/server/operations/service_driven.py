"""pullToVoSpace and pushFromVoSpace: what is looked at when a job is run (VOSpace 2.1, sections 6.4.2 and 6.4.4).

The bytes travel between a storage server and the endpoints of the request: see `pyvospace.storage.third_party`, which
looks at the rights of the job's owner once more when they do.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from pyvospace.db.jobs import Prepared
from pyvospace.model.faults import (
    InvalidArgument,
    NotAuthenticated,
    ProtocolNotSupported,
    ViewNotSupported,
)
from pyvospace.model.transfers import is_usable
from pyvospace.model.uris import AUTO
from pyvospace.model.vocabulary import SERVICE_PROTOCOLS
from pyvospace.server.operations import transfers
from pyvospace.service.outgoing import check_port, parse_url

if TYPE_CHECKING:
    from pyvospace.model.transfers import Protocol, Transfer
    from pyvospace.server.context import Context

_MOST: Final = 20
"""Endpoints of one transfer: each may take its time."""


async def prepare_pull_to(context: Context, wanted: Transfer) -> Prepared:
    """See that bytes may be fetched for the target, from one endpoint of the request at least.

    Raises
    ------
    Fault
        As section 6.4.2 lists them.
    """
    _require_caller(context)
    path = context.own_path(wanted.target)
    if path[-1:] == (AUTO,):
        path = (*path[:-1], secrets.token_hex(10))
    target, served = await transfers.push_target(context, path, wanted.view)
    if served.operation != "put":
        raise ViewNotSupported("bytes that are fetched are stored as they are")
    _require_endpoint(context, wanted)
    settings = context.service.settings
    return Prepared(
        target.uri,
        target.node_id,
        target.parent_id,
        target.name,
        size_limit=settings.limits.upload_bytes,
        keep_properties=context.service.opencadc,
    )


async def prepare_push_from(context: Context, wanted: Transfer) -> Prepared:
    """See that the bytes of the target may be read, and sent to one endpoint of the request at least.

    Raises
    ------
    Fault
        As section 6.4.4 lists them.
    """
    _require_caller(context)
    path = context.own_path(wanted.target)
    target, served = await transfers.pull_target(context, path, wanted.view)
    if served.operation != "get":
        raise ViewNotSupported("bytes are sent as they are")
    _require_endpoint(context, wanted)
    return Prepared(target.uri, target.node_id, None, None)


def _require_caller(context: Context) -> None:
    """Let nobody whom nobody knows send our servers anywhere."""
    if context.caller.anonymous:
        context.policy.exempt()
        raise NotAuthenticated("log in to have this service move bytes")


def _require_endpoint(context: Context, wanted: Transfer) -> None:
    """Refuse a transfer of whose endpoints none can be tried (section 3.6.3); where they lead is seen when they are."""
    known = [one for one in wanted.protocols if one.uri in SERVICE_PROTOCOLS[wanted.direction]]
    if not known:
        raise ProtocolNotSupported(" ".join(one.uri for one in wanted.protocols) or "no protocol was given")
    usable = [one for one in known if is_usable(one, wanted.direction)]
    if not usable:
        raise ProtocolNotSupported(
            "no protocol has an endpoint of its scheme, with no security method but BasicAA by user and password in it"
        )
    if len(usable) > _MOST:
        raise InvalidArgument(f"protocols: more than {_MOST} endpoints are not tried")
    problems = [problem for one in usable if (problem := _problem(context, one))]
    if len(problems) == len(usable):
        raise InvalidArgument("; ".join(problems))


def _problem(context: Context, protocol: Protocol) -> str | None:
    try:
        check_port(parse_url(protocol.endpoint or ""), context.service.settings.outgoing.ports)
    except InvalidArgument as fault:
        return fault.detail
    return None
