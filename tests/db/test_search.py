"""Search in the catalogue: what is found, by whom, and that pages fit together."""

from __future__ import annotations

import fnmatch
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.db import search
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.searches import Conditions, Glob, Position
from pyvospace.model.stored import Changes
from pyvospace.model.vocabulary import NodeType
from tests.db.world import OPEN, READERS, World

PRIVATE = Changes(public=False)
EVERYTHING = Conditions()


async def find(
    world: World,
    where: str = "top",
    who: str = "stranger",
    what: Conditions = EVERYTHING,
    size: tuple[int, int] = (100, 100),
) -> list[str]:
    """Give the paths below a container that a search finds, page after page."""
    caller, container = await world.caller(who), await world.node(where)
    found, after = [], Position()
    while True:
        page = await search.page(world.database, caller, container.id, what, after, limit=size[0], examine=size[1])
        found += ["/".join((*hit.way, hit.node.name)) for hit in page.hits]
        if page.after is None:
            return found
        assert Position.parse(str(page.after)) == page.after
        after = page.after


@pytest.fixture
async def tree(world: World) -> World:
    """A tree with a branch that only readers may read, and one that nobody else may."""
    await world.add("top")
    for name, changes in (("open", OPEN), ("group", Changes(public=False, group_read=(READERS,))), ("shut", PRIVATE)):
        await world.add(f"top/{name}", changes=changes)
        await world.add(f"top/{name}/inner")
        for leaf in ("a.fits", "b.txt"):
            await world.add(f"top/{name}/inner/{leaf}", NodeType.DATA)
        await world.add(f"top/{name}/hidden.fits", NodeType.DATA, PRIVATE)
    await world.add("top/empty")
    await world.add("top/z.fits", NodeType.DATA)
    await world.add("topmost")
    await world.add("topmost/foreign.fits", NodeType.DATA)
    return world


OPEN_PART = {"top/open", "top/empty", "top/z.fits", "top/open/inner", "top/open/inner/a.fits", "top/open/inner/b.txt"}
GROUP_PART = {"top/group", "top/group/inner", "top/group/inner/a.fits", "top/group/inner/b.txt"}


@pytest.mark.parametrize("size", [(100, 100), (1, 100), (100, 1), (2, 3)])
async def test_everybody_finds_what_he_may_read(tree: World, size: tuple[int, int]) -> None:
    """Each node once, with any pages; nothing of what may not be read, nor below it."""
    for who in ("stranger", "anonymous"):
        found = await find(tree, who=who, size=size)
        assert sorted(found) == sorted(OPEN_PART)
    assert sorted(await find(tree, who="reader", size=size)) == sorted(OPEN_PART | GROUP_PART)
    assert len(await find(tree, who="admin", size=size)) == 17
    assert await find(tree, "top/shut", size=size) == []
    assert await find(tree, "top/shut/inner", size=size) == []


async def test_what_may_not_be_read_takes_no_steps(tree: World) -> None:
    """The number of pages does not depend on what is in a container that the caller may not read."""

    async def steps() -> list[Position | None]:
        caller, top, after = await tree.caller("stranger"), await tree.node("top"), Position()
        seen: list[Position | None] = []
        while True:
            page = await search.page(tree.database, caller, top.id, EVERYTHING, after, limit=1, examine=1)
            seen.append(page.after)
            if page.after is None:
                return seen
            after = page.after

    before = await steps()
    for number in range(5):
        await tree.add(f"top/shut/more {number}")
        await tree.add(f"top/shut/more {number}/leaf", NodeType.DATA)
    assert await steps() == before


async def test_conditions(tree: World) -> None:
    async def names(what: Conditions, who: str = "admin") -> set[str]:
        return {path.removeprefix("top/") for path in await find(tree, what=what, who=who)}

    await tree.add("top/100%_x", NodeType.DATA, Changes(public=True, properties={"ivo://x/p#q": "r*s", "quality": "1"}))
    assert await names(Conditions(name=Glob("100%_*"))) == {"100%_x"}
    assert await names(Conditions(name=Glob("100%_"))) == set()
    assert await names(Conditions(name=Glob("[a-b].*")), "stranger") == {"open/inner/a.fits", "open/inner/b.txt"}
    assert await names(Conditions(name=Glob("[!a].*"), types=(NodeType.DATA,)), "stranger") == {
        "open/inner/b.txt",
        "z.fits",
    }
    assert await names(Conditions(name=Glob("?pen"))) == {"open"}
    assert await names(Conditions(owner="nobody at all")) == set()
    assert await names(Conditions(owner="owner", types=(NodeType.LINK,))) == set()
    assert await names(Conditions(properties=(("ivo://x/p#q", None),))) == {"100%_x"}
    assert await names(Conditions(properties=(("ivo://x/p#q", Glob("r[*]s")), ("quality", Glob("?"))))) == {"100%_x"}
    assert await names(Conditions(properties=(("ivo://x/p#q", Glob("r")),))) == set()


async def test_changes_between_pages(tree: World) -> None:
    """What stays where it is comes exactly once, though containers come, go and move."""
    caller, top = await tree.caller("admin"), await tree.node("top")
    found: list[str] = []
    after: Position | None = Position()
    moves = iter((("top/group", "top/empty", "g"), ("top/empty/g", "top", "group"), ("top/shut", "home", "s")))
    while after is not None:
        page = await search.page(tree.database, caller, top.id, EVERYTHING, after, limit=2, examine=3)
        found += ["/".join((*hit.way, hit.node.name)) for hit in page.hits]
        after = page.after
        if move := next(moves, None):
            await tree.move(*move)
    assert [path for path in found if path in OPEN_PART] == list(dict.fromkeys(p for p in found if p in OPEN_PART))
    assert set(found) >= OPEN_PART


@given(st.text(max_size=20) | st.from_regex(r"[A-Za-z0-9_=-]{0,20}", fullmatch=True))
def test_positions_are_looked_at(text: str) -> None:
    """What is taken for a position can stand in a statement, whoever made it up."""
    try:
        position = Position.parse(text)
    except InvalidArgument:
        return
    assert Position.parse(str(position)) == position


@given(st.text("ab[]!-*?\\%_", max_size=12), st.text("ab[]!-*?\\%_", max_size=12))
def test_globs_are_those_of_shells(pattern: str, text: str) -> None:
    """What PostgreSQL is asked for holds all that fits, and `fits` takes the rest away."""
    glob = Glob(pattern)
    fits = fnmatch.fnmatchcase(text, pattern)
    assert (_like(glob.like, text) and glob.fits(text)) == fits
    assert not fits or text.startswith(glob.literal)


@cache
def _like(pattern: str, text: str) -> bool:
    """Say what LIKE says."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(_like(pattern[1:], text[skipped:]) for skipped in range(len(text) + 1))
    plain = pattern[1] if pattern[0] == "\\" else pattern[0]
    rest = pattern[2:] if pattern[0] == "\\" else pattern[1:]
    return bool(text) and (pattern[0] == "_" or text[0] == plain) and _like(rest, text[1:])
