"""Foreign clients of TUS, each with an upload that is cut ten times."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import aiotus
import pytest
from tusclient.client import TusClient

from pyvospace.model.vocabulary import TUS, Direction
from tests.support.agents import Agent
from tests.support.resumable import CutPair

# What broken connections leave behind in other people's code is theirs.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
CUTS = 10
PACKAGES = Path(".venv/tus/node_modules")
SCRIPT = """
import fs from "node:fs"
import { Upload } from "tus-js-client"
const [endpoint, path] = process.argv.slice(2)
const upload = new Upload(fs.createReadStream(path), {
  endpoint,
  uploadSize: fs.statSync(path).size,
  chunkSize: 100 * 1024 * 1024,
  retryDelays: Array(40).fill(0),
  metadata: { filename: "another name", filetype: "image/fits" },
  onError: (error) => { console.error(String(error)); process.exit(1) },
  onSuccess: () => console.log("done"),
})
upload.start()
"""


@pytest.fixture(autouse=True)
def left_open() -> Iterator[None]:
    """Have files closed here that a client leaves open: later tests would be blamed for them."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large"
    path.write_bytes(os.urandom((6 << 20) + 12345))
    return path


@pytest.fixture
async def cut(cut_pair: CutPair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, cut_pair, cut_pair.token)
        cut_pair.proxy.cut(0, after=0)


async def begin(agent: Agent, cut_pair: CutPair, name: str) -> tuple[str, str]:
    """Give the path of a node, and where an upload for it begins; connections are cut from now on."""
    path = f"{cut_pair.home}/{name}"
    _, endpoint = await agent.negotiate(path, Direction.PUSH_TO_VOSPACE, TUS)
    cut_pair.proxy.cut(CUTS, after=500_000)
    return path, endpoint


async def check(agent: Agent, cut_pair: CutPair, path: str, large: Path, content_type: str = "") -> None:
    """Fail unless the node has the bytes, and the way was cut as often as was wanted."""
    assert cut_pair.proxy.made == CUTS
    _, endpoint = await agent.negotiate(path, Direction.PULL_FROM_VOSPACE)
    answer = (await agent.send("GET", endpoint)).assert_status(200)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(large.read_bytes()).digest()
    assert content_type in answer.headers["Content-Type"]


async def test_tuspy(cut: Agent, cut_pair: CutPair, large: Path) -> None:
    path, endpoint = await begin(cut, cut_pair, "tuspy")
    uploader = TusClient(endpoint).uploader(str(large), retries=2 * CUTS, retry_delay=0)
    await asyncio.to_thread(uploader.upload)
    await check(cut, cut_pair, path, large)


async def test_aiotus(cut: Agent, cut_pair: CutPair, large: Path) -> None:
    path, endpoint = await begin(cut, cut_pair, "aiotus")
    patience = aiotus.RetryConfiguration(retry_attempts=2 * CUTS, max_retry_period_seconds=0.1)
    with large.open("rb") as file:
        assert await aiotus.upload(endpoint, file, {"filetype": b"image/fits"}, config=patience) is not None
    await check(cut, cut_pair, path, large, "image/fits")


@pytest.mark.skipif(not PACKAGES.exists() or not shutil.which("node"), reason="no tus-js-client: see ./dev")
async def test_tus_js_client(cut: Agent, cut_pair: CutPair, large: Path, tmp_path: Path) -> None:
    path, endpoint = await begin(cut, cut_pair, "tus-js")
    (tmp_path / "upload.mjs").write_text(SCRIPT)
    (tmp_path / "node_modules").symlink_to(PACKAGES.resolve())
    command = ["node", str(tmp_path / "upload.mjs"), endpoint, str(large)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    await check(cut, cut_pair, path, large, "image/fits")
