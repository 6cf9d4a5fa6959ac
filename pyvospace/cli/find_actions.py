"""What find does."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from pyvospace.cli.listing_actions import Look
from pyvospace.cli.node_actions import property_uri, write_line
from pyvospace.cli.quantities import read_date, read_size
from pyvospace.cli.session import Session
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.searches import Conditions, Glob, Span
from pyvospace.model.vocabulary import NodeType

_TYPES: Final = {"file": NodeType.DATA, "folder": NodeType.CONTAINER, "link": NodeType.LINK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What nodes are to be like, as it was written; None: they may be anything."""

    name: str | None
    kind: str | None
    owner: str | None
    larger: str | None
    smaller: str | None
    newer: str | None
    older: str | None
    properties: tuple[str, ...]
    limit: int | None

    def conditions(self) -> Conditions:
        """Read it.

        Raises
        ------
        InvalidArgument
            Something makes no sense.
        """
        return Conditions(
            name=Glob(self.name) if self.name is not None else None,
            types=() if self.kind is None else (_type(self.kind),),
            owner=self.owner,
            spans={
                "size": Span(*(None if text is None else read_size(text) for text in (self.larger, self.smaller))),
                "date": Span(*(None if text is None else read_date(text) for text in (self.newer, self.older))),
            },
            properties=tuple(_property(text) for text in self.properties),
        )


def _type(text: str) -> NodeType:
    if text not in _TYPES:
        raise InvalidArgument(f"--type {text}: there are {', '.join(_TYPES)}")
    return _TYPES[text]


def _property(text: str) -> tuple[str, Glob | None]:
    name, equals, pattern = text.partition("=")
    return property_uri(name), Glob(pattern) if equals else None


async def find(session: Session, uri: str, asked: Asked, look: Look) -> None:
    """List the nodes below a container that are as asked."""
    place = await session.place(uri)
    found = place.space.search(place.uri, asked.conditions(), detail=look.detail, limit=asked.limit)
    async with aclosing(found) as nodes:
        async for node in nodes:
            write_line(look.line(node, str(node.uri)))
