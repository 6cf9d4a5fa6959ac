"""The operations, against a real pair."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from pyvospace.client import Space
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    InvalidURI,
    NodeNotFound,
    NotAuthenticated,
    PermissionDenied,
    RangeNotSatisfiable,
    UnreadableLinkTarget,
)
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import CORE, LENGTH, MD5, TYPE, Detail, NodeType
from tests.support.pair import Pair

NAMES = (
    "plain.fits",
    "a b",
    "ünï çødé ☄",
    "%41",
    "100%",
    "a\\b",
    "*",
    "?#&+;=,:@!$'()~",
    '"<&>',
    " leading and trailing ",
    ".hidden",
    "...",
    "-r",
    "x" * 255,
    "☄" * 85,
)
TITLE = CORE + "title"


async def names(space: Space, uri: NodeUri) -> list[str]:
    return [child.uri.name async for child in space.list(uri)]


async def test_where_things_are(space: Space, pair: Pair) -> None:
    async with Space(pair.url, token=pair.token) as other:
        assert await other.authority() == pair.authority
        assert await other.uri("vos:/a/b") == NodeUri(pair.authority, ("a", "b"))
    assert await space.uri("vos:x") == await space.uri(pair.uri("x"))
    assert (await space.get_node("vos:")).uri == await space.uri(f"vos:{pair.home}")
    with pytest.raises(InvalidURI, match="is not of the space"):
        await space.get_node("vos://elsewhere/x")


@pytest.mark.parametrize("name", NAMES)
async def test_any_name(space: Space, folder: NodeUri, tmp_path: Path, name: str) -> None:
    uri = folder.child(name)
    await space.push(name.encode(), uri)
    assert await names(space, folder) == [name]
    assert (await space.get_node(uri)).uri == uri
    assert (await space.get_node(str(uri))).uri == uri
    await space.pull(uri, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == name.encode()
    await space.delete_node(uri)
    assert await names(space, folder) == []


async def test_nodes_of_all_types(space: Space, folder: NodeUri) -> None:
    for kind in (NodeType.CONTAINER, NodeType.DATA, NodeType.UNSTRUCTURED, NodeType.STRUCTURED):
        made = await space.create_node(Node(folder.child(kind), kind, (Property(TITLE, "hello & <bye>"),)))
        assert made.type is kind
        assert (await space.get_node(made.uri)).value(TITLE) == "hello & <bye>"
    with pytest.raises(DuplicateNode):
        await space.create_node(Node(folder.child("DataNode"), NodeType.DATA))
    with pytest.raises(ContainerNotFound):
        await space.create_node(Node(folder.child("missing").child("x"), NodeType.DATA))


async def test_properties(space: Space, folder: NodeUri) -> None:
    await space.set_node(
        Node(folder, NodeType.CONTAINER, (Property(TITLE, "first"), Property("ivo://org/props#mine", "")))
    )
    node = await space.get_node(folder)
    assert node.value(TITLE) == "first"
    assert node.value("ivo://org/props#mine") == ""
    assert (await space.get_node(folder, detail=Detail.MIN)).properties == ()
    await space.set_node(Node(folder, NodeType.CONTAINER, (Property(TITLE, None),)))
    node = await space.get_node(folder)
    assert node.value(TITLE) is None
    assert node.value("ivo://org/props#mine") == ""


async def test_children_come_only_if_they_are_wanted(space: Space, folder: NodeUri) -> None:
    for name in "abc":
        await space.create_node(Node(folder.child(name), NodeType.DATA))
    assert (await space.get_node(folder)).nodes == ()
    assert len((await space.get_node(folder, limit=2)).nodes) == 2
    assert len((await space.get_node(folder, limit=None)).nodes) == 3
    assert [child.properties async for child in space.list(folder, detail=Detail.MIN)] == [(), (), ()]


async def test_containers(space: Space, folder: NodeUri) -> None:
    deep = folder.child("a").child("b").child("c")
    with pytest.raises(ContainerNotFound):
        await space.ensure_container(deep)
    await space.ensure_container(deep, parents=True)
    await space.ensure_container(deep, parents=True)
    await space.ensure_container("vos:/")
    await space.ensure_container("vos:/home")
    await space.push(b"", folder.child("file"))
    with pytest.raises(DuplicateNode, match="no container"):
        await space.ensure_container(folder.child("file"))
    with pytest.raises(PermissionDenied):
        await space.ensure_container("vos:/mine")
    await space.delete_node(folder)
    assert await space.find(deep) is None


async def test_links(space: Space, folder: NodeUri) -> None:
    await space.push(b"bytes", folder.child("file"))
    await space.link(folder.child("file"), folder.child("link"))
    await space.link(folder.child("link"), folder.child("second"))
    await space.link("https://example.org/x", folder.child("outside"))
    await space.link(folder.child("loop"), folder.child("loop"))
    link = await space.get_node(folder.child("second"))
    assert (link.type, link.target) == (NodeType.LINK, str(folder.child("link")))
    assert (await space.follow(link)).uri == folder.child("file")
    assert b"".join([piece async for piece in space.read(folder.child("second"))]) == b"bytes"
    for name in ("outside", "loop"):
        with pytest.raises(UnreadableLinkTarget):
            await space.follow(await space.get_node(folder.child(name)))
    await space.delete_node(folder.child("link"))
    assert (await space.get_node(folder.child("file"))).value(LENGTH) == "5"


async def test_bytes_of_all_kinds(space: Space, folder: NodeUri, tmp_path: Path) -> None:
    content = os.urandom((6 << 20) + 5)
    (tmp_path / "big").write_bytes(content)

    async def stream() -> AsyncGenerator[bytes]:
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    uri = folder.child("x")
    for source in (content, tmp_path / "big", io.BytesIO(content), stream()):
        stored = await space.push(source, uri, content_type="application/fits")
        node = await space.get_node(uri)
        assert stored.size == len(content)
        assert node.value(LENGTH) == str(len(content))
        assert node.value(MD5) == hashlib.md5(content).hexdigest() == (stored.digests.md5 or b"").hex()
        assert node.value(TYPE) == "application/fits"
        await space.pull(uri, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        await space.push(b"", uri)
        await space.pull(uri, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b""


async def test_slices(space: Space, folder: NodeUri) -> None:
    content = bytes(range(256)) * 10_000
    uri = folder.child("x")
    await space.push(content, uri)
    for start, stop in ((0, 1), (255, 257), (1_000_000, 2_200_000), (-7, None), (2_559_999, None), (5, 10**9)):
        assert b"".join([piece async for piece in space.read(uri, start=start, stop=stop)]) == content[start:stop]
    with pytest.raises(RangeNotSatisfiable):
        await anext(space.read(uri, start=len(content)))


async def test_a_part_is_continued_with_a_real_server(space: Space, folder: NodeUri, tmp_path: Path) -> None:
    content = os.urandom(5 << 20)
    uri, target = folder.child("x"), tmp_path / "x"
    stored = await space.push(content, uri)
    mark = hashlib.sha256(f'"{(stored.digests.sha256 or b"").hex()}"'.encode()).hexdigest()[:16]
    part = tmp_path / f"x.{mark}.part"
    part.write_bytes(content[: 2 << 20])
    inode = part.stat().st_ino
    await space.pull(uri, target)
    assert target.read_bytes() == content
    assert target.stat().st_ino == inode


async def test_who_may_not(space: Space, pair: Pair, folder: NodeUri) -> None:
    await space.push(b"secret", folder.child("x"))
    async with Space(pair.url) as nobody:
        with pytest.raises(NotAuthenticated):
            await nobody.get_node(folder)
        with pytest.raises(NotAuthenticated):
            await anext(nobody.read(folder.child("x")))
        assert "home" in [child.uri.name async for child in nobody.list("vos:/")]
    async with Space(pair.url, token="wrong") as intruder:
        with pytest.raises(NotAuthenticated):
            await intruder.get_node("vos:/")
    with pytest.raises(PermissionDenied):
        await space.push(b"", "vos:/home/x")
    with pytest.raises(NodeNotFound):
        await anext(space.read(folder.child("y")))


async def test_a_listing_of_many(space: Space, folder: NodeUri) -> None:
    for number in range(520):
        await space.create_node(Node(folder.child(f"{number:04}"), NodeType.DATA))
    assert await names(space, folder) == [f"{number:04}" for number in range(520)]


async def test_the_service_knows_where_home_is(pair: Pair) -> None:
    async with Space(pair.url, token=pair.token) as space:
        assert await space.uri("vos:a%20b") == NodeUri(pair.authority, ("home", pair.user, "a b"))
    async with Space(pair.url) as nobody:
        with pytest.raises(InvalidURI, match="VOSPACE_HOME"):
            await nobody.uri("vos:x")
