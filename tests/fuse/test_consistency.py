"""Two mounts of one space and a client of its own: what each sees of the others."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from pyvospace.client.sync import Space
from pyvospace.model.faults import NodeNotFound
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType
from tests.fuse.eventually import eventually
from tests.support.mounts import Mount, cleared, of_space
from tests.support.pair import Pair

TITLE = "ivo://ivoa.net/vospace/core#title"


class Both:
    """A folder of a space in two mounts, and by a client."""

    def __init__(self, one: Path, two: Path, space: Space, uri: str) -> None:
        self.one = one
        self.two = two
        self.space = space
        self.uri = uri

    def at(self, name: str) -> str:
        return f"{self.uri}/{name}"

    def stored(self, name: str) -> bytes:
        """Give the bytes that the space has."""
        return b"".join(self.space.read(self.at(name)))

    def names(self) -> set[str]:
        """Give the names that the space has."""
        return {entry.name for entry in self.space.entries(self.uri)}


@pytest.fixture(scope="module")
def mounts(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mount, Mount]]:
    """Of one user: the first sends what is closed after a moment, the second before close returns."""
    folder = tmp_path_factory.mktemp("mounts")
    one = of_space(pair, folder / "one", cache=folder / "cache", options=("--write-back", "0.3"))
    two = of_space(pair, folder / "two", cache=folder / "cache", options=("--write-back", "0"))
    with cleared(one), cleared(two):
        one.start()
        two.start()
        yield one, two


@pytest.fixture
def both(mounts: tuple[Mount, Mount], pair: Pair, request: pytest.FixtureRequest) -> Iterator[Both]:
    name = str(request.node.name).removeprefix("test_")[:60]
    with Space(pair.url, token=pair.token) as space:
        space.ensure_container(pair.uri(name))
        paths = [mount.path / name for mount in mounts]
        for path in paths:
            eventually(path.is_dir, expected=True)
        yield Both(paths[0], paths[1], space, pair.uri(name))


def test_what_one_closes_the_other_opens(both: Both) -> None:
    (both.one / "file").write_bytes(b"first")
    eventually((both.two / "file").read_bytes, b"first")
    (both.two / "file").write_bytes(b"second version")
    eventually((both.one / "file").read_bytes, b"second version")
    with (both.one / "file").open("ab") as file:
        file.write(b", and more")
    eventually((both.two / "file").read_bytes, b"second version, and more")
    assert both.stored("file") == b"second version, and more"


def test_without_write_back_a_closed_file_is_in_the_space(both: Both) -> None:
    (both.two / "file").write_bytes(b"at once")
    assert both.stored("file") == b"at once"
    (both.two / "file").write_bytes(b"again")
    assert both.stored("file") == b"again"


def test_times_and_modes_reach_the_other(both: Both) -> None:
    with (both.one / "file").open("wb") as file:
        file.write(b"x")
        file.flush()
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), ns=(10**18 + 123_456_000,) * 2)

    def seen() -> tuple[int, int, int]:
        found = (both.two / "file").stat()
        return found.st_size, found.st_mode & 0o777, found.st_mtime_ns

    eventually(seen, (1, 0o640, 10**18 + 123_456_000))


def test_new_bytes_of_somebody_else_are_seen(both: Both) -> None:
    size = 5 << 20
    both.space.push(b"a" * size, both.at("file"))
    eventually((both.one / "file").read_bytes, b"a" * size)
    both.space.push(b"b" * size, both.at("file"))
    eventually((both.one / "file").read_bytes, b"b" * size)
    both.space.push(b"short", both.at("file"))
    eventually((both.one / "file").read_bytes, b"short")
    assert (both.one / "file").stat().st_size == 5


def test_an_open_file_is_of_one_version(both: Both) -> None:
    size = 9 << 20
    both.space.push(b"a" * size, both.at("file"))
    eventually(lambda: (both.one / "file").stat().st_size, size)
    with (both.one / "file").open("rb", buffering=0) as file:
        assert file.read(10) == b"a" * 10
        both.space.push(b"b" * size, both.at("file"))
        eventually((both.two / "file").read_bytes, b"b" * size)
        found, told = set(), 0
        try:
            for offset in range(0, size, 1 << 20):
                found |= set(os.pread(file.fileno(), 1 << 20, offset))
        except OSError as error:
            told = error.errno or 0
        assert found <= {ord("a")}
        assert told in {0, errno.ESTALE}


def test_names_that_come_and_go(both: Both) -> None:
    assert os.listdir(both.one) == []
    both.space.push(b"x", both.at("new"))
    both.space.ensure_container(both.at("container"))
    both.space.link(both.at("new"), both.at("link"))
    eventually(lambda: sorted(os.listdir(both.one)), ["container", "link", "new"])
    assert (both.one / "link").read_bytes() == b"x"
    both.space.delete_node(both.at("new"))
    both.space.move(both.at("container"), both.at("renamed"))
    eventually(lambda: sorted(os.listdir(both.one)), ["link", "renamed"])
    eventually((both.one / "new").exists, expected=False)
    eventually((both.one / "link").exists, expected=False)


def test_a_name_that_was_looked_for_in_vain_comes(both: Both) -> None:
    assert not (both.one / "late").exists()
    (both.two / "late").write_bytes(b"here")
    eventually((both.one / "late").read_bytes, b"here")
    (both.two / "late").unlink()
    eventually((both.one / "late").exists, expected=False)


def test_properties_are_extended_attributes(both: Both) -> None:
    both.space.push(b"x", both.at("file"))
    uri = NodeUri.parse(both.at("file"))
    both.space.set_node(Node(uri, NodeType.DATA, properties=(Property(TITLE, "of the space"),)))
    assert os.getxattr(both.one / "file", "user.vospace.title") == b"of the space"
    os.setxattr(both.one / "file", "user.vospace.title", "geändert".encode())
    assert both.space.get_node(uri).value(TITLE) == "geändert"
    os.removexattr(both.one / "file", "user.vospace.title")
    assert both.space.get_node(uri).value(TITLE) is None


def conflicts(names: set[str]) -> set[str]:
    """Give the names of versions that were kept beside, and check that they are such."""
    kept = names - {"file.txt"}
    assert all(re.fullmatch(r"file\.conflict-alice-\d{8}T\d{6}Z(-\d+)?\.txt", name) for name in kept), kept
    return kept


def test_the_version_of_the_loser_is_kept_beside(both: Both, mounts: tuple[Mount, Mount]) -> None:
    both.space.push(b"base", both.at("file.txt"))
    eventually((both.one / "file.txt").read_bytes, b"base")
    with (both.one / "file.txt").open("r+b", buffering=0) as file:
        file.write(b"LOSE")
        both.space.push(b"the winner", both.at("file.txt"))
    eventually(lambda: len(both.names()), 2)
    (kept,) = conflicts(both.names())
    assert both.stored("file.txt") == b"the winner"
    assert both.stored(kept) == b"LOSE"
    eventually((both.one / "file.txt").read_bytes, b"the winner")
    eventually(lambda: set(os.listdir(both.one)), {"file.txt", kept})
    eventually((both.two / kept).read_bytes, b"LOSE")
    assert kept in mounts[0].log()


def test_two_new_files_of_one_name_are_both_kept(both: Both) -> None:
    with (both.one / "file.txt").open("wb", buffering=0) as one, (both.two / "file.txt").open("wb", buffering=0) as two:
        one.write(b"one")
        two.write(b"two")
    eventually(lambda: len(both.names()), 2)
    (kept,) = conflicts(both.names())
    assert {both.stored("file.txt"), both.stored(kept)} == {b"one", b"two"}


def test_a_file_that_somebody_deleted_while_it_was_written_is_kept(both: Both) -> None:
    both.space.push(b"base", both.at("file.txt"))
    eventually((both.one / "file.txt").read_bytes, b"base")
    with (both.one / "file.txt").open("r+b", buffering=0) as file:
        file.write(b"KEEP")
        both.space.delete_node(both.at("file.txt"))
    eventually(lambda: len(both.names()), 1)
    (name,) = both.names()
    assert name == "file.txt" or conflicts({name})
    assert both.stored(name) == b"KEEP"


def test_many_entries_are_listed_and_found(both: Both, pair: Pair) -> None:
    container = both.uri.rsplit("/", 1)[-1]
    fill(pair, container, 10_000)
    expected = {f"observation {number:07}.fits" for number in range(1, 10_001)}
    eventually(lambda: set(os.listdir(both.one)), expected)
    assert {entry.name for entry in os.scandir(both.two) if entry.stat().st_size == 0} == expected
    (both.two / "observation 0000007.fits").unlink()
    (both.two / "observation 0005000.fits").rename(both.two / "renamed")
    assert set(os.listdir(both.two)) == (
        expected - {"observation 0000007.fits", "observation 0005000.fits"} | {"renamed"}
    )
    with pytest.raises(NodeNotFound):
        both.space.get_node(both.at("observation 0000007.fits"))


def fill(pair: Pair, container: str, number: int) -> None:
    """Create so many data nodes in the database: nobody reads their bytes."""

    async def work() -> None:
        connection = await asyncpg.connect(pair.dsn)
        try:
            await connection.execute(
                "insert into nodes (parent_id, name, type, owner_id)"
                " select id, 'observation ' || to_char(i, 'FM0000000') || '.fits', 'DataNode', owner_id"
                " from nodes, generate_series(1, $2) as i where name = $1",
                container,
                number,
            )
        finally:
            await connection.close()

    asyncio.run(work())
