"""Copies of whole folders."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pyvospace.client import ServiceUnreachable, Space
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.trees import Copier
from pyvospace.model.faults import ChecksumMismatch, Fault, InvalidData
from pyvospace.model.nodes import Node
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import TYPE, NodeType
from pyvospace.wire.nodes import render_node
from tests.client.double import ROOT, Double, answers


class Notes:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.copies: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.failures: dict[str, Fault | OSError] = {}
        self.most = 0
        self._now = 0

    @contextmanager
    def file(self, name: str) -> Iterator[Progress]:
        self._now += 1
        self.most = max(self.most, self._now)
        self.files.append(name)
        yield SILENT
        self._now -= 1

    def copied(self, source: object, target: object) -> None:
        self.copies[str(source)] = str(target)

    def kept(self, target: object, why: str) -> None:
        self.left_out[str(target)] = why

    def skipped(self, what: object, why: str) -> None:
        self.left_out[str(what)] = why

    def failed(self, what: object, error: Fault | OSError) -> None:
        self.failures[str(what)] = error


def tree(folder: Path) -> dict[str, bytes | None]:
    """Give all files and folders by their relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    for name in ("", "a", "a/b", "a/empty", "ünï çødé"):
        (top / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            if name != "a/empty":
                (top / name / f"{number}.fits").write_bytes(os.urandom(number * 1000))
    return top


async def test_there_and_back(space: Space, folder: NodeUri, source: Path, tmp_path: Path) -> None:
    notes = Notes()
    async with Copier(notes, parallel=3) as copier:
        await copier.push_tree(space, source, folder.child("copy"))
    assert copier.failure is None
    assert (await space.get_node(folder.child("copy").child("1.fits"))).value(TYPE) == "application/fits"
    async with Copier(notes, parallel=3) as copier:
        await copier.pull_tree(space, folder.child("copy"), tmp_path / "back")
    assert tree(tmp_path / "back") == tree(source)
    assert notes.failures == {}
    assert 1 < notes.most <= 3
    assert len(notes.files) == 2 * 16


async def test_a_second_copy_replaces_files_and_uses_folders(
    space: Space, folder: NodeUri, source: Path, tmp_path: Path
) -> None:
    for content in (b"first", b"second"):
        (source / "a" / "0.fits").write_bytes(content)
        async with Copier(Notes()) as copier:
            await copier.push_tree(space, source, folder)
        async with Copier(Notes()) as copier:
            await copier.pull_tree(space, folder, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(source)


async def test_links_and_special_files_are_left_out(
    space: Space, folder: NodeUri, source: Path, tmp_path: Path
) -> None:
    (source / "link").symlink_to("a")
    (source / "dangling").symlink_to("nowhere")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(source / "socket"))
        notes = Notes()
        async with Copier(notes) as copier:
            await copier.push_tree(space, source, folder)
    assert set(notes.left_out) == {str(source / name) for name in ("link", "dangling", "pipe", "socket")}
    assert copier.failure is None
    await space.link("vos:/", folder.child("link"))
    async with Copier(notes) as copier:
        await copier.pull_tree(space, folder, tmp_path / "back")
    assert str(folder.child("link")) in notes.left_out
    assert "link" not in tree(tmp_path / "back")


async def test_names_that_no_node_can_have(space: Space, folder: NodeUri, source: Path) -> None:
    bad = [b"\xff.fits", b"a\nb", b".null", b".auto"]
    for name in bad:
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(b"")
    notes = Notes()
    async with Copier(notes) as copier:
        await copier.push_tree(space, source, folder)
    assert len(notes.failures) == len(bad)
    assert copier.failure is not None
    assert len(notes.files) == 16


async def test_a_failure_does_not_end_the_rest(space: Space, folder: NodeUri, source: Path, tmp_path: Path) -> None:
    await space.ensure_container(folder.child("1.fits"))
    await space.push(b"", folder.child("a"))
    notes = Notes()
    async with Copier(notes) as copier:
        await copier.push_tree(space, source, folder)
    assert {source / "1.fits", source / "a"} == {Path(what) for what in notes.failures}
    assert {child.uri.name async for child in space.list(folder)} >= {"0.fits", "2.fits", "3.fits", "ünï çødé"}
    back = tmp_path / "back"
    (back / "0.fits").mkdir(parents=True)
    async with Copier(notes) as copier:
        await copier.pull_tree(space, folder, back)
    assert isinstance(copier.failure, OSError)
    assert (back / "2.fits").read_bytes() == (source / "2.fits").read_bytes()


async def test_no_link_leads_a_download_astray(space: Space, folder: NodeUri, source: Path, tmp_path: Path) -> None:
    async with Copier(Notes()) as copier:
        await copier.push_tree(space, source, folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"mine")
    back = tmp_path / "back"
    back.mkdir()
    (back / "a").symlink_to(outside)
    (back / "0.fits").symlink_to(outside / "victim")
    notes = Notes()
    async with Copier(notes) as copier:
        await copier.pull_tree(space, folder, back)
    assert tree(outside) == {"victim": b"mine"}
    assert set(notes.failures) == {str(folder.child("a"))}
    assert (back / "0.fits").read_bytes() == (source / "0.fits").read_bytes()


@pytest.mark.parametrize(
    "uri",
    [
        "vos://double~space/box/..",
        "vos://double~space/box/../victim",
        "vos://double~space/box/%2e%2e/victim",
        "vos://double~space/box/..%2Fvictim",
        "vos://double~space/box/%2Fetc%2Fpasswd",
        "vos://double~space/box/.",
        "vos://double~space/",
    ],
)
@pytest.mark.parametrize("kind", [NodeType.DATA, NodeType.CONTAINER])
async def test_a_hostile_listing_writes_nothing_elsewhere(
    double: Double, tmp_path: Path, uri: str, kind: NodeType
) -> None:
    box = ROOT.child("box")
    body = render_node(Node(box, NodeType.CONTAINER, nodes=(Node(box.child("NAME"), kind),)))
    target = tmp_path / "deep" / "target"
    target.parent.mkdir()
    notes = Notes()
    async with double.space() as space:
        await space.authority()
        double.service.plan = [answers(200, body.replace(str(box.child("NAME")).encode(), uri.encode()).decode())]
        async with Copier(notes) as copier:
            await copier.pull_tree(space, box, target)
    assert tree(tmp_path) == {"deep": None, "deep/target": None}
    assert isinstance(copier.failure, InvalidData)


async def test_a_child_from_elsewhere_stays_in_the_target(double: Double, tmp_path: Path) -> None:
    box = ROOT.child("box")
    double.nodes["box"] = Node(box, NodeType.CONTAINER, nodes=(Node(NodeUri("evil", ("a", "b", "x")), NodeType.DATA),))
    double.content = b"bytes"
    async with double.space() as space, Copier(Notes()) as copier:
        await copier.pull_tree(space, box, tmp_path / "target")
    assert tree(tmp_path) == {"target": None, "target/x": b"bytes"}
    assert b"vos://double~space/box/x" in double.service.of("POST")[0].body


async def test_containers_without_end_end(double: Double, tmp_path: Path) -> None:
    async def abyss(request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/nodes"):
            return await double._serve(request)
        here = NodeUri(ROOT.authority, tuple(request.path.removeprefix("/nodes").strip("/").split("/")))
        node = Node(here, NodeType.CONTAINER, nodes=(Node(here.child("d"), NodeType.CONTAINER),))
        return web.Response(body=render_node(node), content_type="text/xml")

    double.service.usual = abyss
    async with double.space(authority=ROOT.authority) as space, Copier(Notes()) as copier:
        await copier.pull_tree(space, ROOT.child("d"), tmp_path / "d")
    assert copier.failure is not None


async def test_without_the_service_all_ends(double: Double, source: Path) -> None:
    notes = Notes()
    async with double.space() as space:
        await space.authority()
        double.storage.usual = answers(502)
        with pytest.raises(ServiceUnreachable):
            async with Copier(notes, parallel=2) as copier:
                await copier.push_tree(space, source, ROOT.child("box"))
    assert len(notes.files) <= 4


async def test_a_full_service_ends_all(double: Double, source: Path) -> None:
    async with double.space() as space:
        double.storage.usual = answers(507, "InsufficientStorage")
        with pytest.raises(Fault, match="InsufficientStorage"):
            async with Copier(Notes(), parallel=2) as copier:
                await copier.push_tree(space, source, ROOT.child("box"))


async def test_a_wrong_file_is_one_failure(double: Double, tmp_path: Path) -> None:
    box = ROOT.child("box")
    double.nodes["box"] = Node(box, NodeType.CONTAINER, nodes=(Node(box.child("x"), NodeType.DATA),))

    async def lie(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"other bytes", headers=double.headers())

    double.storage.usual = lie
    async with double.space() as space, Copier(Notes()) as copier:
        await copier.pull_tree(space, box, tmp_path / "target")
    assert isinstance(copier.failure, ChecksumMismatch)
    assert tree(tmp_path) == {"target": None}
