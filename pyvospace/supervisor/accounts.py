"""The account under which PostgreSQL runs: never root."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals

from pyvospace.supervisor.errors import SupervisorError

CANDIDATES = ("pyvospace", "postgres", "embedded_postgres", "nobody")
"""Accounts without rights, the most fitting first."""
_LAUNCH = str(Path(__file__).with_name("launch.py"))
_MINIMAL = {"PATH": os.defpath, "LC_ALL": "C"}


@dataclass(frozen=True)
class Account:
    """An account of the machine."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, entry: pwd.struct_passwd) -> Account:
        """Read an entry of the password file."""
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)


def unprivileged() -> Account | None:
    """Choose the account for PostgreSQL; None: our own will do.

    Raises
    ------
    SupervisorError
        We are root and there is none, or our own user has no name, with which PostgreSQL refuses to work.
    """
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise SupervisorError(
                f"user {os.geteuid()} has no entry in the password file, and PostgreSQL wants one; "
                "add it, or use a PostgreSQL of your own (database.dsn)"
            ) from None
        return None
    for name in CANDIDATES:
        try:
            return Account.of(pwd.getpwnam(name))
        except KeyError:
            continue
    raise SupervisorError(f"PostgreSQL does not run as root, and there is no account {' or '.join(CANDIDATES)}")


def become_owner(directory: Path) -> None:
    """Turn from root to the owner of the data for good, so that all of it stays his.

    Nothing happens if we are not root, or if the data are root's or nobody's that has a name: then the servers run
    as root and only PostgreSQL as `unprivileged`.

    Raises
    ------
    SupervisorError
        The owner cannot run this installation.
    """
    if os.geteuid() != 0 or not directory.is_dir():
        return
    uid = directory.stat().st_uid
    try:
        account = Account.of(pwd.getpwuid(uid))
    except KeyError:
        return
    if uid == 0:
        return
    os.initgroups(account.name, account.gid)
    os.setgid(account.gid)
    os.setuid(account.uid)
    os.environ["HOME"] = pwd.getpwuid(uid).pw_dir
    for path in (sys.executable, _LAUNCH):
        if not os.access(path, os.R_OK):
            raise SupervisorError(
                f"{directory} belongs to {account.name}, who cannot read {path}; "
                f"install pyvospace where he can, or start it as the owner of other data"
            )


def launch(command: list[str], *, account: Account | None = None, on_orphaned: Signals = SIGKILL) -> list[str]:
    """Give the command line that runs a command as an account and ends it when this process dies."""
    name = account.name if account else ""
    return [sys.executable, "-I", "-S", _LAUNCH, str(int(on_orphaned)), str(os.getpid()), name, "--", *command]


async def run(*command: str, account: Account | None = None) -> tuple[int, str]:
    """Run a short command to its end, with a minimal environment; give its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *launch(list(command), account=account),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_MINIMAL,
        start_new_session=True,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace").strip()


async def can_enter(directory: Path, account: Account | None) -> bool:
    """Tell whether the account reaches a directory; it is tried, since mode bits do not tell the whole truth."""
    code, _ = await run("/bin/sh", "-c", 'cd "$1"', "sh", str(directory), account=account)
    return code == 0
