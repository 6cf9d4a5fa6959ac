"""Containers as archives, out and in, and packages (R-VIEW-009 to R-VIEW-012, R-PUSH-011, R-PULLF-011, R-EXT-005)."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.instants import read_instant
from pyvospace.model.vocabulary import (
    CORE,
    DEFAULT_VIEW,
    IMMUTABLE,
    IS_LOCKED,
    PACKAGE_VIEW,
    TAR_GZ_VIEW,
    TAR_VIEW,
    ZIP_VIEW,
)
from pyvospace.wire.xml import VOSPACE, V
from tests.server.conftest import MAKERS, READERS
from tests.support.agents import (
    Agent,
    Answer,
    U,
    children_of,
    endpoints_of,
    properties_of,
    transfer_document,
    type_of,
    uri_of,
)

PULL, PUSH = "pullFromVoSpace", "pushToVoSpace"
GET, PUT = CORE + "httpsget", CORE + "httpsput"
TYPES = {TAR_VIEW: "application/x-tar", TAR_GZ_VIEW: "application/gzip", ZIP_VIEW: "application/zip"}


@dataclass
class Packed:
    """What an archive holds."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)


def opened(archive: bytes) -> Packed:
    """Read an archive with the standard library, to its last byte."""
    found = Packed()
    if archive[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            assert packed.testzip() is None
            for info in packed.infolist():
                if info.is_dir():
                    found.folders.add(info.filename.rstrip("/"))
                elif stat.S_ISLNK(info.external_attr >> 16):
                    found.links[info.filename] = packed.read(info).decode()
                else:
                    found.files[info.filename] = packed.read(info)
        return found
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
        for member in tar:
            found.times[member.name] = member.mtime
            if member.isdir():
                found.folders.add(member.name)
            elif member.issym():
                found.links[member.name] = member.linkname
            else:
                content = tar.extractfile(member)
                assert content is not None
                found.files[member.name] = content.read()
    return found


async def fetch(agent: Agent, path: str, view: str, method: str = "GET") -> Answer:
    answer = (await agent.sync(path, PULL, GET, view=view)).assert_status(303)
    (endpoint,) = endpoints_of((await agent.send("GET", answer.location)).xml)
    return await agent.send(method, endpoint, checked=False)


async def completed(agent: Agent, job: str) -> None:
    """Wait for what is told behind the last byte."""
    document = (await agent.send("GET", f"{job}?WAIT=10&PHASE=EXECUTING")).assert_status(200).xml
    assert document.findtext(f"{U}phase") == "COMPLETED"


async def grown(alice: Agent, folder: str) -> str:
    """Make a tree; `big` is streamed, not read at once."""
    top = await alice.make(f"{folder}/top", "ContainerNode")
    for name in ("sub", "sub/deep", "empty"):
        await alice.make(f"{top}/{name}", "ContainerNode")
    await alice.push(f"{top}/a.txt", b"alpha", Content_Type="text/plain")
    await alice.push(f"{top}/sub/%C3%A9%20%25.txt", b"e")
    await alice.push(f"{top}/sub/deep/big", BIG)
    await alice.make(f"{top}/nothing")
    return top


BIG = os.urandom(3_000_000)
FILES = {"top/a.txt": b"alpha", "top/sub/é %.txt": b"e", "top/sub/deep/big": BIG, "top/nothing": b""}


@pytest.mark.parametrize("view", TYPES)
async def test_container_leaves_as_archive(alice: Agent, folder: str, view: str) -> None:
    top = await grown(alice, folder)
    await alice.make(f"{top}/sub/inside", "LinkNode", target=uri_of(f"{top}/a.txt"))
    await alice.make(f"{top}/outside", "LinkNode", target=uri_of(f"{folder}/else"))
    await alice.make(f"{top}/elsewhere", "LinkNode", target="https://example.org/top/a.txt")
    answer = (await fetch(alice, top, view)).assert_status(200)
    assert answer.headers["Content-Type"] == TYPES[view]
    suffix = {TAR_VIEW: "tar", TAR_GZ_VIEW: "tar.gz", ZIP_VIEW: "zip"}[view]
    assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="top.{suffix}"')
    found = opened(answer.body)
    assert found.files == FILES
    assert found.folders == {"top", "top/sub", "top/sub/deep", "top/empty"}
    assert found.links == {"top/sub/inside": "../a.txt"}
    if found.times:
        stored = properties_of(await alice.node(f"{top}/a.txt"))[CORE + "mtime"]
        assert found.times["top/a.txt"] == int(read_instant(stored).timestamp())


async def test_readers_get_what_they_may_read(alice: Agent, carl: Agent, nobody: Agent, shared: str) -> None:
    read = {CORE + "groupread": READERS}
    top = await alice.make(f"{shared}/top", "ContainerNode", properties=read)
    for name, rights in (("seen", read), ("hidden", {})):
        await alice.make(f"{top}/{name}", "ContainerNode", properties=rights)
        await alice.make(f"{top}/{name}/public", properties={CORE + "ispublic": "true"})
        await alice.make(f"{top}/{name}/private")
    assert opened((await fetch(carl, top, TAR_VIEW)).body).times.keys() == {"top", "top/seen", "top/seen/public"}
    assert len(opened((await fetch(alice, top, TAR_VIEW)).body).times) == 7
    (await nobody.sync(top, PULL, GET, view=TAR_VIEW)).assert_fault(401, "NotAuthenticated")


async def test_job_of_an_archive(alice: Agent, folder: str) -> None:
    top = await grown(alice, folder)
    made = await alice.send("POST", "/transfers?PHASE=RUN", transfer_document(top, PULL, [GET], view="application/zip"))
    job = made.assert_status(303).location
    (endpoint,) = endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml)
    head = (await alice.send("HEAD", endpoint, checked=False)).assert_status(200)
    assert head.headers["Content-Type"] == "application/zip"
    assert "Content-Length" not in head.headers
    assert await alice.phase(job) == "EXECUTING"
    assert opened((await alice.send("GET", endpoint, checked=False)).body).files == FILES
    await completed(alice, job)
    (await alice.send("PUT", endpoint, b"x", checked=False)).assert_fault(403, "PermissionDenied")
    await alice.delete(top)
    (await alice.send("GET", endpoint, checked=False)).assert_fault(403, "PermissionDenied")


async def test_archive_by_parameters(alice: Agent, folder: str) -> None:
    asked = urlencode({"TARGET": uri_of(folder), "DIRECTION": PULL, "PROTOCOL": GET, "VIEW": DEFAULT_VIEW})
    endpoint = (await alice.send("GET", f"/synctrans?{asked}")).assert_status(303).location
    assert endpoint.endswith(f"{folder.rsplit('/', 1)[-1]}.tar")
    assert opened((await alice.send("GET", endpoint, checked=False)).body).folders == {folder.rsplit("/", 1)[-1]}


async def test_views_of_each_kind(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"x")
    listed = await alice.node(folder)
    assert [one.get("uri") for one in listed.iterfind(f"{V}accepts/{V}view")] == list(TYPES)
    assert [one.get("uri") for one in listed.iterfind(f"{V}provides/{V}view")] == [DEFAULT_VIEW, *TYPES]
    for path, direction, protocol, view, fault in (
        (folder, PULL, GET, CORE + "binaryview", "ViewNotSupported"),
        (folder, PUSH, PUT, CORE + "anyview", "ViewNotSupported"),
        (folder, PULL, GET, None, "InvalidArgument"),
        (folder, PUSH, PUT, None, "InvalidArgument"),
        (f"{folder}/a", PULL, GET, TAR_VIEW, "ViewNotSupported"),
        (f"{folder}/a", PUSH, PUT, TAR_VIEW, "ViewNotSupported"),
        (f"{folder}/new", PUSH, PUT, TAR_VIEW, "ViewNotSupported"),
    ):
        answer = await alice.sync(path, direction, protocol, view=view)
        assert await alice.error(answer.location.removesuffix("/results/transferDetails")) == fault


def package_document(targets: Sequence[str], media: str | None = None) -> str:
    param = f'<param uri="{CORE}format">{media}</param>' if media else ""
    named = "".join(f"<target>{uri_of(path)}</target>" for path in targets)
    return (
        f'<transfer xmlns="{VOSPACE}" version="2.1">{named}<direction>{PULL}</direction>'
        f'<view uri="{PACKAGE_VIEW}">{param}</view><protocol uri="{GET}"/></transfer>'
    )


async def test_package(alice: Agent, carl: Agent, folder: str, shared: str) -> None:
    top = await grown(alice, folder)
    link = await alice.make(f"{top}/sub/far", "LinkNode", target=uri_of(f"{shared}/a.txt"))
    await alice.push(f"{shared}/a.txt", b"other")
    await alice.push(f"{folder}/a.txt", b"third")
    await carl.make(hidden := f"{carl.pair.home.removesuffix('alice')}carl/{folder.rsplit('/', 1)[-1]}")
    targets = (top, f"{shared}/a.txt", f"{folder}/missing", hidden, f"{folder}/a.txt", top)
    for resource in ("/synctrans", "/pkg"):
        answer = (await alice.send("POST", resource, package_document(targets, "application/zip"))).assert_status(303)
        job = answer.location.split("/")[-2]
        assert answer.location == f"{alice.pair.url}/pkg/{job}/run"
        where = (await alice.send("GET", answer.location)).assert_status(303).location
        packed = (await alice.send("GET", where, checked=False)).assert_status(200)
        assert packed.headers["Content-Type"] == "application/zip"
        assert 'filename="package.zip"' in packed.headers["Content-Disposition"]
        found = opened(packed.body)
        assert found.files == FILES | {"a.txt": b"other", "a-2.txt": b"third"}
        assert found.links == {link.removeprefix(f"{folder}/"): "../../a.txt"}
        await completed(alice, f"/transfers/{job}")
        described = (await alice.send("GET", f"/transfers/{job}/results/transferDetails")).assert_status(200).xml
        assert [described.findtext(V + "target"), *(one.text for one in described.iterfind(V + "param"))] == [
            uri_of(path) for path in targets
        ]
        (await carl.send("GET", answer.location)).assert_fault(403, "PermissionDenied")


async def test_package_of_one_and_of_none(alice: Agent, nobody: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a.txt", b"alpha")
    for agent, targets, files in ((alice, [f"{folder}/a.txt"], {"a.txt": b"alpha"}), (nobody, [folder, "/x"], {})):
        run = (await agent.send("POST", "/synctrans", package_document(targets))).assert_status(303).location
        where = (await agent.send("GET", run)).assert_status(303).location
        packed = await agent.send("GET", where, checked=False)
        assert packed.headers["Content-Type"] == "application/x-tar"
        assert opened(packed.body).files == files


async def test_what_is_no_package(alice: Agent, folder: str) -> None:
    run = (await alice.send("POST", "/synctrans", package_document([folder], "image/png"))).location
    assert await alice.error(f"/transfers/{run.split('/')[-2]}") == "InvalidArgument"
    (await alice.send("GET", run)).assert_fault(404, "NotFound")
    several = package_document([folder, folder]).replace(PACKAGE_VIEW, TAR_VIEW)
    (await alice.send("POST", "/synctrans", several)).assert_fault(400, "InvalidArgument")
    (await alice.send("POST", "/pkg", transfer_document(folder, PULL, [GET]))).assert_fault(400, "InvalidArgument")
    job = (await alice.sync(folder, PULL, GET, view=TAR_VIEW)).location.split("/")[-3]
    (await alice.send("GET", f"/pkg/{job}/run")).assert_fault(404, "NotFound")


def tar_of(*members: tuple[str, bytes | str | None], compressed: bool = False) -> bytes:
    """Write a tar archive: bytes for a file, None for a directory, text for a symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if compressed else "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def zip_of(*members: tuple[str, bytes | str | None]) -> bytes:
    """Write a zip archive, as `tar_of`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            info = zipfile.ZipInfo(name + "/" * (content is None))
            if isinstance(content, str):
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            packed.writestr(info, content or b"", zipfile.ZIP_DEFLATED)
    return out.getvalue()


async def bring(agent: Agent, path: str, archive: bytes, view: str = TAR_VIEW, **headers: str) -> tuple[Answer, str]:
    """Push an archive; give the answer and the job."""
    answer = (await agent.sync(path, PUSH, PUT, view=view)).assert_status(303)
    (endpoint,) = endpoints_of((await agent.send("GET", answer.location)).xml)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    job = answer.location.removesuffix("/results/transferDetails")
    return await agent.send("PUT", endpoint, archive, headers=given, checked=False), job


MEMBERS = (("./", None), ("a.txt", b"new"), ("sub/deep/big", BIG), ("sub/to", "../a.txt"), ("void/", None))
ARCHIVES = {
    TAR_VIEW: tar_of(*MEMBERS),
    TAR_GZ_VIEW: tar_of(*MEMBERS, compressed=True),
    ZIP_VIEW: zip_of(*MEMBERS[1:]),
}


@pytest.mark.parametrize("view", ARCHIVES)
async def test_archive_becomes_nodes(alice: Agent, folder: str, view: str) -> None:
    await alice.push(f"{folder}/a.txt", b"old", Content_Type="x/y")
    answer, job = await bring(alice, folder, ARCHIVES[view], view)
    answer.assert_status(201)
    assert await alice.phase(job) == "COMPLETED"
    assert children_of(await alice.node(folder)) == ["a.txt", "sub", "void"]
    assert await alice.pull(f"{folder}/a.txt") == b"new"
    assert await alice.pull(f"{folder}/sub/deep/big") == BIG
    assert await alice.pull(f"{folder}/sub/to") == b"new"
    properties = properties_of(await alice.node(f"{folder}/a.txt"))
    assert properties[CORE + "length"] == "3"
    assert properties[CORE + "type"] == "text/plain"
    assert properties[CORE + "MD5"] == "22af645d1859cb5ca6da0c484f1f37ea"
    assert (await alice.node(f"{folder}/sub/to")).findtext(V + "target") == uri_of(f"{folder}/a.txt")


@pytest.mark.parametrize(
    "archive",
    {
        "parent": tar_of(("ok", b"x"), ("../evil", b"x")),
        "parent inside": tar_of(("ok", b"x"), ("a/../../evil", b"x")),
        "absolute": tar_of(("ok", b"x"), ("/evil", b"x")),
        "link out": tar_of(("ok", b"x"), ("evil", "../../etc/passwd")),
        "link absolute": tar_of(("ok", b"x"), ("evil", "/etc/passwd")),
        "through a link": tar_of(("ok", b"x"), ("sub", "ok"), ("sub/evil", b"x")),
        "file and folder": tar_of(("ok", b"x"), ("ok/evil", b"x")),
        "control": tar_of(("ok", b"x"), ("ev\til", b"x")),
        "not UTF-8": tar_of(("ok", b"x"), ("ev\udcffil", b"x")),
        "long name": tar_of(("ok", b"x"), ("e" * 256, b"x")),
        "reserved": tar_of(("ok", b"x"), (".null", b"x")),
        "deep": tar_of(("ok", b"x"), ("d/" * 199 + "evil", b"x")),
        "cut": tar_of(("ok", b"x"), ("evil", b"x" * 5000))[:4000],
        "cut between": tar_of(("ok", b"x"))[:1024],
        "no tar": b"evil" * 1000,
        "empty": b"",
    }.values(),
    ids=lambda archive: str(len(archive)),
)
async def test_hostile_archive_leaves_nothing(alice: Agent, folder: str, archive: bytes) -> None:
    await alice.make(f"{folder}/before")
    answer, job = await bring(alice, folder, archive)
    answer.assert_fault(400, "InvalidData")
    assert children_of(await alice.node(folder)) == ["before"]
    assert await alice.phase(job) == "EXECUTING"
    (await bring(alice, folder, tar_of(("ok", b"x"))))[0].assert_status(201)


async def test_hostile_zips(alice: Agent, folder: str) -> None:
    for archive in (
        zip_of(("ok", b"x"), ("../evil", b"x")),
        zip_of(("ok", b"x"), ("/evil", b"x")),
        zip_of(("ok", b"x"), ("evil", "../..")),
        zip_of(("ok", b"x"))[:-10],
        zip_of(("ok", b"x" * 1000)).replace(b"\x4b\x4c", b"\x00\x00"),
        b"PK\x05\x06" + bytes(18),
    ):
        answer, _ = await bring(alice, folder, archive, ZIP_VIEW)
        assert answer.status in {201, 400}, answer.text
    assert children_of(await alice.node(folder)) in ([], ["ok"])


async def test_archive_for_a_container_that_is_missing(alice: Agent, folder: str) -> None:
    told = (await alice.sync(f"{folder}/none", PUSH, PUT, view=TAR_VIEW)).assert_status(303)
    job = told.location.removesuffix("/results/transferDetails")
    assert await alice.error(job) == "ViewNotSupported"
    assert "is missing and has to be made first" in (await alice.send("GET", job)).text


async def test_what_is_in_the_way_of_an_archive(alice: Agent, admin: Agent, shared: str) -> None:
    await alice.push(f"{shared}/a", b"a")
    await alice.push(f"{shared}/old", b"old")
    await alice.make(f"{shared}/box", "ContainerNode")
    await admin.make(f"{shared}/foreign", "ContainerNode", properties={CORE + "ispublic": "true"})
    await admin.make(f"{shared}/taken", properties={CORE + "groupread": MAKERS})
    await alice.make(f"{shared}/closed", "ContainerNode", properties={IS_LOCKED: "true"})
    await alice.make(f"{shared}/fixed", "ContainerNode", properties={IMMUTABLE: "true"})
    for member, status, fault in (
        (("a/b", b"x"), 409, "DuplicateNode"),
        (("box", b"x"), 409, "DuplicateNode"),
        (("a", "box"), 409, "DuplicateNode"),
        (("foreign/x", b"x"), 403, "PermissionDenied"),
        (("taken", b"x"), 403, "PermissionDenied"),
        (("closed/x", b"x"), 423, "NodeLocked"),
        (("fixed/x", b"x"), 403, "PermissionDenied"),
    ):
        answer, _ = await bring(alice, shared, tar_of(("new/ok", b"x"), ("old", b"new"), member))
        answer.assert_fault(status, fault)
    assert children_of(await alice.node(shared)) == ["a", "box", "closed", "fixed", "foreign", "old", "taken"]
    assert await alice.pull(f"{shared}/old") == b"old"


async def test_nodes_of_an_archive_have_the_rights_of_their_container(alice: Agent, carl: Agent, shared: str) -> None:
    rights = {CORE + "groupread": READERS, "ivo://cadc.nrc.ca/vospace/core#inheritPermissions": "true"}
    top = await alice.make(f"{shared}/top", "ContainerNode", properties=rights)
    (await bring(alice, top, tar_of(("sub/a", b"x"))))[0].assert_status(201)
    assert await carl.pull(f"{top}/sub/a") == b"x"
    answer = await carl.sync(top, PUSH, PUT, view=TAR_VIEW)
    assert await carl.error(answer.location.removesuffix("/results/transferDetails")) == "PermissionDenied"


async def test_digest_and_repetition_of_an_archive(alice: Agent, folder: str) -> None:
    archive = tar_of(("a", b"x"))
    answer = await alice.sync(folder, PUSH, PUT, view=TAR_VIEW)
    (endpoint,) = endpoints_of((await alice.send("GET", answer.location)).xml)
    wrong = {"Digest": f"md5={b64encode(hashlib.md5(b'else').digest()).decode()}"}
    refused = await alice.send("PUT", endpoint, archive, headers=wrong, checked=False)
    refused.assert_fault(412, "checksum mismatch")
    assert children_of(await alice.node(folder)) == []
    for _ in range(2):
        done = (await alice.send("PUT", endpoint, archive, checked=False)).assert_status(201)
        assert done.headers["Digest"] == f"md5={b64encode(hashlib.md5(archive).digest()).decode()}"
    assert children_of(await alice.node(folder)) == ["a"]
    (await alice.send("GET", endpoint, checked=False)).assert_fault(403, "PermissionDenied")


async def test_bytes_of_a_structured_node_come_in_an_archive(alice: Agent, folder: str, catalogue: Database) -> None:
    await alice.make(f"{folder}/t.vot", "StructuredDataNode")
    table = b'<?xml version="1.0"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"></VOTABLE>\n'
    (await bring(alice, folder, tar_of(("t.vot", table))))[0].assert_status(201)
    assert type_of(await alice.node(f"{folder}/t.vot")) == "StructuredDataNode"
    assert await catalogue.fetchval("select structure from nodes where name = 't.vot' order by id desc limit 1")
