"""Who calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

from pyvospace.model.faults import InvalidArgument, InvalidURI
from pyvospace.model.uris import decode_path, encode_path

_MAX_CREDENTIAL: Final = 300
"""Characters of a credential's name that are kept."""


class TokenRight(StrEnum):
    """What a token can be limited to."""

    READ = "read"
    WRITE = "write"
    """To change bytes, properties and the tree."""
    SHARE = "share"
    """To change who may do what."""
    ADMIN = "admin"
    """To act as the administrator that its user is."""


def _place(path: str) -> tuple[str, ...]:
    if not path.startswith("/"):
        raise InvalidArgument(f"{path[:300]!r} is no place of a token: write it from the root, like /home/alice/data")
    return decode_path(path)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a credential may at most, of what its user may."""

    rights: frozenset[TokenRight]
    paths: tuple[tuple[str, ...], ...] = ((),)
    """The nodes at these places, and all below them."""

    @classmethod
    def parse(cls, paths: Iterable[str], rights: Iterable[str]) -> Self:
        """Read a scope as users write it: paths like ``/home/alice``, percent-encoded; none of them: everywhere.

        Raises
        ------
        InvalidArgument
            A right that is none, no right at all, or a path that is none.
        """
        try:
            wanted = frozenset(TokenRight(right) for right in rights)
            places = tuple(sorted({_place(path) for path in paths}))
        except InvalidURI as error:
            raise InvalidArgument(str(error)) from None
        except ValueError:
            raise InvalidArgument(f"the rights of a token are {', '.join(TokenRight)}") from None
        if not wanted:
            raise InvalidArgument(f"name a right of the token: {', '.join(TokenRight)}")
        return cls(wanted, places or ((),))

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """Read what `pack` gave."""
        return cls.parse(packed["paths"], packed["rights"])

    def pack(self) -> dict[str, list[str]]:
        """Give the JSON of the scope."""
        return {"paths": ["/" + encode_path(path) for path in self.paths], "rights": sorted(self.rights)}

    def covers(self, path: tuple[str, ...]) -> bool:
        """Say whether a node is at one of the places or below it."""
        return any(path[: len(place)] == place for place in self.paths)


class Origin(NamedTuple):
    """Where a request came from, for the audit log."""

    remote: str = ""
    """Address of the client."""
    request: str = ""
    """Id of the request."""
    job: str = ""
    """The job that is at work."""


_NOWHERE: Final = Origin()


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity, as it was at an epoch of the catalogue.

    It may be remembered between requests: whoever decides with it compares the epoch with the catalogue's in the
    same statement, and asks anew if they differ.
    """

    id: int = 0
    """Of the user; 0: anonymous."""
    name: str = ""
    admin: bool = False
    """Acts as an administrator: the user is one, and his credential is not limited to less."""
    groups: tuple[str, ...] = ()
    """URIs of the groups that he belongs to."""
    epoch: int = 0
    """Epoch of the catalogue for which all this holds; without meaning for an anonymous caller."""
    expires: datetime | None = None
    """When the credential ends."""
    token_id: int | None = None
    """The API token with which he came; None: another credential."""
    scope: Scope | None = None
    """None: all that the user may."""
    credential: str = ""
    """How he showed who he is, for the audit log; never a secret."""
    origin: Origin = _NOWHERE
    """Of this very request."""

    @property
    def anonymous(self) -> bool:
        """Say whether nobody is logged in."""
        return self.id == 0

    def coming(self, origin: Origin) -> Caller:
        """Give the same caller with another request: `replace` takes three times as long."""
        return Caller(
            self.id,
            self.name,
            self.admin,
            self.groups,
            self.epoch,
            self.expires,
            self.token_id,
            self.scope,
            self.credential,
            origin,
        )

    @property
    def who(self) -> list[str]:
        """Give what the audit log is told of him besides his id."""
        return [self.name, self.credential[:_MAX_CREDENTIAL], *self.origin]

    @property
    def told(self) -> str:
        """Give the JSON by which triggers of the database know who acts: the setting ``pyvospace.caller``."""
        return json.dumps({"id": self.id, "who": self.who})


ANONYMOUS: Final = Caller()
NOBODY: Final = "anonymous"
"""How he is called where a user is named; no user has this name."""
SERVICE: Final = Caller(credential="service")
"""What the service does by itself, for the audit log."""


def limited(caller: Caller, scope: Scope | None) -> Caller:
    """Give a caller who may no more than `scope`; None: all that the user may."""
    if scope is None:
        return caller
    return replace(caller, scope=scope, admin=caller.admin and TokenRight.ADMIN in scope.rights)


class StaleCallerError(Exception):
    """Users, tokens or groups have changed since the caller was identified: identify him again and start over."""
