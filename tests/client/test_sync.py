"""The client for programs without coroutines."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from pyvospace.client import Access
from pyvospace.client.sync import Space
from pyvospace.model.faults import NodeNotFound
from pyvospace.model.nodes import Node, Property
from pyvospace.model.vocabulary import CORE, NodeType
from tests.support.pair import Pair


@pytest.fixture
def access(pair: Pair) -> Access:
    return Access(url=pair.url, token=pair.token, authority=pair.authority, home=pair.home)


def test_all_operations(access: Access, tmp_path: Path) -> None:
    with Space.of(access) as space:
        folder = space.uri(f"vos:{uuid4().hex}")
        assert space.authority() == folder.authority
        space.ensure_container(folder.child("deep"), parents=True)
        assert space.create_node(Node(folder.child("node"), NodeType.DATA)).type is NodeType.DATA
        space.set_node(Node(folder, NodeType.CONTAINER, (Property(CORE + "title", "x"),)))
        assert space.get_node(folder).value(CORE + "title") == "x"
        (tmp_path / "file").write_bytes(b"path")
        for content, source in (
            (b"bytes", b"bytes"),
            (b"path", tmp_path / "file"),
            (b"file", io.BytesIO(b"file")),
            (b"iterable", iter([b"iter", b"able"])),
        ):
            assert space.push(source, folder.child("x")).size == len(content)
            assert b"".join(space.read(folder.child("x"))) == content
        assert b"".join(space.read(folder.child("x"), start=1, stop=3)) == b"te"
        space.pull(folder.child("x"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"iterable"
        space.link(folder.child("x"), folder.child("link"))
        assert space.follow(space.get_node(folder.child("link"))).uri == folder.child("x")
        assert [child.uri.name for child in space.list(folder)] == ["deep", "link", "node", "x"]
        next(iter(space.list(folder)))
        space.delete_node(folder)
        assert space.find(folder) is None
        with pytest.raises(NodeNotFound):
            space.get_node(folder)
    space.close()


def test_several_threads(access: Access) -> None:
    found: list[int] = []
    with Space.of(access) as space:
        folder = space.uri(f"vos:{uuid4().hex}")
        space.ensure_container(folder)

        def work(number: int) -> None:
            space.push(b"x" * number, folder.child(str(number)))
            found.append(len(b"".join(space.read(folder.child(str(number))))))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == list(range(8))
