"""The client and the command line over TLS, against a real pair."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pyvospace.cli.main import run
from pyvospace.client import ServiceUnreachable, Space
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.client.double import QUICK
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return tmp_path / "ca.pem"


@pytest.fixture
def secure(postgres_server: PostgresServer, tmp_path: Path, ca_file: Path) -> Iterator[Pair]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    issued = authority.issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(cert, append=True)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context(cafile=str(ca_file))
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path, storage_dsn=storage_dsn, tls=(cert, key), context=context) as pair:
            yield pair


async def test_there_and_back(secure: Pair, ca_file: Path, tmp_path: Path) -> None:
    content = bytes(range(256)) * 30_000
    (tmp_path / "file").write_bytes(content)
    async with Space(secure.url, token=secure.token, home=secure.home, ca_file=ca_file) as space:
        await space.push(tmp_path / "file", "vos:file")
        await space.pull("vos:file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    async with Space(secure.url, token=secure.token, retry=QUICK) as stranger:
        with pytest.raises(ServiceUnreachable, match="certificate"):
            await stranger.authority()


def test_commands(
    secure: Pair,
    ca_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {
        "VOSPACE_URL": secure.url,
        "VOSPACE_TOKEN": secure.token,
        "VOSPACE_HOME": secure.home,
        "VOSPACE_CLIENT_CONFIG": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_bytes(b"bytes")
    assert run(["cp", str(tmp_path / "file"), "vos:file"]) == 8
    assert "--ca-file or SSL_CERT_FILE" in capsys.readouterr().err
    assert run(["cp", "--ca-file", str(ca_file), str(tmp_path / "file"), "vos:file"]) == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert run(["cp", "vos:file", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back").read_bytes() == b"bytes"
