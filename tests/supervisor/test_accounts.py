import os
import pwd
import sys
from pathlib import Path

import pytest

from pyvospace.supervisor import SupervisorError, accounts
from pyvospace.supervisor.accounts import Account, become_owner, can_enter, run, unprivileged

NOBODY = Account.of(pwd.getpwnam("nobody"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, which root alone may")


def test_postgresql_never_runs_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    account = unprivileged()
    assert account is not None
    assert account.uid != 0
    monkeypatch.setattr(accounts, "CANDIDATES", ("no-such-account",))
    with pytest.raises(
        SupervisorError, match="PostgreSQL does not run as root, and there is no account no-such-account"
    ):
        unprivileged()


def test_an_ordinary_user_runs_it_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.uid)
    assert unprivileged() is None


def test_a_user_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(SupervisorError, match="user 54321 has no entry"):
        unprivileged()


async def test_run_gives_code_and_output() -> None:
    assert await run("/bin/sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\nerr")
    assert await run("/no/such/program") == (1, "/no/such/program: No such file or directory")


async def test_run_hands_over_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVOSPACE_DATABASE__DSN", "postgresql://joe:hunter2@host/db")
    assert "hunter2" not in (await run("/usr/bin/env"))[1]


@as_root
async def test_run_as_another_account() -> None:
    code, output = await run("/bin/sh", "-c", "id -u; id -g; umask; pwd", account=NOBODY)
    assert (code, output.split()) == (0, [str(NOBODY.uid), str(NOBODY.gid), "0077", "/"])


@as_root
async def test_closed_directories_are_noticed(tmp_path: Path, reachable_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert await can_enter(tmp_path, None)
    assert not await can_enter(tmp_path, NOBODY)
    assert await can_enter(reachable_path, NOBODY)


@as_root
async def test_root_becomes_the_owner_of_the_data(reachable_path: Path) -> None:
    data = reachable_path / "data"
    data.mkdir()
    os.chown(data, NOBODY.uid, NOBODY.gid)
    script = f"""
import os, sys
from pathlib import Path
from pyvospace.supervisor import accounts, SupervisorError
become = accounts.become_owner
become(Path("/"))
assert os.geteuid() == 0
accounts._LAUNCH = sys.argv[1]
try:
    become(Path({str(data)!r}))
except SupervisorError as error:
    print(error)
print(os.getuid(), os.getgid(), os.getgroups())
"""
    python = [sys.executable, "-c", script]
    code, output = await run(*python, "/bin/sh")
    assert output.splitlines()[-1] == f"{NOBODY.uid} {NOBODY.gid} [{NOBODY.gid}]"
    code, output = await run(*python, "/etc/shadow")
    assert code == 0
    assert "belongs to nobody, who cannot read" in output


def test_data_that_are_not_there_have_no_owner(tmp_path: Path) -> None:
    before = os.geteuid()
    become_owner(tmp_path / "missing")
    become_owner(tmp_path)
    assert os.geteuid() == before
