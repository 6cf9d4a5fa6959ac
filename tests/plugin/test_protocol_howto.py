"""The page on protocol servers shows the plugin that the tests run, and it is found like any installed plugin."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pyvospace.storage.protocols import load_protocols
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.doors.clients import negotiate, read_http
from tests.plugin.installing import install
from tests.storage.serving import make_settings
from tests.support.pair import Pair, free_ports, running_pair
from tests.support.postgres import PostgresServer

PLUGIN = Path(__file__).parent / "line-protocol"
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "protocol-server.md"
URI = "ivo://example.org/protocols#lines"


@pytest.fixture
def lines(postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    install(PLUGIN, tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{PLUGIN}")
    port = free_ports(1)[0]
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_STORAGE__PROTOCOLS": json.dumps({"lines": {"port": port}})}
        with running_pair(dsn, tmp_path, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


async def ask(pair: Pair, direction: str, line: str, body: bytes = b"", *, path: str = "f") -> bytes:
    """Negotiate, and send a request with the credential of the endpoint."""
    document = await asyncio.to_thread(negotiate, pair, direction, path, URI)
    [found] = re.findall("<vos:endpoint>(lines:[^<]*)<", document)
    url = urlsplit(found)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(line.format(f"{url.username} {url.password}").encode() + b"\n" + body)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_the_plugin_serves_transfers(lines: Pair) -> None:
    data = bytes(range(256)) * 20_000
    push, pull = "pushToVoSpace", "pullFromVoSpace"
    assert await ask(lines, push, f"PUT {{}} {len(data)}", data) == b"OK 5120000\n"
    assert await asyncio.to_thread(read_http, lines, "f") == data
    assert await ask(lines, pull, "GET {}") == b"OK 5120000\n" + data
    assert (await ask(lines, push, "PUT {} 5120001", data)).startswith(b"InvalidData ")
    assert (await ask(lines, push, "PUT {} 10", data)).startswith((b"InvalidData ", b"RequestEntityTooLarge "))
    assert (await ask(lines, push, "GET {}")).startswith(b"PermissionDenied ")
    assert (await ask(lines, pull, "GET x{}")).startswith(b"PermissionDenied ")
    assert (await ask(lines, pull, "HELLO")).startswith(b"InvalidArgument ")
    assert await asyncio.to_thread(read_http, lines, "f") == data
    assert "Traceback" not in lines.log("storage")


def test_wrong_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(PLUGIN, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.syspath_prepend(PLUGIN)
    for protocols, words in (
        ({"lines": {}}, "give port"),
        ({"pigeon": {}}, "no 'pigeon'; installed: lines"),
        ({"sftp": {"prot": 1}}, "does not know prot"),
        ({"sftp": {"port": "x"}}, "no number"),
    ):
        with pytest.raises(ValueError, match=words):
            load_protocols(make_settings(tmp_path, protocols=protocols))


def test_page_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    assert {name for name, _ in shown} == {"line_protocol.py", "setup.cfg"}
    for name, text in shown:
        assert text == (PLUGIN / name).read_text(), f"{PAGE} shows an old {name}"
