"""What a mount knows without a kernel: errors, modes, names, and the tree."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pyfuse3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.client import Space
from pyvospace.client.failures import ContentChanged, ServiceUnreachable
from pyvospace.fuse.descriptions import Descriptions
from pyvospace.fuse.errors import ERRORS, answered, errno_of
from pyvospace.fuse.modes import shown_mode
from pyvospace.fuse.names import Links, Names, attribute_of, is_possible, property_of, text_of
from pyvospace.fuse.remote import Remote
from pyvospace.fuse.tree import Inode, Tree, View
from pyvospace.fuse.waiting import _Lock, _Readiness
from pyvospace.model import faults
from pyvospace.model.entries import Entry
from pyvospace.model.faults import FAULTS, Fault
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import OWN, NodeType

LINKS = Links(NodeUri("a", ("top",)), "/mnt/x")
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (faults.PermissionDenied, errno.EACCES),
        (faults.NotAuthenticated, errno.EACCES),
        (faults.NodeNotFound, errno.ENOENT),
        (faults.ContainerNotFound, errno.ENOENT),
        (faults.DuplicateNode, errno.EEXIST),
        (faults.QuotaExceeded, errno.EDQUOT),
        (faults.InsufficientStorage, errno.ENOSPC),
        (faults.NodeBusy, errno.EBUSY),
        (faults.NodeLocked, errno.EROFS),
        (faults.InternalFault, errno.EIO),
        (faults.ServiceBusy, errno.EIO),
        (ServiceUnreachable, errno.EIO),
        (ContentChanged, errno.ESTALE),
        (faults.InvalidArgument, errno.EINVAL),
    ],
)
def test_errors(fault: type[Fault], expected: int) -> None:
    assert errno_of(fault("why")) == expected


def test_no_fault_says_that_a_program_may_try_for_ever() -> None:
    kinds = {*FAULTS.values(), *ERRORS}
    assert errno.EAGAIN not in {errno_of(kind("")) for kind in kinds}
    assert errno_of(OSError(errno.EXDEV, "words")) == errno.EXDEV
    assert errno_of(OSError("words alone")) == errno.EIO


async def test_a_defect_is_an_error_of_this_operation_alone(caplog: pytest.LogCaptureFixture) -> None:
    @answered
    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(pyfuse3.FUSEError) as raised:
        await broken()
    assert raised.value.errno == errno.EIO
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("rights", "kept", "shown"),
    [
        ((True, True, False), None, 0o600),
        ((True, True, True), None, 0o644),
        ((True, False, False), None, 0o400),
        ((True, True, False), 0o755, 0o755),
        ((True, False, False), 0o755, 0o555),
        ((False, True, False), 0o644, 0o200),
        ((True, True, True), 0o600, 0o644),
        ((True, True, False), 0o4755, 0o755),
    ],
)
def test_modes(rights: tuple[bool, bool, bool], kept: int | None, shown: int) -> None:
    readable, writable, public = rights
    mode = shown_mode(stat.S_IFREG, readable=readable, writable=writable, public=public, kept=kept)
    assert mode == stat.S_IFREG | shown


def test_modes_of_directories_and_links() -> None:
    rights = {"readable": True, "writable": True, "public": True}
    assert shown_mode(stat.S_IFDIR, **rights, kept=None) == stat.S_IFDIR | 0o755
    assert shown_mode(stat.S_IFLNK, **rights, kept=0o600) == stat.S_IFLNK | 0o777


@given(
    st.lists(NAMES, max_size=4), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
)
def test_links_come_back_as_they_were(parent: list[str], target: str) -> None:
    with suppress(OSError):
        where = tuple(text_of(name.encode()) for name in parent)
        uri = LINKS.uri_of(target.encode(), where)
        assert LINKS.target_of(uri, where) == target.encode()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("vos://a/top/d/file", b"d/file"),
        ("vos://a/top/other", b"other"),
        ("vos://a/top", b"."),
        ("vos://a/elsewhere", b"vos://a/elsewhere"),
        ("vos://b/top/d", b"vos://b/top/d"),
        ("https://example.org/a#b", b"https://example.org/a#b"),
        ("file:///etc/hosts%20x", b"/etc/hosts x"),
    ],
)
def test_links_of_other_clients(uri: str, shown: bytes) -> None:
    assert LINKS.target_of(uri, ()) == shown


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("vos://a/top/d/file", b"../d/file"),
        ("file:///home/alice/.bashrc", b"file:///home/alice/.bashrc"),
        ("vos://a/top/d/file#symlink:../d/file", b"../d/file"),
        ("vos://a/top/d/file#symlink:/mnt/bob/d/file", b"../d/file"),
        ("vos://a/top/d/file#symlink:", b"../d/file"),
        ("vos://a/top/x#symlink:./../../y", b"../x"),
        ("vos://a/top/x#symlink:up/..", b"../x"),
        ("vos://b/x#symlink:/etc/passwd", b"vos://b/x#symlink:/etc/passwd"),
        ("vos://b/x#symlink:../../etc", b"vos%3A%2F%2Fb%2Fx%23symlink%3A..%2F..%2Fetc"),
        ("http://a/../../../etc", b"http%3A%2F%2Fa%2F..%2F..%2F..%2Fetc"),
    ],
)
def test_links_of_others_never_lead_out(uri: str, shown: bytes) -> None:
    assert LINKS.target_of(uri, ("e",), own=False) == shown


def test_links_lead_to_nodes_for_other_clients() -> None:
    assert LINKS.uri_of(b"../d/file", ("e",)).startswith("vos://a/top/d/file#")
    assert LINKS.uri_of(b"/mnt/x/d", ("e",)).startswith("vos://a/top/d#")
    assert LINKS.uri_of(b"../../y", ("e",)).startswith("file:///mnt/y#")
    assert LINKS.uri_of(b"ivo://other/node", ()) == "ivo://other/node"


def test_names_that_no_node_has() -> None:
    assert is_possible("ü %#?".encode())
    assert not any(map(is_possible, (b"\xff", b"a\nb", b".auto", b".null")))
    with pytest.raises(OSError, match="no UTF-8") as raised:
        text_of(b"\xff")
    assert raised.value.errno == errno.EILSEQ
    for act in (text_of, is_possible):
        with pytest.raises(OSError, match="no node") as raised:
            act(b"x" * 256)
        assert raised.value.errno == errno.ENAMETOOLONG


def test_attributes() -> None:
    assert property_of(attribute_of("ivo://ivoa.net/vospace/core#title")) == "ivo://ivoa.net/vospace/core#title"
    assert attribute_of(OWN + "mode") == b"user.vospace.ivo://pyvospace#mode"
    assert property_of(b"user.vospace.ivo%3A%2F%2Fpyvospace%23mode") == OWN + "mode"
    assert property_of(b"user.vospace.nonsense") is None
    assert property_of(b"security.selinux") is None


def entry(name: str = "f", *, etag: str = "1", when: int = 1, kind: NodeType = NodeType.DATA, size: int = 3) -> Entry:
    at = datetime.fromtimestamp(when, UTC)
    return Entry(name=name, type=kind, mtime=at, changed=at, length=size, etag=etag)


def now() -> float:
    return time.monotonic()


@pytest.fixture
def tree() -> Tree:
    return Tree(View(uid=7, gid=8, umask=0o077), LINKS)


def learnt(tree: Tree, told: Entry, asked: float | None = None) -> Inode:
    inode = tree.learn(tree.root, told.name.encode(), told, now() if asked is None else asked)
    assert inode is not None
    return inode


def test_what_the_kernel_is_told(tree: Tree) -> None:
    told = tree.told(learnt(tree, entry(size=1000)))
    assert (told.st_size, told.st_blocks, told.st_mtime_ns, told.st_uid, told.st_gid) == (1000, 2, 10**9, 7, 8)
    assert told.st_mode == stat.S_IFREG | 0o600
    assert told.attr_timeout == told.entry_timeout == 5.0


def test_other_bytes_are_another_inode_for_the_kernel(tree: Tree) -> None:
    first = learnt(tree, entry())
    assert learnt(tree, entry(etag="2")) is first  # the kernel knows nothing of it yet
    first.lookups += 1
    assert learnt(tree, entry(etag="2")) is first
    second = learnt(tree, entry(etag="3"))
    assert second is not first
    assert first.gone
    assert tree[first.number] is first  # who has it open goes on with it
    tree.forget(first.number, 1)
    with pytest.raises(KeyError):
        tree[first.number]


def test_what_was_done_here_is_newer_than_what_was_asked_before(tree: Tree) -> None:
    asked = now()
    learnt(tree, entry("gone"))
    tree.remove(tree.root.children[b"gone"])
    made = tree.add(tree.root, b"made", stat.S_IFREG)
    assert tree.learn(tree.root, b"gone", entry("gone"), asked) is None
    assert tree.listed(tree.root, [b"gone"], asked) == []
    assert tree.at(("made",)) is made
    assert learnt(tree, entry("gone")).name == b"gone"  # somebody has made it anew
    assert tree.listed(tree.root, [b"gone"], now()) == [made]


def test_renaming(tree: Tree) -> None:
    directory = tree.add(tree.root, b"d", stat.S_IFDIR)
    inode, there = tree.add(tree.root, b"a", stat.S_IFREG), tree.add(directory, b"b", stat.S_IFREG)
    tree.rename(inode, directory, b"b")
    assert inode.path == ("d", "b")
    assert there.gone
    assert tree.at(("a",)) is None
    assert tree.at(("d", "b")) is inode


def test_completeness_of_directories(tree: Tree) -> None:
    made = tree.add(tree.root, b"made", stat.S_IFDIR)
    found = learnt(tree, entry("found", kind=NodeType.CONTAINER))
    assert made.is_complete(now())
    assert not found.is_complete(now())
    assert not made.is_complete(now() + 6)
    tree.add(made, b"file", stat.S_IFREG)
    made.listed_until = now() - 1  # active, so believed for longer, but not for ever
    assert made.is_complete(now())
    made.listed_at = now() - 61
    assert not made.is_complete(now())


def test_whose_a_link_is(tree: Tree) -> None:
    link = replace(entry(kind=NodeType.LINK), target="file:///etc/hosts")
    for owner, shown in (("", b"/etc/hosts"), ("eve", b"file:///etc/hosts")):
        inode = learnt(tree, replace(link, owner=owner, name=f"of {owner}"))
        assert tree.shown_target(inode) == shown


def test_forgetting(tree: Tree) -> None:
    for number in range(10):
        learnt(tree, entry(f"f{number}")).fresh_until = 0
    kept = learnt(tree, entry("kept"))
    kept.lookups += 1
    kept.fresh_until = 0
    tree.sweep()
    assert len(tree) == 2
    assert not tree.root.is_complete(now())


async def test_a_task_that_comes_again_at_once_keeps_the_turn() -> None:
    lock, turns = _Lock(), []

    async def serve(name: str) -> None:
        for _ in range(3):
            async with lock:
                turns.append(name)
                if name == "other":
                    await asyncio.sleep(0)

    await asyncio.gather(serve("other"), serve("one"))
    assert len(turns) == 6
    assert "oneoneone" in "".join(turns)


async def test_requests_that_are_taken_back_are_not_read() -> None:
    readiness, (reading, writing) = _Readiness(), os.pipe()
    waiting = asyncio.create_task(readiness.wait(reading))
    await asyncio.sleep(0)
    os.write(writing, b"x")
    os.read(reading, 1)
    readiness._waiting[reading].set_result(None)  # as the loop does that has seen it before
    await asyncio.sleep(0.01)
    assert not waiting.done()
    os.write(writing, b"x")
    await asyncio.wait_for(waiting, 5)
    os.read(reading, 1)
    readiness.close(reading)
    with pytest.raises(pyfuse3.asyncio.ClosedResourceError):
        await readiness.wait(reading)
    os.close(reading)
    os.close(writing)


class Told:
    """A space that only hears what is said of nodes."""

    def __init__(self) -> None:
        self.heard: list[tuple[Names, dict[str, int]]] = []
        self.refusal: Fault | None = None

    async def describe(self, path: Names, kind: NodeType, **told: int) -> None:
        assert kind is NodeType.CONTAINER
        self.heard.append((path, told))
        if self.refusal is not None:
            raise self.refusal


async def test_what_belongs_together_is_told_at_once(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    descriptions = Descriptions(cast("Remote", told), rest=True)
    directories = [tree.add(tree.root, name, stat.S_IFDIR) for name in (b"a", b"b", b"c")]
    for directory in directories:
        await descriptions.describe(directory, mode=0o755)
        await descriptions.describe(directory, mtime_ns=5)
    assert all(one.unsent for one in directories)
    assert not told.heard
    tree.remove(directories[1])
    told.refusal = faults.NodeLocked("by somebody")
    await descriptions.settle()
    assert told.heard == [(("a",), {"mode": 0o755, "mtime_ns": 5}), (("c",), {"mode": 0o755, "mtime_ns": 5})]
    assert not any(one.unsent for one in directories)
    assert "by somebody" in caplog.text


async def test_who_may_not_write_hears_it_at_once(tree: Tree) -> None:
    told = Told()
    told.refusal = faults.PermissionDenied("not yours")
    directory = tree.add(tree.root, b"a", stat.S_IFDIR)
    for rest in (True, False):
        directory.writable = not rest
        with pytest.raises(faults.PermissionDenied):
            await Descriptions(cast("Remote", told), rest=rest).describe(directory, mode=0o700)


async def test_patience_begins_with_the_first_request() -> None:
    asked = []

    class Silent:
        async def entry(self, uri: NodeUri) -> Entry:
            asked.append(uri)
            await asyncio.sleep(0.02)  # a connection on which nothing comes
            raise ServiceUnreachable("silence")

    remote = Remote(cast("Space", Silent()), NodeUri("a"), 0.01)
    with pytest.raises(ServiceUnreachable):
        await remote.entry(())
    assert len(asked) == 1
    assert await remote.top() is None
