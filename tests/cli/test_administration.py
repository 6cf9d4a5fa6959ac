"""Commands of administration, at the service and at its database: the same commands, the same answers."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from pyvospace.cli.quantities import write_size
from pyvospace.cli.reach import Reach
from pyvospace.model.faults import InvalidArgument
from tests.cli.conftest import Shell
from tests.support.pair import PREFIXES, Pair


@pytest.fixture
def name() -> str:
    """Give the name of somebody, or of a group, that is not there yet."""
    return f"u{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["service", "database"])
def chief(request: pytest.FixtureRequest, shell: Shell, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Give the shell of an administrator, or of whoever may read the settings."""
    if request.param == "service":
        monkeypatch.setenv("VOSPACE_TOKEN", pair.admin_token)
    else:
        monkeypatch.setenv("PYVOSPACE_DATABASE__DSN", pair.dsn)
        monkeypatch.setenv("PYVOSPACE_DATABASE__CHECK_DURABILITY", "false")
    return shell


def found(shell: Shell, *words: str) -> Any:
    return json.loads("\n".join(shell.lines(*words, "--json")))


def test_users_and_their_identities(chief: Shell, name: str) -> None:
    chief.lines("user", "add", name)
    assert chief("user", "add", name) == 4
    assert chief("user", "add", "anonymous") == 2, "who is not logged in is called so"
    assert chief.lines("user", "home", name) == [f"vos://{chief.home.authority}/home/{name}"]
    chief.lines("user", "link", name, "--oidc", "https://id.example.org", name)
    chief.lines("user", "link", name, "--x509", f"/C=XX/CN={name}")
    assert chief("user", "link", name, "--x509", f"CN={name},C=XX") == 4
    shown = found(chief, "user", "show", name)
    assert [one["kind"] for one in shown["identities"]] == ["oidc", "x509"]
    chief.lines("user", "unlink", name, "--oidc", "https://id.example.org", name)
    chief.lines("user", "unlink", name, "--x509", f"/C=XX/CN={name}")
    assert chief("user", "unlink", name, "--x509", f"/C=XX/CN={name}") == 3
    assert found(chief, "user", "show", name)["identities"] == []
    assert chief("user", "link", name) == 2
    chief.lines("user", "promote", name)
    assert f"{name} admin" in chief.lines("user", "list")
    chief.lines("user", "promote", name, "--off")
    chief.lines("user", "disable", name)
    assert chief.lines("user", "show", name)[0] == f"{name} disabled"


def test_quotas_and_allocations(chief: Shell, name: str) -> None:
    made = found(chief, "allocate", f"/{name}", "--owner", "alice", "--quota", "10T", "--nodes", "5")
    assert made["quota"]["bytes"] == 10 << 40
    assert f"/{name}\talice\t0 of 10.0T, 0 of 5 nodes" in chief.lines("allocate", f"/{name}")[0]
    assert chief.lines("quota", "set", f"/{name}", "--quota", "1G") == ["0 of 1.0G, 0 nodes"]
    assert f"container\t/{name}\t0 of 1.0G, 0 nodes" in chief.lines("quota", "list")
    assert [one for one in chief.lines("allocations") if f"/{name}\t" in one]
    chief.lines("quota", "remove", f"/{name}")
    assert chief.lines("quota", "show", f"/{name}") == ["0, 0 nodes"]
    assert chief("quota", "show") == 2
    assert chief("quota", "set", f"/{name}", "--quota", "much") == 2
    assert chief("quota", "show", "--user", name) == 3
    assert chief("quota", "set", f"/{name}") == 2
    assert chief("quota", "set", name, "--quota", "1G") == 2
    assert chief.lines("quota", "set", f"vos:/{name}", "--nodes", "7") == ["0, 0 of 7 nodes"]
    assert chief("allocate", f"/{name}", "--group-write", "nebulae") == 2


def test_storages_jobs_and_state(chief: Shell) -> None:
    (storage,) = chief.lines("storages", "list")
    assert storage.endswith("there")
    number = storage.partition("\t")[0]
    assert chief("storages", "forget", number) == 2
    assert any(line.startswith("to move\t0") for line in chief.lines("storages", "show", number))
    chief.lines("storages", "activate", number)
    chief.lines("queue", "list", "--user", "alice", "--phase", "executing")
    assert chief("queue", "abort", "0" * 40) == 3
    assert found(chief, "state")["state"] == "read-write"


def test_groups(chief: Shell, name: str) -> None:
    chief.lines("group", "add", name, "--owner", "alice")
    assert chief("group", "add", name) == 4
    chief.lines("group", "join", name, "alice")
    assert chief.lines("group", "members", name) == ["alice"]
    assert f"{PREFIXES[0]}{name}\talice\t1 members" in chief.lines("group", "list", "--all")
    chief.lines("group", "give", name, "admin")
    chief.lines("group", "leave", name, "alice")
    assert chief("group", "give", "none", "admin") == 3
    chief.lines("group", "remove", name)
    assert chief("group", "members", name) == 3


def test_a_user_asks_the_service(shell: Shell, pair: Pair) -> None:
    assert found(shell, "whoami")["name"] == pair.user
    assert f"home\tvos://{pair.authority}{pair.home}" in shell.lines("whoami")
    assert shell("user", "list") == 5
    assert shell("audit", "--outcome", "PermisionDenied") == 2
    assert "did you mean PermissionDenied?" in shell.err
    assert shell("group", "add", "mine") == 5
    shell.lines("group", "list")
    shell.space.push(b"x" * 2048, f"{shell.home}/x")
    told = found(shell, "df", str(shell.home))
    assert (told["used"], told["quota"]) == (2048, None)
    assert shell.lines("df")[1].startswith("2.0K\t-\t")
    assert shell("df", f"{shell.home}/x") == 2


def test_one_rule_says_what_is_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOSPACE_CLIENT_CONFIG", str(tmp_path / "none.toml"))
    for one in ("VOSPACE_URL", "PYVOSPACE_DATABASE__DSN", "PYVOSPACE_CONFIG", "PYVOSPACE_DATA"):
        monkeypatch.delenv(one, raising=False)
    assert Reach().at_database()
    monkeypatch.setenv("VOSPACE_URL", "http://localhost")
    assert not Reach().at_database()
    assert Reach(data=tmp_path).at_database()
    monkeypatch.setenv("PYVOSPACE_CONFIG", "x.toml")
    assert Reach().at_database()
    assert not Reach(url="http://localhost").at_database()
    with pytest.raises(InvalidArgument, match="choose"):
        Reach(data=tmp_path, token="x").at_database()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1023, "1023"), (1024, "1.0K"), (1536 << 20, "1.5G"), (10 << 40, "10.0T")]
)
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    assert write_size(size) == text
