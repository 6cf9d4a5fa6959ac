"""Archives of strangers: cut at any byte, bombs, and members that want to be something else (T17, T18, T20)."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.archives import FORMATS, TAR, TAR_GZ, ZIP, ArchiveFormat
from pyvospace.model.faults import Fault, InvalidData, RequestEntityTooLarge
from pyvospace.model.uris import NodeUri
from pyvospace.storage.archives.reading import ReadMember, UnpackLimits, archive_reader
from pyvospace.storage.archives.tree import Tree
from pyvospace.storage.archives.writing import Entry, archive_writer
from tests.server.test_archives import tar_of, zip_of

LIMITS = UnpackLimits(members=100, size=1 << 30, ratio=50, depth=10)
MEMBERS = (("a", b"alpha" * 300), ("sub/b", b""), ("sub/c", "../a"), ("d", None))
ARCHIVES = {TAR: tar_of(*MEMBERS), TAR_GZ: tar_of(*MEMBERS, compressed=True), ZIP: zip_of(*MEMBERS)}


def members(wanted: ArchiveFormat, archive: bytes, limits: UnpackLimits = LIMITS) -> dict[ReadMember, bytes]:
    found = {}
    with os.fdopen(os.memfd_create("archive"), "w+b") as file:  # a real file is stricter than BytesIO
        file.write(archive)
        file.seek(0)
        reader = archive_reader(wanted, file, limits, sent=len(archive))
        while member := reader.next():
            found[member] = b"".join(iter(reader.read, b"")) if member.size else b""
            if len(found[member]) != member.size:
                raise InvalidData("it ends early")
    return found


@pytest.mark.parametrize("wanted", FORMATS, ids=lambda one: one.suffix)
def test_archive_cut_or_changed_at_any_byte(wanted: ArchiveFormat) -> None:
    archive = ARCHIVES[wanted]
    whole = members(wanted, archive)
    assert {one.path for one in whole} == {("a",), ("sub", "b"), ("sub", "c"), ("d",)}
    for place in range(0, len(archive), 1 if wanted is not TAR else 37):
        changed = bytearray(archive)
        changed[place] ^= 0xFF
        for data in (archive[:place], bytes(changed)):
            try:
                found = members(wanted, data)
            except Fault as fault:
                assert isinstance(fault, (InvalidData, RequestEntityTooLarge))  # noqa: PT017 (or no fault at all)
            else:
                assert data != archive[:place] or found == whole


@given(st.binary(max_size=3000), st.sampled_from(FORMATS))
def test_any_bytes(data: bytes, wanted: ArchiveFormat) -> None:
    for archive in (data, ARCHIVES[wanted][:512] + data):
        try:
            members(wanted, archive)
        except Fault as fault:
            assert isinstance(fault, (InvalidData, RequestEntityTooLarge))  # noqa: PT017


@pytest.mark.parametrize("wanted", FORMATS, ids=lambda one: one.suffix)
def test_what_is_written_can_be_read(wanted: ArchiveFormat) -> None:
    moment = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    time = None if wanted is ZIP else "2020-02-03T04:05:06Z"  # zip knows no time zones
    long = "/".join(["é" * 120] * 5)
    writer = archive_writer(wanted)
    written = []
    for entry, content in (
        (Entry("top", moment, is_folder=True), b""),
        (Entry("top/plain", moment, 3), b"abc"),
        (Entry(long, moment, 3), b"def"),
        (Entry("top/link", moment, link="plain"), b""),
    ):
        writer.add(entry, content)
        written.append(writer.take())
    writer.finish()
    found = members(wanted, b"".join([*written, writer.take()]))
    assert list(found) == [
        ReadMember(("top",), is_folder=True),
        ReadMember(("top", "plain"), 3, changed=time),
        ReadMember(tuple(long.split("/")), 3, changed=time),
        ReadMember(("top", "link"), target=("top", "plain")),
    ]
    assert list(found.values()) == [b"", b"abc", b"def", b""]


def special(kind: bytes, size: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("evil")
        info.type, info.linkname, info.size = kind, "a", size
        tar.addfile(info, io.BytesIO(bytes(size)))
    return out.getvalue()


def with_size(field: bytes) -> bytes:
    """Write the head of a member whose size is what `field` says."""
    head = bytearray(tar_of(("evil", b""))[:512])
    head[124:136] = field.ljust(12, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(1024)


def keywords(number: int) -> bytes:
    """Write two keywords that are to hold for all members that follow."""
    return tarfile.TarInfo.create_pax_global_header({f"k{number}": "v", f"l{number}": "v"})


@pytest.mark.parametrize(
    "archive",
    [
        *map(special, (tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z")),
        special(tarfile.GNUTYPE_SPARSE, 512),
        special(tarfile.GNUTYPE_LONGNAME, 1 << 20),
        special(tarfile.XHDTYPE, 300_000),
        with_size(b"\xff" * 11 + b"\x00"),
        special(tarfile.XHDTYPE)[:512] * 5000 + tar_of(("a", b"")),
        special(tarfile.GNUTYPE_LONGNAME, 512)[:1024] * 5000 + tar_of(("a", b"")),
        b"".join(keywords(number) + tar_of(("a", b""))[:512] for number in range(90)) + bytes(1024),
    ],
    ids=range(12),
)
def test_hostile_tars(archive: bytes) -> None:
    with pytest.raises(InvalidData):
        members(TAR, archive)


def test_numbers_that_tarfile_would_search_for_ever() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("evil")
        info.type, info.size = tarfile.XHDTYPE, 100_000
        tar.addfile(info, io.BytesIO(b"1" * 100_000))
    with pytest.raises(InvalidData, match="number"):
        members(TAR, out.getvalue())


def test_bombs() -> None:
    zeros = tar_of(*((str(number), bytes(30 << 20)) for number in range(3)))
    with pytest.raises(RequestEntityTooLarge):
        members(TAR_GZ, gzip.compress(zeros, 1))
    assert len(members(TAR, zeros)) == 3
    with pytest.raises(RequestEntityTooLarge):
        members(ZIP, zip_of(*((str(number), bytes(30 << 20)) for number in range(3))))
    with pytest.raises(RequestEntityTooLarge):
        members(TAR, zeros, UnpackLimits(members=100, size=1 << 20, ratio=50, depth=10))
    with pytest.raises(RequestEntityTooLarge):
        members(TAR, with_size(b"\x80" + struct.pack(">q", 1 << 50).rjust(11, b"\0")))
    with pytest.raises(RequestEntityTooLarge):
        members(ZIP, zip_of(*((str(number), b"") for number in range(101))))
    with pytest.raises(RequestEntityTooLarge):  # members of one name are stored as well
        members(TAR, tar_of(*[("a", b"")] * 102))


def test_zip_without_members() -> None:
    assert members(ZIP, zip_of()) == {}


def test_zip_that_needs_a_password() -> None:
    archive = bytearray(zip_of(("a", b"x")))
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InvalidData):
        members(ZIP, bytes(archive))


def test_zip_with_a_rare_method() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("a", b"x")
    with pytest.raises(InvalidData):
        members(ZIP, out.getvalue())


def test_tree_has_no_more_nodes_than_allowed() -> None:
    tree = Tree(NodeUri("x"), UnpackLimits(members=5, size=1, ratio=1, depth=10))
    tree.add_folder(("a", "b", "c"))
    tree.add_link(("a", "l"), ())
    tree.add_link(("a", "b", "l"), ("a",))
    with pytest.raises(RequestEntityTooLarge):
        tree.add_folder(("d",))


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("1000000000.123456789", "2001-09-09T01:46:40.123456789Z"),
        ("-1.5", "1969-12-31T23:59:58.5Z"),
        ("1e9", "2001-09-09T01:46:40Z"),
        ("99999999999999", None),
        ("nan", None),
    ],
)
def test_times_of_members_are_read_exactly(told: str, read: str | None) -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"mtime": told}
    head = info.create_pax_header(info.get_info(), "utf-8")
    (member,) = members(TAR, head + bytes(1024))
    assert member.changed == read
