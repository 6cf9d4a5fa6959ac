"""What share does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pyvospace.cli.archive_actions import format_named
from pyvospace.cli.node_actions import write_line
from pyvospace.cli.quantities import read_duration
from pyvospace.cli.session import Place, Session, complain
from pyvospace.client import Share
from pyvospace.model.archives import ZIP
from pyvospace.model.faults import InvalidArgument, NotFound
from pyvospace.model.instants import write_instant
from pyvospace.model.uris import same_node
from pyvospace.model.vocabulary import Detail, NodeType


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be done, as it was written."""

    life: str | None
    form: str | None
    show: bool
    revoke: bool


async def share(session: Session, uris: Sequence[str], asked: Asked, *, as_json: bool) -> None:
    """Make shares, list or revoke them."""
    if not (uris or asked.show):
        raise InvalidArgument("name a node, or use --list")
    if asked.show:
        await _list(session, uris, as_json=as_json)
        return
    for text in uris:
        with session.excused():
            for place in await session.places(text):
                with session.excused(place.uri):
                    if asked.revoke:
                        await _revoke(place)
                    else:
                        made = await _make(place, asked)
                        write_line(_json_line(made) if as_json else made.url)
                        await _tell_end(place, made)


async def _make(place: Place, asked: Asked) -> Share:
    life = None if asked.life is None else read_duration(asked.life)
    form = None if asked.form is None else format_named(asked.form)
    node = await place.space.follow(await place.space.get_node(place.uri, detail=Detail.MIN))
    if node.type is not NodeType.CONTAINER and form is not None:
        raise InvalidArgument(f"{place.uri} is no container and is shared as it is, without --format")
    if node.type is NodeType.CONTAINER and form is None:
        form = ZIP
    return await place.space.share(node.uri, life=life, form=form)


async def _tell_end(place: Place, made: Share) -> None:
    """Say beside the result until when it holds: the service may allow less than was asked for."""
    end = (await place.space.job(made.job)).quote
    complain(
        f"{made.target} is shared until {write_instant(end) if end else 'its job ends; the service does not say when'}"
    )


async def _list(session: Session, uris: Sequence[str], *, as_json: bool) -> None:
    places = [await session.place(text) for text in uris]
    spaces = dict.fromkeys(place.space for place in places) or [await session.space()]
    for one in [one for space in spaces for one in await space.shares()]:
        if not places or any(same_node(one.target, place.uri) for place in places):
            write_line(_json_line(one) if as_json else f"{one.target}\t{one.url}")


async def _revoke(place: Place) -> None:
    node = await place.space.find(place.uri)
    uri = place.uri if node is None else node.uri
    found = [one for one in await place.space.shares() if same_node(one.target, uri)]
    if not found:
        raise NotFound(f"{uri} is not shared, or was not shared by you in this way")
    for one in found:
        await place.space.abort(one.job)


def _json_line(one: Share) -> str:
    return json.dumps(asdict(one), ensure_ascii=False)
