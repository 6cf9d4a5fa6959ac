"""The administrator's commands, on a real database, and what they do to a running pair."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pwd
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.commands import run_here
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair of our own: users come and go here."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path_factory.mktemp("pair"), storage_dsn=storage_dsn) as running:
            yield running


def settings(pair: Pair) -> dict[str, str]:
    return {**os.environ, "PYVOSPACE_DATABASE__DSN": pair.dsn, "PYVOSPACE_DATABASE__CHECK_DURABILITY": "false"}


def run(pair: Pair, *words: str, code: int = 0, stdin: str = "") -> str:
    done = run_here(*words, environment=settings(pair), stdin=stdin)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.startswith("pyvospace: ")
        return done.stderr
    return done.stdout


def status(pair: Pair, path: str, authorization: str) -> int:
    request = urllib.request.Request(pair.url + path, headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_new_user_has_a_home_and_a_token(pair: Pair) -> None:
    run(pair, "user", "add", "bob")
    token = run(pair, "token", "create", "bob")
    assert token.strip() == token.rstrip("\n")
    assert " " not in token
    assert status(pair, "/nodes/home/bob", f"Bearer {token.strip()}") == 200
    assert status(pair, "/nodes/home/alice", f"Bearer {token.strip()}") == 403


def test_user_can_be_added_once(pair: Pair) -> None:
    run(pair, "user", "add", "twice")
    assert "there is a user 'twice' already" in run(pair, "user", "add", "twice", code=4)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-x", "é", "x" * 65])
def test_odd_names_are_refused(pair: Pair, name: str) -> None:
    run(pair, "user", "add", "--", name, code=2)


def test_revoked_token_is_refused(pair: Pair) -> None:
    run(pair, "user", "add", "carol")
    token = run(pair, "token", "create", "carol", "--label", "laptop").strip()
    assert status(pair, "/nodes/home/carol", f"Bearer {token}") == 200
    (listed,) = [json.loads(line) for line in run(pair, "token", "list", "carol", "--json").splitlines()]
    assert listed["name"] == "laptop"
    run(pair, "token", "revoke", "carol", str(listed["id"]))
    assert status(pair, "/nodes/home/carol", f"Bearer {token}") == 401
    run(pair, "token", "revoke", "carol", str(listed["id"]), code=3)
    assert run(pair, "token", "list", "carol") == ""
    assert "there is no user 'nobody'" in run(pair, "token", "list", "nobody", code=3)


def test_password_lets_in_until_the_user_is_disabled(pair: Pair) -> None:
    run(pair, "user", "add", "dave", "--password-stdin", stdin="correct horse\n")
    right = "Basic " + base64.b64encode(b"dave:correct horse").decode()
    wrong = "Basic " + base64.b64encode(b"dave:battery staple").decode()
    assert status(pair, "/nodes/home/dave", right) == 200
    assert status(pair, "/nodes/home/dave", wrong) == 401
    run(pair, "user", "password", "dave", stdin="battery staple\n")
    assert status(pair, "/nodes/home/dave", right) == 401
    assert status(pair, "/nodes/home/dave", wrong) == 200
    run(pair, "user", "disable", "dave")
    assert status(pair, "/nodes/home/dave", wrong) == 401
    run(pair, "user", "enable", "dave")
    assert status(pair, "/nodes/home/dave", wrong) == 200


def test_members_of_a_group_may_read_what_it_may(pair: Pair) -> None:
    run(pair, "user", "add", "erin")
    token = "Bearer " + run(pair, "token", "create", "erin").strip()
    run(pair, "group", "add", "survey")
    (group,) = [json.loads(line) for line in run(pair, "group", "list", "--json").splitlines()]
    share = (
        "<vos:node xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"
        f" xsi:type='vos:ContainerNode' uri='vos://{pair.authority}{pair.home}'><vos:properties>"
        f"<vos:property uri='ivo://ivoa.net/vospace/core#groupread'>{group['uri']}</vos:property>"
        "</vos:properties><vos:nodes/></vos:node>"
    )
    request = urllib.request.Request(
        f"{pair.url}/nodes{pair.home}",
        data=share.encode(),
        headers={"Authorization": f"Bearer {pair.token}", "Content-Type": "text/xml"},
    )
    urllib.request.urlopen(request).close()
    assert status(pair, f"/nodes{pair.home}", token) == 403
    run(pair, "group", "join", "survey", "erin")
    assert status(pair, f"/nodes{pair.home}", token) == 200
    run(pair, "group", "leave", "survey", "erin")
    assert status(pair, f"/nodes{pair.home}", token) == 403
    run(pair, "group", "join", "survey", "erin")
    run(pair, "group", "remove", "survey")
    assert status(pair, f"/nodes{pair.home}", token) == 403
    assert "no group" in run(pair, "group", "join", "survey", "erin", code=3)


def test_without_a_database_it_says_what_to_do(tmp_path: Path) -> None:
    done = run_here("user", "list", "--data", str(tmp_path), environment={"HOME": str(tmp_path)})
    assert done.returncode != 0
    assert done.stderr.startswith("pyvospace: ")


def test_usage_is_compared_and_corrected(pair: Pair) -> None:
    assert run(pair, "usage") == ""
    wrong = "update usage set bytes = bytes + 7 where container_id = 1"
    made = "insert into usage values (1, 0, 0) on conflict do nothing"
    asyncio.run(execute(pair, made))
    asyncio.run(execute(pair, wrong))
    told = run_wrong(pair, "usage", "--check", "--json")
    assert json.loads(told)["container"] == 1
    assert "container 1\t7 bytes" in run_wrong(pair, "usage", "--repair")
    assert run(pair, "usage") == ""


def run_wrong(pair: Pair, *words: str) -> str:
    done = run_here(*words, environment=settings(pair))
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout


async def execute(pair: Pair, statement: str) -> None:
    connection = await asyncpg.connect(pair.dsn)
    await connection.execute(statement)
    await connection.close()


def test_operator_lets_the_administrator_in_again(pair: Pair) -> None:
    admin = "Bearer " + pair.admin_token
    run(pair, "user", "disable", "admin")
    assert status(pair, "/admin/users", admin) == 401
    run(pair, "user", "enable", "admin")
    assert status(pair, "/admin/users", admin) == 200


def test_what_administrators_do_is_in_the_log(pair: Pair) -> None:
    """With the name of the account at which they sat; read from the database, a line of JSON each."""
    run(pair, "group", "add", "logged")
    rows = [json.loads(line) for line in run(pair, "audit", "--action", "addGroup", "--json").splitlines()]
    (row,) = [row for row in rows if row["details"]["name"] == "logged"]
    account = pwd.getpwuid(os.getuid()).pw_name
    assert (row["credential"].endswith(account), row["outcome"]) == (True, "done")
    assert "addGroup done" in run(pair, "audit")
    assert run(pair, "audit", "--user", "nobody-by-that-name") == ""
    assert "the actions are" in run(pair, "audit", "--action", "nonsense", code=2)
    assert "createNode" in run(pair, "audit", "vos:/home", "-r", "--limit", "1")
