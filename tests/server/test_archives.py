"""Containers as archives, out and in, and packages (R-VIEW-009 to R-VIEW-012, R-PUSH-011, R-PULLF-011, R-EXT-005)."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from dataclasses import dataclass, field

import pytest

from pyvospace.model.vocabulary import CORE, DEFAULT_VIEW, TAR_GZ_VIEW, TAR_VIEW, ZIP_VIEW
from pyvospace.wire.xml import V
from tests.server.conftest import READERS, Space
from tests.support.agents import Agent, Answer, children_of, endpoints_of, properties_of, uri_of

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
