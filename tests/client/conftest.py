from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from pyvospace.client import Space
from pyvospace.model.uris import NodeUri
from tests.client.double import Double
from tests.support.pair import Pair


@pytest.fixture
async def space(pair: Pair) -> AsyncIterator[Space]:
    async with Space(pair.url, token=pair.token, authority=pair.authority, home=pair.home) as made:
        yield made


@pytest.fixture
async def folder(space: Space) -> NodeUri:
    """A container of this test alone."""
    uri = await space.uri(f"vos:{uuid4().hex}")
    await space.ensure_container(uri)
    return uri


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    made = Double()
    await made.start()
    yield made
    await made.stop()
