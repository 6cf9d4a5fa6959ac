"""Pulls from storage servers that misbehave, and the part files that they leave."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from pathlib import Path

import pytest
from aiohttp import web

from pyvospace.client import ContentChanged, Retry, ServiceUnreachable, download, reader
from pyvospace.client.digests import Digests
from pyvospace.client.parts import Part
from pyvospace.model.faults import ChecksumMismatch, InvalidArgument, NodeNotFound, RangeNotSatisfiable, TransferFailed
from pyvospace.model.ranges import ByteRange, parse_range
from tests.client.double import Double, answers, hangs_up
from tests.client.test_upload import Meter

SIZE = (3 << 20) + 11


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "x.bin"


@pytest.fixture(autouse=True)
def content(double: Double) -> bytes:
    double.content = os.urandom(SIZE)
    return double.content


def parts(target: Path) -> list[Path]:
    return sorted(target.parent.glob("*.part"))


def part_of(double: Double, target: Path, content: bytes) -> Path:
    """Leave a part as an earlier try would have."""
    with Part(target, double.headers()["ETag"]) as part:
        part._write(content)
    [path] = parts(target)
    return path


async def test_a_pull_is_verified_and_leaves_nothing_beside(double: Double, target: Path) -> None:
    meter = Meter()
    async with double.space() as space:
        await space.pull("vos:x", target, progress=meter)
    assert target.read_bytes() == double.content
    assert parts(target) == []
    assert (meter.total, meter.moved) == (SIZE, SIZE)
    assert "Range" not in double.storage.seen[0].headers


async def test_an_empty_file(double: Double, target: Path) -> None:
    double.content = b""
    async with double.space() as space:
        await space.pull("vos:x", target)
        assert target.read_bytes() == b""
        double.storage.plan = [answers(204)]
        await space.pull("vos:x", target)
        assert [piece async for piece in space.read("vos:x")] == []
    assert parts(target) == []


async def test_into_an_open_file_and_as_an_iterator(double: Double) -> None:
    file = io.BytesIO()
    async with double.space() as space:
        await space.pull("vos:x", file)
        assert file.getvalue() == double.content
        assert b"".join([piece async for piece in space.read("vos:x")]) == double.content


async def test_a_broken_connection_is_continued_where_it_broke(double: Double, target: Path) -> None:
    double.storage.plan = [double.cut_after(2_000_000), double.cut_after(500_000), hangs_up]
    async with double.space() as space:
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content
    first, *rest = double.storage.seen
    assert "Range" not in first.headers
    assert all(one.headers["If-Range"] == double.headers()["ETag"] for one in rest)
    assert len(double.service.of("POST")) == 1


async def test_without_entity_tag_and_digests_nothing_can_be_continued(double: Double, target: Path) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = SIZE
        await response.prepare(request)
        await response.write(double.content[:1000])
        assert request.transport is not None
        request.transport.abort()
        return response

    double.storage.plan = [half]
    async with double.space() as space:
        with pytest.raises(ServiceUnreachable):
            await space.pull("vos:x", target)
    assert parts(target) == []
    assert not target.exists()


async def test_a_pull_that_is_given_up_leaves_its_part_for_the_next(double: Double, target: Path) -> None:
    double.storage.plan = [double.cut_after(2 << 20)]
    async with double.space(retry=Retry(attempts=1)) as space:
        with pytest.raises(ServiceUnreachable):
            await space.pull("vos:x", target)
        [part] = parts(target)
        kept = part.stat().st_size
        assert 0 < kept <= 2 << 20
        assert not target.exists()
        double.storage.seen.clear()
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content
    assert double.storage.seen[-1].headers["Range"] == f"bytes={kept}-"
    assert parts(target) == []


async def test_a_complete_part_is_only_verified(double: Double, target: Path) -> None:
    part_of(double, target, double.content)
    async with double.space() as space:
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content
    assert all("Range" not in one.headers for one in double.storage.seen)


@pytest.mark.parametrize("damage", ["first byte", "too long"])
async def test_a_damaged_part_does_not_become_the_file(double: Double, target: Path, damage: str) -> None:
    target.write_bytes(b"old")
    part_of(double, target, b"?" + double.content[1:] if damage == "first byte" else double.content + b"?")
    async with double.space() as space:
        if damage == "first byte":
            with pytest.raises(ChecksumMismatch):
                await space.pull("vos:x", target)
            assert target.read_bytes() == b"old"
            assert parts(target) == []
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content


async def test_a_part_of_other_bytes_is_not_continued(double: Double, target: Path) -> None:
    old = part_of(double, target, double.content[:1000])
    double.content = os.urandom(SIZE)
    async with double.space() as space:
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content
    assert parts(target) == [old]


async def test_a_part_that_another_process_writes_is_left_to_it(double: Double, target: Path) -> None:
    path = part_of(double, target, b"theirs")
    async with double.space() as space:
        with path.open("rb") as theirs:
            fcntl.flock(theirs, fcntl.LOCK_EX)
            await space.pull("vos:x", target)
    assert target.read_bytes() == double.content
    assert path.read_bytes() == b"theirs"


@pytest.mark.parametrize("known", ["both", "md5", "sha256"])
async def test_wrong_bytes_are_not_kept(double: Double, target: Path, known: str) -> None:
    target.write_bytes(b"old")
    double.announced = Digests(
        md5=None if known == "sha256" else b"m" * 16, sha256=None if known == "md5" else b"s" * 32
    )
    async with double.space() as space:
        with pytest.raises(ChecksumMismatch) as failure:
            await space.pull("vos:x", target)
        assert target.read_bytes() == b"old"
        assert parts(target) == []
        with pytest.raises(ChecksumMismatch):
            async for _ in space.read("vos:x"):
                pass
        with pytest.raises(ChecksumMismatch):
            await space.pull("vos:x", io.BytesIO())
    assert failure.value.exit_code == 7


async def test_bytes_that_changed_meanwhile_are_fetched_anew(double: Double, target: Path) -> None:
    async def change(request: web.Request) -> web.StreamResponse:
        response = await double.cut_after(1 << 20)(request)
        double.content = os.urandom(SIZE)
        return response

    double.storage.plan = [change]
    async with double.space() as space:
        await space.pull("vos:x", target)
        assert target.read_bytes() == double.content
        double.storage.plan = [change]
        with pytest.raises(ContentChanged):
            async for _ in space.read("vos:x"):
                pass


async def test_bytes_that_became_fewer_meanwhile(double: Double) -> None:
    async def shrink(request: web.Request) -> web.StreamResponse:
        return await double.cut_after(1 << 20)(request)

    double.storage.plan = [shrink, answers(416, "RangeNotSatisfiable")]
    async with double.space() as space:
        with pytest.raises(ContentChanged):
            async for _ in space.read("vos:x"):
                pass


async def test_bytes_that_never_stay_the_same(double: Double, target: Path) -> None:
    async def change(request: web.Request) -> web.StreamResponse:
        response = await double.cut_after(1 << 20)(request)
        double.content = os.urandom(SIZE)
        return response

    double.storage.usual = change
    async with double.space() as space:
        with pytest.raises(ContentChanged):
            await space.pull("vos:x", target)
    assert not target.exists()


async def test_an_endpoint_that_expires_on_the_way_is_replaced(double: Double, target: Path) -> None:
    double.storage.plan = [double.cut_after(1 << 20), answers(401, "NotAuthenticated expired")]
    async with double.space() as space:
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content
    assert len(double.service.of("POST")) == 2


async def test_a_right_that_was_withdrawn_on_the_way(double: Double, target: Path) -> None:
    double.storage.plan = [double.cut_after(1 << 20), *[answers(403, "PermissionDenied")] * 9]
    async with double.space() as space:
        with pytest.raises(Exception, match="PermissionDenied"):
            await space.pull("vos:x", target)
    assert len(double.storage.seen) < 9


async def test_another_endpoint_is_tried_if_one_is_down(double: Double, target: Path) -> None:
    usual = double._serve

    async def serve(request: web.Request) -> web.StreamResponse:
        response = await usual(request)
        if request.path.endswith("/transferDetails"):
            assert isinstance(response, web.Response)
            body = bytes(response.body)  # type: ignore[arg-type]
            here = double.storage.url().encode()
            return web.Response(body=body.replace(here, b"http://127.0.0.1:1", 1), content_type="text/xml")
        return response

    double.service.usual = serve
    async with double.space() as space:
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 10), (5, 6), (100, None), (-100, None), (SIZE - 1, None), (0, SIZE + 100), (0, None), (-2 * SIZE, None)],
)
async def test_slices(double: Double, start: int, stop: int | None, knows_ranges: bool) -> None:
    async def everything(request: web.Request) -> web.StreamResponse:
        return web.Response(body=double.content, headers=double.headers())

    if not knows_ranges:
        double.storage.usual = everything
    async with double.space() as space:
        read = b"".join([piece async for piece in space.read("vos:x", start=start, stop=stop)])
    assert read == double.content[start:stop]


async def test_a_slice_is_continued_too(double: Double) -> None:
    double.storage.plan = [double.cut_after(1 << 20)]
    async with double.space() as space:
        read = b"".join([piece async for piece in space.read("vos:x", start=1000, stop=SIZE - 1000)])
    assert read == double.content[1000:-1000]


async def test_slices_that_are_none(double: Double) -> None:
    double.storage.plan = [answers(416, "RangeNotSatisfiable")]
    async with double.space() as space:
        with pytest.raises(RangeNotSatisfiable):
            await anext(space.read("vos:x", start=SIZE))
        for start, stop in ((5, 5), (5, 4), (-5, 4), (0, -1)):
            with pytest.raises(InvalidArgument):
                await anext(space.read("vos:x", start=start, stop=stop))


async def test_a_range_that_nobody_asked_for(double: Double) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=206, body=b"xx", headers={"Content-Range": f"bytes 5-6/{SIZE}"})

    async def silent(request: web.Request) -> web.StreamResponse:
        return web.Response(status=206, body=b"xx")

    async with double.space() as space:
        for handler in (elsewhere, silent):
            double.storage.plan = [handler]
            with pytest.raises(TransferFailed):
                await anext(space.read("vos:x", start=2, stop=4))


async def test_a_refusal_leaves_nothing(double: Double, target: Path) -> None:
    double.storage.plan = [answers(404, "NodeNotFound vos://x")]
    async with double.space() as space:
        with pytest.raises(NodeNotFound):
            await space.pull("vos:x", target)
    assert list(target.parent.iterdir()) == []


async def test_a_file_keeps_its_mode_and_a_link_its_place(double: Double, target: Path) -> None:
    target.write_bytes(b"old")
    target.chmod(0o640)
    link = target.with_name("link")
    link.symlink_to("x.bin")
    async with double.space() as space:
        await space.pull("vos:x", link)
    assert link.is_symlink()
    assert target.read_bytes() == double.content
    assert target.stat().st_mode & 0o777 == 0o640


async def test_what_is_no_file_is_written_to(double: Double, tmp_path: Path) -> None:
    async with double.space() as space:
        await space.pull("vos:x", Path("/dev/null"))
        with pytest.raises(IsADirectoryError):
            await space.pull("vos:x", tmp_path)
        with pytest.raises(FileNotFoundError):
            await space.pull("vos:x", tmp_path / "missing" / "x")


async def test_the_longest_name_has_room_for_its_part(double: Double, target: Path) -> None:
    long = target.with_name("ü" * 127 + "x")
    async with double.space() as space:
        await space.pull("vos:x", long)
    assert hashlib.sha256(long.read_bytes()).digest() == hashlib.sha256(double.content).digest()


@pytest.fixture
def parts_of_a_mebibyte(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "AT_ONCE", 2 << 20)
    monkeypatch.setattr(reader, "_PART", 1 << 20)
    double.content = os.urandom((7 << 20) + 11)


@pytest.mark.usefixtures("parts_of_a_mebibyte")
async def test_parts_of_a_large_file_come_at_once(double: Double, target: Path) -> None:
    meter = Meter()
    async with double.space() as space:
        await space.pull("vos:x", target, progress=meter)
        assert target.read_bytes() == double.content
        assert (meter.total, meter.moved) == (len(double.content), len(double.content))
        assert len(double.storage.of("GET")) == 1 + 8
        double.content = double.content[: (2 << 20) - 1]
        await space.pull("vos:x", target)
        assert target.read_bytes() == double.content
    assert len(double.storage.of("GET")) == 1 + 8 + 1


@pytest.mark.usefixtures("parts_of_a_mebibyte")
async def test_parts_that_break_off_are_continued_in_this_run_and_in_the_next(double: Double, target: Path) -> None:
    async def give_the_beginning(request: web.Request) -> web.StreamResponse:
        span = parse_range(request.headers.get("Range"), len(double.content))
        gone = isinstance(span, ByteRange) and span.start >= 3 << 20
        return await (hangs_up if gone else double.deliver)(request)

    async with double.space(retry=Retry(attempts=3, first=0.001)) as space:
        double.storage.usual = give_the_beginning
        double.storage.plan = [double.deliver, *[double.cut_after(300_000)] * 4]
        with pytest.raises(ServiceUnreachable):
            await space.pull("vos:x", target)
        [part] = parts(target)
        assert part.read_bytes() == double.content[: 3 << 20]
        double.storage.usual = double.deliver
        double.storage.seen.clear()
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content
    starts = [int(one.headers["Range"][6:].partition("-")[0]) for one in double.storage.seen if "Range" in one.headers]
    assert min(starts) == 3 << 20


@pytest.mark.usefixtures("parts_of_a_mebibyte")
async def test_a_large_file_that_changes_between_its_parts_is_fetched_anew(double: Double, target: Path) -> None:
    async def change(request: web.Request) -> web.StreamResponse:
        double.content = os.urandom(len(double.content))
        return await double.deliver(request)

    async with double.space() as space:
        double.storage.plan = [double.deliver, double.deliver, double.deliver, change]
        await space.pull("vos:x", target)
    assert target.read_bytes() == double.content


@pytest.mark.usefixtures("parts_of_a_mebibyte")
async def test_a_large_file_that_a_store_elsewhere_gives(double: Double, target: Path) -> None:
    whole, elsewhere = double.content, double.storage.url("/bucket/object")

    async def send_away(request: web.Request) -> web.StreamResponse:
        if request.path == "/bucket/object":
            assert "If-Match" not in request.headers
            span = parse_range(request.headers.get("Range"), len(whole))
            if not isinstance(span, ByteRange):
                return web.Response(body=whole, headers={"ETag": '"1-7"', "Accept-Ranges": "bytes"})
            headers = {"Content-Range": span.content_range(len(whole)), "ETag": '"1-7"', "Accept-Ranges": "bytes"}
            return web.Response(status=206, body=whole[span.start : span.stop], headers=headers)
        if request.method == "HEAD" or request.headers.get("If-Match", etag) != etag:
            return await double.deliver(request)
        raise web.HTTPTemporaryRedirect(elsewhere)

    etag = double.headers()["ETag"]
    double.storage.usual = send_away
    async with double.space() as space:
        await space.pull("vos:x", target)
        opened = await space.reader("vos:x")
        assert f'"{opened.etag}"' == etag
        assert await opened.read(5, 3 << 20) == whole[5 : 3 << 20]
        opened.etag = "0" * 64
        with pytest.raises(ContentChanged):
            await opened.read(0, 1)
    assert target.read_bytes() == whole
