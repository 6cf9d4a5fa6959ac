"""Mounts for tests, real ones: one for all tests of a module."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Mount, cleared, of_space, passthrough
from tests.support.pair import Pair

# It looks at what pyfuse3 is given; the tests of mounts say that it is missing.
collect_ignore = [] if importlib.util.find_spec("pyfuse3") else ["test_knowledge.py"]
OVER = os.environ.get("PYVOSPACE_FUSE_OVER", "space")
"""`passthrough`: the tests of one mount run against a local directory, to show that the tests are right."""


@pytest.fixture(scope="module")
def mount(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """The home of a user, mounted."""
    folder = tmp_path_factory.mktemp("mount")
    if OVER == "passthrough":
        made = passthrough(folder / "passthrough")
    else:
        made = of_space(request.getfixturevalue("pair"), folder)
    with cleared(made):
        made.start()
        yield made


@pytest.fixture
def here(mount: Mount, request: pytest.FixtureRequest) -> Path:
    """A new directory in the mount."""
    module = request.node.path.stem
    path = mount.path / f"{module} {re.sub(r'[^a-z0-9 ]', ' ', request.node.name.lower())}"[:200]
    path.mkdir()
    return path


@pytest.fixture
def of_pair(pair: Pair) -> Pair:
    """The servers behind the mount, for tests that look there too."""
    if OVER == "passthrough":
        pytest.skip("a passthrough has no servers")
    return pair
