"""Patterns in the names of files and nodes: ``*`` for a part of a name, ``**`` for any number of folders."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from pyvospace.cli.session import Place, Session, fits
from pyvospace.client.locations import is_uri
from pyvospace.model.faults import NodeNotFound
from pyvospace.model.vocabulary import NodeType

_WILD: Final = "*"
_DEEP: Final = "**"


def matching_files(text: str) -> Sequence[str]:
    """Give the files that a path names; one that is there is meant, whatever its name looks like.

    Raises
    ------
    FileNotFoundError
        Nothing fits a pattern.
    """
    if _WILD not in text or os.path.lexists(text):
        return [text]
    pattern = glob.escape(text).replace("[*]", _WILD)
    found = sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207 (absolute ones too, and as they were written)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no file is called that", text)
    return found


async def matching_nodes(session: Session, text: str) -> list[Place]:
    """Give the nodes that a URI names, by name; a star that is meant as such is written %2A.

    Names that begin with a dot are found only if their pattern does so too. Links are not gone into.

    Raises
    ------
    NodeNotFound
        Nothing fits.
    """
    if _WILD not in text or not is_uri(text):
        return [await session.place(text)]
    whole, patterns = text[: text.index(_WILD)], text[text.index(_WILD) :]
    cut = max(whole.rfind("/"), len("vos:") - 1) + 1
    names = (whole[cut:] + patterns).strip("/").split("/")
    found: dict[Place, None] = {}
    async with aclosing(_fitting(await session.place(whole[:cut]), names)) as places:
        async for place in places:
            found[place] = None
    if not found:
        raise NodeNotFound(f"{text}: nothing is called that")
    return list(found)


async def _fitting(container: Place, names: Sequence[str]) -> AsyncGenerator[Place]:
    """Give what fits below a container."""
    name, *rest = names
    if name == _DEEP and rest:
        async with aclosing(_fitting(container, rest)) as places:
            async for place in places:
                yield place
    async with aclosing(container.space.entries(container.uri)) as children:
        async for child in children:
            if not fits(child.name, _WILD if name == _DEEP else name):
                continue
            place = Place(container.space, container.uri.child(child.name))
            if not rest:
                yield place
            elif child.type is NodeType.CONTAINER:
                async with aclosing(_fitting(place, names if name == _DEEP else rest)) as below:
                    async for one in below:
                        yield one
