"""Conditions under which bytes are stored (RFC 9110, section 13)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import PreconditionFailed
from pyvospace.model.ranges import Version

if TYPE_CHECKING:
    from pyvospace.model.claims import UploadClaim
    from pyvospace.model.ranges import Conditions
    from pyvospace.storage.catalogue import Leases

_NO_DATE: Final = datetime.fromtimestamp(0, UTC)
"""Writers compare entity tags; who comes with a date is not refused (RFC 9110, section 13.1.4)."""


async def require(conditions: Conditions, claim: UploadClaim, leases: Leases) -> None:
    """Honour If-Match and If-None-Match under a lease: nobody else writes meanwhile.

    Raises
    ------
    PreconditionFailed
        They do not hold; the lease is given back.
    """
    current = claim.current
    version = Version(current.sha256.hex(), _NO_DATE) if current is not None else None
    if replace(conditions, if_unmodified_since=None).evaluate(version, reading=False) is not None:
        failure = PreconditionFailed("the bytes are not those of the condition")
        await leases.release(claim, reason=str(failure))
        raise failure
