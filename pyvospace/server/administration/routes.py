"""A resource of JSON: what it takes, what it gives, and how a request becomes a call of its operation."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pyvospace.db import identities
from pyvospace.model.faults import InvalidArgument, NotAuthenticated, NotFound
from pyvospace.model.instants import write_instant

if TYPE_CHECKING:
    from pyvospace.server.context import Context

T = TypeVar("T")

_PLACE: Final = re.compile(r"\{(\w+)\}")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,1000}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_USUAL: Final = 100
_LARGEST: Final = 1000

Text = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class Body(BaseModel):
    """What a request brings along: JSON with these members and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of a list."""

    items: Sequence[T]
    next: str | None
    """What `after` has to be for the page behind it; None: there is none."""


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """What was made by this request, in contrast to what was there."""

    value: T


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read."""

    names: Mapping[str, str] = field(default_factory=dict)
    """What stands in the places of the path."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """Of the class that the route names."""

    def number(self, name: str) -> int:
        """Give a number of the path.

        Raises
        ------
        NotFound
            It is none.
        """
        if not _NUMBER.fullmatch(self.names[name]):
            raise NotFound(f"{name}: {self.names[name][:80]!r} is no number")
        return int(self.names[name])

    @property
    def limit(self) -> int:
        """How many items a page may have."""
        text = self.query.get("limit", str(_USUAL))
        if not _NUMBER.fullmatch(text) or not 0 < int(text) <= _LARGEST:
            raise InvalidArgument(f"limit: {text[:80]!r} is no number from 1 to {_LARGEST}")
        return int(text)

    @property
    def after(self) -> str:
        """Behind which item a page begins."""
        return self.query.get("after", "")

    @property
    def after_number(self) -> int:
        """The same where items have numbers."""
        if self.after and not _NUMBER.fullmatch(self.after):
            raise InvalidArgument(f"after: {self.after[:80]!r} is no number")
        return int(self.after or 0)


def listed(items: Sequence[T], limit: int, key: Callable[[T], object]) -> Listed[T]:
    """Make a page of up to `limit` items that were found."""
    return Listed(items, str(key(items[-1])) if items and len(items) == limit else None)


class Needs(Enum):
    """Who may use a resource."""

    ADMINISTRATOR = auto()
    USER = auto()
    """Whoever is logged in, with a credential that is not limited; the operation decides about the rest."""
    ANY_TOKEN = auto()
    """Whoever is logged in."""


Work = Callable[["Context", Asked], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method of a resource."""

    method: str
    path: str
    """With places for names: ``/admin/users/{user}``."""
    work: Work
    """Its operation. Gives None (204), something `Made` (201) or something else (200)."""
    answer: object = None
    """Type of what it gives."""
    body: type[Body] | None = None
    query: tuple[str, ...] = ()
    needs: Needs = Needs.ADMINISTRATOR

    @property
    def places(self) -> list[str]:
        """Name the places of the path."""
        return _PLACE.findall(self.path)


LIST: Final = ("limit", "after")
"""Parameters of a list."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request comes to."""

    status: HTTPStatus
    value: Any = None
    """What can be written as JSON."""


async def serve(
    context: Context,
    route: Route,
    *,
    names: Mapping[str, str],
    query: Mapping[str, Sequence[str]],
    body: Callable[[], Awaitable[bytes]],
) -> Answer:
    """Decide whether the caller may, read what he asks for, and do it.

    Raises
    ------
    Fault
        He may not, it is not well said, or it cannot be done.
    """
    context.policy.check_epoch(await identities.epoch(context.database))
    _require(context, route.needs)
    asked = Asked(_names(names), _query(route, query), await _body(route, body))
    value = await route.work(context, asked)
    if value is None:
        return Answer(HTTPStatus.NO_CONTENT)
    if isinstance(value, Made):
        return Answer(HTTPStatus.CREATED, _plain(value.value))
    return Answer(HTTPStatus.OK, _plain(value))


def _plain(value: Any) -> Any:
    """Make what JSON can hold of rows."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return write_instant(value) if isinstance(value, datetime) else value


def _require(context: Context, needs: Needs) -> None:
    if needs is Needs.ADMINISTRATOR:
        context.policy.require_admin()
        return
    if context.caller.anonymous:
        raise NotAuthenticated("log in")
    if needs is Needs.USER:
        context.policy.require_whole()


def _names(names: Mapping[str, str]) -> Mapping[str, str]:
    for place, name in names.items():
        if not _NAME.fullmatch(name):
            raise NotFound(f"there is no {place} of that name")
    return names


def _query(route: Route, query: Mapping[str, Sequence[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, values in query.items():
        if name not in route.query:
            known = f"; there are {', '.join(route.query)}" if route.query else ""
            raise InvalidArgument(f"{name[:80]!r} is no parameter here{known}")
        if len(values) > 1:
            raise InvalidArgument(f"{name} is given {len(values)} times")
        if values[0] and not _NAME.fullmatch(values[0]):
            raise InvalidArgument(f"{name}: {values[0][:80]!r} cannot be")
        found[name] = values[0]
    return found


async def _body(route: Route, body: Callable[[], Awaitable[bytes]]) -> Body | None:
    if route.body is None:
        return None
    try:
        return route.body.model_validate_json(await body() or b"{}")
    except ValidationError as error:
        raise InvalidArgument(_words(error, route.body)) from None


def _words(error: ValidationError, body: type[Body]) -> str:
    """Say what is wrong with a body: what is unknown first, since it may be what is missing elsewhere, misspelt."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    first = min(found, key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part)[:80] for part in first["loc"])
    if first["type"] == "json_invalid":
        return "the body is no JSON"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown; there are {', '.join(body.model_fields)}"
    return f"{where or 'body'}: {first['msg'].removeprefix('Value error, ')}"
