"""What pack and unpack do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

from pyvospace.cli.byte_actions import STREAM, standard_input
from pyvospace.cli.display import Display
from pyvospace.cli.session import Place, Session
from pyvospace.client import ServiceUnreachable
from pyvospace.model.archives import FORMATS, TAR, TAR_GZ, ArchiveFormat
from pyvospace.model.faults import Fault, InvalidArgument
from pyvospace.model.vocabulary import Detail

_SUFFIXES: Final = {".tgz": TAR_GZ, **{one.suffix: one for one in FORMATS}}


async def pack(session: Session, uris: Sequence[str], archive: str, *, form: str | None, quiet: bool) -> None:
    """Fetch nodes as an archive."""
    chosen = _format(archive, form)
    places = [place for one in uris for place in await session.places(one)]
    space = places[0].space
    if any(place.space is not space for place in places):
        raise InvalidArgument("the nodes of one archive must be in one space")
    nodes = [place.uri for place in places]
    with Display(session, quiet=quiet) as display, display.file(archive) as progress:
        if archive == STREAM:
            sys.stdout.flush()
            await space.pull_archive(nodes, sys.stdout.buffer, chosen, progress=progress)
            sys.stdout.buffer.flush()
        else:
            await space.pull_archive(nodes, Path(archive), chosen, progress=progress)


async def unpack(session: Session, archive: str, uri: str, *, form: str | None, quiet: bool) -> None:
    """Bring an archive to a container."""
    chosen = _format(archive, form)
    source = standard_input() if archive == STREAM else Path(archive)
    if isinstance(source, Path):
        with source.open("rb"):  # or fail before anything is made
            pass
    place = await session.place(uri)
    made = await place.space.ensure_container(place.uri)
    try:
        with Display(session, quiet=quiet) as display, display.file(archive) as progress:
            await place.space.push_archive(source, place.uri, chosen, progress=progress)
    except ServiceUnreachable:  # the archive may still be unpacked
        raise
    except (Fault, OSError):
        if made:
            await _remove_empty(place)
        raise


async def _remove_empty(place: Place) -> None:
    with suppress(Fault):
        async with aclosing(place.space.list(place.uri, detail=Detail.MIN)) as children:
            async for _ in children:
                return
        await place.space.delete_node(place.uri)


def format_named(name: str) -> ArchiveFormat:
    """Find a format by the name that people call it."""
    chosen = next((one for one in FORMATS if one.suffix == f".{name}"), None)
    if chosen is None:
        raise InvalidArgument(f"--format {name}: there are {', '.join(one.suffix[1:] for one in FORMATS)}")
    return chosen


def _format(archive: str, form: str | None) -> ArchiveFormat:
    """Choose the format by its name, else by the name of the archive; without any it is tar."""
    if form is not None:
        return format_named(form)
    if archive == STREAM:
        return TAR
    for suffix, known in _SUFFIXES.items():
        if archive.lower().endswith(suffix):
            return known
    raise InvalidArgument(f"{archive}: the name says no format; call it .tar, .tar.gz or .zip, or use --format")
