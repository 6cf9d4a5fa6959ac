"""`pyvospace login --oidc`: a real provider, a real pair, and nobody at the browser but us."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.provider import AUDIENCE, Browser, Provider, new_key, running_provider


@pytest.fixture(scope="module")
def both(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Provider]]:
    directory = tmp_path_factory.mktemp("login")
    with running_provider(directory, [new_key("one")]) as provider, postgres_server.clone() as name:
        told = {"issuer": provider.url, "audience": [AUDIENCE], "plain_http": True, "provision": True}
        told |= {"login_client": "native", "login_scopes": ["openid", "offline_access", "vos.read", "vos.write"]}
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_OIDC": json.dumps([told])}
        with running_pair(dsn, directory, storage_dsn=storage_dsn, environment=environment) as pair:
            yield pair, provider


@pytest.fixture
def environment(both: tuple[Pair, Provider], tmp_path: Path) -> dict[str, str]:
    """Of somebody who knows nothing but where the space is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYVOSPACE_", "VOSPACE_"))}
    return {**kept, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "conf"), "VOSPACE_URL": both[0].url}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyvospace", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def log_in(environment: dict[str, str], account: str) -> tuple[int, str]:
    """Run the command, and do in a browser what it says."""
    command = [sys.executable, "-m", "pyvospace", "login", "--oidc"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        threading.Timer(60, process.kill).start()
        assert process.stderr is not None
        told = process.stderr.readline()
        url = re.search(r"open (\S+) in a browser", told)
        assert url, told + process.stderr.read()
        Browser().sign_in(url[1], account)
        rest = process.stderr.read()
    return process.returncode, rest


def test_login_keeps_itself_and_ends(both: tuple[Pair, Provider], environment: dict[str, str], tmp_path: Path) -> None:
    pair, provider = both
    provider.know("lena", preferred_username="lena")
    code, told = log_in(environment, "lena")
    assert code == 0, told
    assert f"logged in at {pair.url} as lena" in told
    kept = tmp_path / "conf" / "pyvospace" / "logins.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert run(environment, "ls", "vos:/home/lena").returncode == 0
    # The token has ended: the next command gets another one, and everything that it needs for the one after.
    logins = json.loads(kept.read_text())
    for _ in range(2):
        logins = json.loads(kept.read_text())
        old = dict(logins[pair.url])
        logins[pair.url] |= {"token": "not.any.more", "expires": 1}
        kept.write_text(json.dumps(logins))
        assert run(environment, "ls", "vos:/home/lena").returncode == 0
        new = json.loads(kept.read_text())[pair.url]
        assert new["token"] not in {"not.any.more", old["token"]}
        assert new["refresh_token"] != old["refresh_token"]
    # A credential of the environment comes first, and the login is not shown to another service.
    assert run({**environment, "VOSPACE_TOKEN": "wrong"}, "ls", "vos:/home/lena").returncode == 5
    assert run(environment, "ls", "--url", pair.url + "/other", "vos:/").returncode != 0
    logins[pair.url] |= {"expires": 1, "refresh_token": "spent"}
    kept.write_text(json.dumps(logins))
    ended = run(environment, "ls", "vos:/home/lena")
    assert (ended.returncode, "has ended: pyvospace login" in ended.stderr) == (5, True)
    assert run(environment, "logout").returncode == 0
    assert pair.url not in kept.read_text()
    assert run(environment, "ls", "vos:/home/lena").returncode == 5


def test_who_gives_no_provider_hears_it(pair: Pair, environment: dict[str, str]) -> None:
    told = run({**environment, "VOSPACE_URL": pair.url}, "login", "--oidc")
    assert told.returncode != 0
    assert "names no OpenID provider" in told.stderr
