"""fsck at the prompt, against a pair that runs: what it finds, what clients see meanwhile, and a kill in its middle."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pyvospace.cli.main import run
from pyvospace.client.sync import Space
from pyvospace.model.crash import VARIABLE
from pyvospace.model.faults import InternalFault
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

INTEGRITY = "ivo://pyvospace#integrity"


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair of our own, whose store is damaged."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path_factory.mktemp("pair"), storage_dsn=storage_dsn) as running:
            yield running


@pytest.fixture
def space(pair: Pair) -> Iterator[Space]:
    with Space(pair.url, token=pair.token, authority=pair.authority, home=pair.home) as opened:
        yield opened


@pytest.fixture(autouse=True)
def environment(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in pair.server_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYVOSPACE_STORAGE__SWEEP_GRACE", "0.001")


def fetch(pair: Pair, statement: str) -> list[Any]:
    async def work() -> list[Any]:
        connection = await asyncpg.connect(pair.dsn)
        try:
            return [row[0] for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(work())


def put(pair: Pair, space: Space, name: str, data: bytes) -> Path:
    """Store bytes; give the file that holds them."""
    space.push(data, space.uri(f"vos:{name}"))
    (location,) = fetch(pair, f"select location from nodes where name = '{name}'")
    return Path(pair.data / "storage" / "data" / location)


def integrity(space: Space, name: str) -> str:
    found = space.get_node(space.uri(f"vos:{name}")).properties
    return next((one.value or "" for one in found if one.uri == INTEGRITY), "")


def read(space: Space, name: str) -> bytes:
    return b"".join(space.read(space.uri(f"vos:{name}")))


def test_damaged_bytes_are_told_entered_and_not_served(
    pair: Pair, space: Space, capfd: pytest.CaptureFixture[str]
) -> None:
    file = put(pair, space, "damaged", b"good")
    assert run(["fsck"]) == 0
    assert run(["fsck", "--storage"]) == 0
    capfd.readouterr()
    file.write_bytes(b"short"[:3])
    assert run(["fsck", "--storage", "--json"]) == 1
    (found,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert found["kind"] == "size"
    assert found["path"] == f"{pair.home}/damaged"
    assert found["outcome"] is None
    assert run(["fsck", "--storage", "--quarantine", "--quiet"]) == 1
    assert capfd.readouterr().out == ""
    assert run(["fsck", "--storage"]) == 0
    assert run(["fsck"]) == 0
    assert "1 places of bytes are known to be damaged" in capfd.readouterr().err
    with pytest.raises(InternalFault, match="no other copy"):
        read(space, "damaged")
    assert integrity(space, "damaged").startswith("damaged size ")
    assert fetch(pair, "select name from audit where action = 'findDamage'") == ["(operator)"]
    assert run(["fsck", "--storage", "--clear"]) == 1
    file.write_bytes(b"good")
    assert run(["fsck", "--storage", "--clear"]) == 0
    assert read(space, "damaged") == b"good"
    file.unlink()
    assert run(["fsck", "--storage", "--repair"]) == 1
    put(pair, space, "damaged", b"new")
    assert read(space, "damaged") == b"new"
    assert integrity(space, "damaged") == ""


def test_what_cannot_be_served_is_damaged_from_then_on(pair: Pair, space: Space) -> None:
    file = put(pair, space, "truncated", b"x" * 100_000)
    os.truncate(file, 99_999)
    with pytest.raises(InternalFault):
        read(space, "truncated")
    end = time.monotonic() + 30
    while not integrity(space, "truncated").startswith("damaged size "):
        assert time.monotonic() < end
        time.sleep(0.05)
    put(pair, space, "truncated", b"y")


@pytest.mark.parametrize("place", ["repair-mid", "fsck-mid"])
def test_a_kill_in_the_middle_of_a_repair(pair: Pair, space: Space, place: str) -> None:
    """Nothing is half done; the next run does it, and the one after that finds nothing."""
    put(pair, space, "kept", b"kept")
    catalogue = place == "repair-mid"
    stray = pair.data / "storage" / "data" / "abc" / ("0" * 32)
    if catalogue:
        fetch(pair, "insert into policies values (999999, 'x', 1, 0, 0, 0)")
    else:
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"?")
    words = ["fsck", "--repair"] if catalogue else ["fsck", "--storage", "--repair"]
    if not catalogue:
        assert run(words) == 1  # what nobody names is suspected from now on
        assert stray.exists()
    command = [sys.executable, "-m", "pyvospace", *words]
    fallen = subprocess.run(command, env={**os.environ, VARIABLE: place}, check=False)
    assert fallen.returncode == -9
    if catalogue:
        assert fetch(pair, "select container_id from policies where container_id = 999999") == [999999]
    assert run(words) == (1 if catalogue else 0)
    assert run(words) == 0
    assert read(space, "kept") == b"kept"


def test_options_that_do_not_go_together(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["--repair", "--clear", "--storage"], ["--quarantine"], ["--clear"]):
        assert run(["fsck", *words]) == 2
        assert capfd.readouterr().err.startswith("pyvospace: InvalidArgument")
