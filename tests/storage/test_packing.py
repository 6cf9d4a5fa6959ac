"""Archives being made from what backends and other storages give, while nodes change or go."""

import io
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pyvospace.model.archives import TAR, ZIP, ArchiveFormat, PackClaim, PackedNode, UnpackClaim, Unpacked
from pyvospace.model.claims import EndpointClaims, StoredFile
from pyvospace.model.faults import RequestEntityTooLarge
from pyvospace.model.vocabulary import NodeType
from pyvospace.service.endpoints import EndpointSigner
from pyvospace.storage.archives.packing import Outside, Packer, _Pack
from pyvospace.storage.archives.walking import Walk
from pyvospace.storage.backend import ByteRange, Download, DownloadJob, Redirect
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.testing.rig import Rig, rigged
from tests.support.pair import free_ports
from tests.support.remote import remote

MOMENT = datetime(2024, 1, 2, tzinfo=UTC)
LARGE = bytes(range(256)) * 1000


def node(number: int, name: str, kind: NodeType = NodeType.DATA, stored: StoredFile | None = None) -> PackedNode:
    return PackedNode(
        id=number,
        parent_id=1,
        name=name,
        type=kind,
        size=stored.size if stored else 0,
        modified=MOMENT,
        target=None,
        location=stored.location if stored else None,
        storage=None,
        url=None,
    )


@dataclass
class Tree:
    """An `ArchiveCatalogue` with one container."""

    children_: list[PackedNode] = field(default_factory=list)
    now: dict[int, PackedNode | None] = field(default_factory=dict)
    """What has become of a node since it was listed."""

    async def nodes(self, claim: PackClaim, ids: Sequence[int]) -> list[tuple[PackedNode, tuple[str, ...]]]:
        del claim
        known = {1: node(1, "top", NodeType.CONTAINER)} | {one.id: one for one in self.children_} | self.now
        return [(found, (found.name,)) for one in ids if (found := known[one]) is not None]

    async def children(self, claim: PackClaim, parents: Sequence[int], *, after: str, at_most: int) -> list[PackedNode]:
        del claim, parents
        return [one for one in self.children_ if one.name > after][:at_most]

    async def signing_key(self) -> tuple[str, bytes]:
        return "0" * 16, bytes(32)

    async def claim_pack(self, claims: EndpointClaims) -> PackClaim:
        raise NotImplementedError

    async def delivered(self, claim: PackClaim) -> None:
        raise NotImplementedError

    async def claim_unpack(self, claims: EndpointClaims, *, size: int | None) -> UnpackClaim:
        raise NotImplementedError

    async def unpack(self, claims: EndpointClaims, claim: UnpackClaim, tree: Unpacked) -> None:
        raise NotImplementedError


class Reluctant(PosixBackend):
    """Gives no small files at once, and leads elsewhere for the location that `elsewhere` names."""

    elsewhere: tuple[str, str] = ("", "")

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        return [None] * len(jobs)

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        if job.location == self.elsewhere[0]:
            return Redirect(self.elsewhere[1])
        return await super().download(job, byte_range)


@pytest.fixture(params=[PosixBackend, Reluctant])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(request.param(tmp_path / "store")) as opened:
        yield opened


async def archive(rig: Rig, tree: Tree, wanted: ArchiveFormat = TAR, zip_members: int = 100) -> bytes:
    outside = Outside(EndpointSigner("x", tree.signing_key), idle=5)
    packer = Packer(tree, rig.backend, rig.workers, outside, authority="x", idle=5, zip_members=zip_members)
    claim = PackClaim(job_id="j", user_id=1, format=wanted, nodes=(1,), waiting=True)
    walk = Walk(tree, claim, "x")
    try:
        return b"".join([piece async for piece in _Pack(packer, walk).pieces(await walk.begin())])
    finally:
        await outside.close()


def contents(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        opened = {one.name: tar.extractfile(one) for one in tar if one.isreg()}
        return {name: content.read() for name, content in opened.items() if content is not None}


async def test_nodes_that_change_or_go(rig: Rig) -> None:
    kept, large, old, new = [await rig.put(data, one) for one, data in enumerate((b"kept", LARGE, LARGE * 2, b"n"), 2)]
    tree = Tree([node(2, "kept", stored=kept), node(3, "large", stored=large), node(4, "new", stored=old)])
    tree.children_.append(node(5, "gone", stored=large))
    tree.now = {4: node(4, "new", stored=new), 5: None}
    assert contents(await archive(rig, tree)) == {"top/kept": b"kept", "top/large": LARGE, "top/new": b"n"}


async def test_bytes_that_are_not_there_or_not_whole(rig: Rig) -> None:
    for size in (5, 500_000):
        lost = StoredFile(location=f"abc/{'0' * 32}", size=size, md5=b"", sha256=b"", content_type=None)
        with pytest.raises(OSError, match="abc"):
            await archive(rig, Tree([node(2, "lost", stored=lost)]))
        short = replace(await rig.put(LARGE, 3), size=size)
        with pytest.raises(OSError, match="damaged"):
            await archive(rig, Tree([node(3, "short", stored=short)]))


async def test_zip_has_a_limit(rig: Rig) -> None:
    tree = Tree([node(number, f"{number:03}") for number in range(2, 12)])
    with pytest.raises(RequestEntityTooLarge):
        await archive(rig, tree, ZIP, 10)
    assert await archive(rig, tree, ZIP, 11)


async def test_archive_that_is_too_large_is_no_defect(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    class Claimed(Tree):
        async def claim_pack(self, claims: EndpointClaims) -> PackClaim:
            return PackClaim(job_id="j", user_id=claims.user_id, format=ZIP, nodes=(1,), waiting=True)

    tree = Claimed([node(number, f"{number:03}") for number in range(2, 12)])
    outside = Outside(EndpointSigner("x", tree.signing_key), idle=5)
    packer = Packer(tree, rig.backend, rig.workers, outside, authority="x", idle=5, zip_members=10)
    claims = EndpointClaims(operation="pack", node_id=1, job_id="j", user_id=1, expires=MOMENT)

    async def pack(request: web.Request) -> web.StreamResponse:
        return (await packer.answer(request, claims))[0]

    async with remote(pack) as server, aiohttp.ClientSession() as session, session.get(server.make_url("/")) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert not [one for one in caplog.records if one.name.startswith("pyvospace") and one.exc_info]


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[str]:
    """Serve some bytes."""

    async def get(_: web.Request) -> web.Response:
        return web.Response(body=data)

    app = web.Application()
    app.router.add_get("/{any:.*}", get)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_bytes_elsewhere(rig: Rig) -> None:
    stored = await rig.put(b"here", 2)
    async with answering(b"there") as url:
        far = node(3, "far", stored=replace(stored, size=5))._replace(storage="s", url=url)
        assert contents(await archive(rig, Tree([far]))) == {"top/far": b"there"}
        with pytest.raises(Exception, match="elsewhere"):
            await archive(rig, Tree([far._replace(size=6)]))
        if isinstance(rig.backend, Reluctant):
            rig.backend.elsewhere = (stored.location, f"{url}/x")
            led = node(2, "led", stored=replace(stored, size=5))
            assert contents(await archive(rig, Tree([led]))) == {"top/led": b"there"}
