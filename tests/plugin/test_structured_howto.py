"""The page on structured data shows the plugin that the tests run, in both servers, found like any installed one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from pyvospace.structures.installed import structured_types
from pyvospace.supervisor.data import STORAGE_ROLE
from pyvospace.wire.xml import V
from tests.plugin.installing import install
from tests.support.agents import Agent, endpoints_of, type_of, uri_of
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "csv-tables"
PAGE = ROOT / "docs" / "howto" / "structured-data.md"
VIEWS = "https://example.org/views#"
CORE = "ivo://ivoa.net/vospace/core#"
TABLE = b"name,ra\n" + b"".join(b"star %d,%d\n" % (number, number) for number in range(1000))


@pytest.fixture
def pair_with_plugin(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    """Both servers, on a machine where the plugin is installed."""
    install(PLUGIN, tmp_path / "site")
    environment = {"PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(PLUGIN)))}
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


@pytest.fixture
async def alice(pair_with_plugin: Pair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Agent(session, pair_with_plugin, pair_with_plugin.token)


async def test_servers_with_the_plugin(alice: Agent) -> None:
    home = alice.pair.home
    path = await alice.make(f"{home}/stars.csv", "StructuredDataNode")
    await alice.push(path, TABLE, Content_Type="text/csv")
    node = await alice.node(path)
    provides = [one.get("uri") for one in node.iterfind(f"{V}provides/{V}view")]
    assert provides == [CORE + "defaultview", CORE + "binaryview", VIEWS + "csv-columns", VIEWS + "csv-rows"]
    asked = {
        "TARGET": uri_of(path),
        "DIRECTION": "pullFromVoSpace",
        "PROTOCOL": CORE + "httpsget",
        "VIEW": VIEWS + "csv-rows",
        "FIRST": "500",
        "COUNT": "2",
    }
    answer = await alice.send("GET", f"/synctrans?{urlencode(asked, quote_via=quote)}")
    answer = await alice.send("GET", answer.assert_status(303).location)
    assert answer.body == b"name,ra\nstar 500,500\nstar 501,501\n"
    assert answer.headers["Content-Type"] == "text/csv"
    assert 'filename="stars.rows.csv"' in answer.headers["Content-Disposition"]
    answer = await alice.sync(f"{home}/new.csv", "pushToVoSpace", CORE + "httpsput", view=VIEWS + "csv")
    (endpoint,) = endpoints_of((await alice.send("GET", answer.assert_status(303).location)).xml)
    for refused in (b"a,b\n\0", b"a,b\n"):  # no text; not said to be one
        (await alice.send("PUT", endpoint, refused)).assert_fault(400, "InvalidData")
    (await alice.send("PUT", endpoint, b"a,b\n", headers={"Content-Type": "text/csv"})).assert_status(201)
    assert type_of(await alice.node(f"{home}/new.csv")) == "StructuredDataNode"


def test_type_that_cannot_be_loaded_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(PLUGIN, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setitem(sys.modules, "csv_tables", None)  # it cannot be imported
    structured_types.cache_clear()
    try:
        assert {"fits", "votable"} <= set(structured_types())
        assert "csv" not in structured_types()
        assert "the structured type csv cannot be loaded" in caplog.text
    finally:
        structured_types.cache_clear()


def test_page_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    assert {name for name, _ in shown} == {"csv_tables.py", "test_csv_tables.py", "setup.cfg"}
    for name, text in shown:
        assert text == (PLUGIN / name).read_text(), f"{PAGE} shows an old {name}"
