"""cp from the web and to it, run as a user runs it: the service carries the bytes, and Ctrl-C stops it."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from pyvospace.client import Space
from pyvospace.model.vocabulary import Phase
from tests.e2e.test_third_party import DATA, Far, far_side, own_pair
from tests.support.pair import Pair

__all__ = ["own_pair"]


class Terminal:
    """Runs commands with standard error on a terminal."""

    def __init__(self, pair: Pair, home: str) -> None:
        self._environment = {
            **os.environ,
            "TERM": "xterm",
            "COLUMNS": "120",
            "VOSPACE_URL": pair.url,
            "VOSPACE_TOKEN": pair.token,
            "VOSPACE_AUTHORITY": pair.authority,
            "VOSPACE_HOME": home,
            "VOSPACE_CLIENT_CONFIG": "/nonexistent",
        }
        self.shown = b""

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pyvospace", *arguments, env=self._environment, stderr=theirs, stdout=-1
        )
        os.close(theirs)
        self.reading = asyncio.create_task(asyncio.to_thread(self._read, ours))
        return process

    def _read(self, descriptor: int) -> None:
        try:
            while piece := os.read(descriptor, 1 << 16):
                self.shown += piece
        except OSError:  # the other side is closed
            pass
        finally:
            os.close(descriptor)


@pytest.fixture
async def space(own_pair: Pair) -> AsyncIterator[Space]:
    home = f"{own_pair.home}/{uuid4().hex}"
    async with Space(own_pair.url, token=own_pair.token, authority=own_pair.authority, home=home) as made:
        await made.ensure_container("vos:")
        yield made


@pytest.fixture
async def terminal(own_pair: Pair, space: Space) -> Terminal:
    return Terminal(own_pair, f"/{'/'.join((await space.uri('vos:')).path)}")


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    async with far_side() as made:
        yield made


async def test_cp_from_the_web_shows_how_far_it_is(space: Space, terminal: Terminal, far: Far) -> None:
    process = await terminal.start("cp", far.url, "vos:")
    while b" MB of 12.8 MB" not in terminal.shown:
        await asyncio.sleep(0.05)
    far.go_on.set()
    assert await process.wait() == 0
    assert b"".join([piece async for piece in space.read("vos:file")]) == DATA
    await terminal.reading


async def test_ctrl_c_stops_the_service_too(space: Space, terminal: Terminal, far: Far) -> None:
    process = await terminal.start("cp", far.url, "vos:named")
    await far.begun.wait()
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130, terminal.shown
    await far.left.wait()
    assert await space.find("vos:named") is None
    (job,) = [await space.job(one.url) for one in await space.jobs(last=1)]
    assert job.phase is Phase.ABORTED
    await terminal.reading


async def test_cp_to_the_web_and_in_the_background(space: Space, terminal: Terminal, far: Far) -> None:
    await space.push(DATA, "vos:file")
    process = await terminal.start("cp", "--background", "vos:file", far.url)
    out, _ = await process.communicate()
    assert process.returncode == 0, terminal.shown
    far.go_on.set()
    assert (await space.wait(out.decode().strip())).phase is Phase.COMPLETED
    assert far.got == DATA
    await terminal.reading
