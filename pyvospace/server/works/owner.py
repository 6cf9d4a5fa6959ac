"""Whose rights a job has: those of its owner, as of now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyvospace.db import identities
from pyvospace.model.callers import ANONYMOUS, Origin, limited
from pyvospace.model.faults import PermissionDenied

if TYPE_CHECKING:
    from pyvospace.model.callers import Caller
    from pyvospace.model.jobs import Claimed
    from pyvospace.server.context import Service


async def owner_of(service: Service, claimed: Claimed) -> Caller:
    """Identify the owner of a job, who may no more than the token by which it was made.

    Raises
    ------
    PermissionDenied
        He was disabled, or the token revoked.
    """
    if claimed.owner_id is None:
        return replace(ANONYMOUS, origin=Origin(job=claimed.id))
    owner = await identities.by_id(service.database, claimed.owner_id, token=claimed.token_id)
    if owner is None:
        raise PermissionDenied("the owner of this job, or the token by which it was made, is not known any more")
    owner = replace(owner, credential=_credential(claimed), token_id=claimed.token_id, origin=Origin(job=claimed.id))
    return limited(owner, claimed.scope)


def _credential(claimed: Claimed) -> str:
    return f"job by token {claimed.token_id}" if claimed.token_id is not None else "job"
