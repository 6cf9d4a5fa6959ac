"""Who am I: what the service knows of a caller, and what he has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pyvospace.db import administration, groups, identities
from pyvospace.db.groups import Membership
from pyvospace.server.administration.quotas import Quota, quota_of_user
from pyvospace.server.administration.routes import Needs, Route
from pyvospace.server.administration.users import Identity, identity
from pyvospace.server.operations import homes

if TYPE_CHECKING:
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context

_JOBS = ("transfers", "searches", "async-delete", "async-setprops")


@dataclass(frozen=True, slots=True)
class Credential:
    """How the caller has shown who he is."""

    kind: str
    """Such as ``token 12 laptop``; never a secret."""
    token: int | None
    """Number of the API token; None: it is another credential."""
    expires: datetime | None
    paths: list[str] | None
    """It is good for these nodes and all below them; None: everywhere."""
    rights: list[str] | None
    """None: all that the user may."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user is told of himself; by a credential that is limited only the first two."""

    name: str
    credential: Credential
    admin: bool | None = None
    identities: list[Identity] | None = None
    """Under which names others know him."""
    groups: list[Membership] | None = None
    quota: Quota | None = None
    """What he owns, and how much that may be."""
    home: str | None = None
    """URI of his home; None: he has none."""
    links: dict[str, str] | None = None
    """Where his tokens, groups and jobs are."""
    jobs_waiting: int | None = None


def _credential(context: Context) -> Credential:
    caller = context.caller
    packed = caller.scope.pack() if caller.scope else None
    limits = (packed["paths"], packed["rights"]) if packed else (None, None)
    return Credential(caller.credential, caller.token_id, caller.expires, *limits)


async def get_profile(context: Context, _asked: Asked) -> Profile:
    """Tell the caller who he is."""
    caller, database = context.caller, context.database
    if caller.scope is not None:
        return Profile(caller.name, _credential(context))
    base = context.service.url
    home = await homes.find(context, caller.name)
    return Profile(
        caller.name,
        _credential(context),
        admin=caller.admin,
        identities=[identity(row) for row in await identities.identities(database, caller.name)],
        groups=await groups.of_user(database, caller.id),
        quota=await quota_of_user(context, caller.id),
        home=str(home) if home else None,
        links={
            "tokens": f"{base}/profile/tokens",
            "groups": f"{base}/groups",
            **{name: f"{base}/{name}" for name in _JOBS},
        },
        jobs_waiting=await administration.waiting_jobs(database, caller.id),
    )


ROUTES = (Route("GET", "/profile", get_profile, Profile, needs=Needs.ANY_TOKEN),)
