"""Whose rights a job has: those of its owner, as of now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvospace.db import identities
from pyvospace.model.callers import ANONYMOUS
from pyvospace.model.faults import PermissionDenied

if TYPE_CHECKING:
    from pyvospace.model.callers import Caller
    from pyvospace.model.jobs import Claimed
    from pyvospace.server.context import Service


async def owner_of(service: Service, claimed: Claimed) -> Caller:
    """Identify the owner of a job.

    Raises
    ------
    PermissionDenied
        He was disabled.
    """
    if claimed.owner_id is None:
        return ANONYMOUS
    owner = await identities.by_id(service.database, claimed.owner_id)
    if owner is None:
        raise PermissionDenied("the owner of this job is not known any more")
    return owner
