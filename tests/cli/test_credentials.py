"""Logging in by password, and tokens of one's own, as users without the database do it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from pyvospace.db import identities
from pyvospace.db.bootstrap import add_user
from pyvospace.db.passwords import hash_password
from pyvospace.db.pool import Database
from tests.support.commands import run_here
from tests.support.pair import Pair


@pytest.fixture
def user(pair: Pair) -> str:
    """A user with a home and the password "correct horse"."""
    name = f"u{uuid4().hex[:12]}"

    async def add() -> None:
        database = await Database.connect(pair.dsn, pair.database)
        await add_user(database, name, password=hash_password("correct horse"))
        await database.close()

    asyncio.run(add())
    return name


@pytest.fixture
def environment(pair: Pair, tmp_path: Path) -> dict[str, str]:
    """Of somebody who knows nothing but where the space is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYVOSPACE_", "VOSPACE_"))}
    return {**kept, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "conf"), "VOSPACE_URL": pair.url}


def run(environment: dict[str, str], *words: str, code: int = 0, stdin: str = "") -> str:
    """Give what a command says, on standard error if it fails."""
    done = run_here(*words, environment=environment, stdin=stdin)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_login_and_tokens_of_ones_own(pair: Pair, environment: dict[str, str], user: str, tmp_path: Path) -> None:
    home = f"vos://{pair.authority}/home/{user}"
    password = ("--user", user, "--password-stdin")
    run(environment, "login", *password, stdin="wrong\n", code=5)
    run(environment, "login", *password, stdin="correct horse\n")
    kept = tmp_path / "conf/pyvospace/logins.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "correct horse" not in kept.read_text()
    shadowed = {**environment, "VOSPACE_TOKEN": "other"}
    done = run_here("login", *password, environment=shadowed, stdin="correct horse\n")
    assert done.returncode == 0
    assert "VOSPACE_TOKEN" in done.stderr, "says why the next command is somebody else's"
    run(environment, "mkdir", f"{home}/box")
    options = ("--label", "laptop", "--days", "30", "--path", f"/home/{user}/box", "--right", "read")
    limited = {**environment, "VOSPACE_TOKEN": run(environment, "token", "create", *options).strip()}
    run(limited, "ls", f"{home}/box")
    run(limited, "mkdir", f"{home}/box/x", code=5)
    run(limited, "token", "list", code=5)
    listed = [json.loads(line) for line in run(environment, "token", "list", "--json").splitlines()]
    (token,) = [one for one in listed if one["name"] == "laptop"]
    assert (token["paths"], token["rights"]) == ([f"/home/{user}/box"], ["read"])
    assert token["last_used"]
    assert "\tlaptop\tread /home" in run(environment, "token", "list")
    run(environment, "token", "revoke", str(token["id"]))
    run(limited, "ls", f"{home}/box", code=5)
    run(environment, "token", "revoke", str(token["id"]), code=3)
    session = {**environment, "VOSPACE_TOKEN": json.loads(kept.read_text())[pair.url]["token"]}
    run(environment, "logout")
    assert json.loads(kept.read_text()) == {}
    run(session, "ls", home, code=5)
    run(environment, "ls", home, code=5)
    run(environment, "logout")


def test_an_administrator_makes_tokens_for_others(pair: Pair, environment: dict[str, str], user: str) -> None:
    admin = {**environment, "VOSPACE_TOKEN": pair.admin_token}
    token = run(admin, "token", "create", user, "--right", "read").strip()
    run({**environment, "VOSPACE_TOKEN": token}, "ls", f"vos://{pair.authority}/home/{user}")
    (line,) = run(admin, "token", "list", user).splitlines()
    run(admin, "token", "revoke", user, line.split("\t")[0])
    assert run(admin, "token", "list", user) == ""


def test_at_the_database_tokens_have_an_owner(pair: Pair, environment: dict[str, str], user: str) -> None:
    at_database = {
        **environment, "PYVOSPACE_DATABASE__DSN": pair.dsn, "PYVOSPACE_DATABASE__CHECK_DURABILITY": "false"
    }  # fmt: skip
    assert "say whose token" in run(at_database, "token", "create", code=2)
    token = run(at_database, "token", "create", user, "--path", f"/home/{user}", "--right", "read").strip()
    assert "read /home" in run(at_database, "token", "list", user)
    run({**environment, "VOSPACE_TOKEN": token}, "ls", "vos:/", code=5)

    async def scopes() -> list[object]:
        database = await Database.connect(pair.dsn, pair.database)
        found = [one.scope for one in await identities.tokens(database, user)]
        await database.close()
        return list(found)

    assert None not in asyncio.run(scopes())


@pytest.mark.parametrize(
    "words",
    [
        ("login", "--browser", "--device"), ("login", "--oidc", "--user", "x"),
        ("token", "revoke", "x"), ("token", "revoke", "1", "2", "3"),
        ("token", "create", "--path", "/x"), ("token", "create", "--right", "all"),
    ],
)  # fmt: skip
def test_wrong_usage(environment: dict[str, str], words: tuple[str, ...]) -> None:
    run(environment, *words, code=2)
