"""Whatever a command prints it prints as JSON too, one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pyvospace.cli import main
from tests.cli.conftest import Shell
from tests.support.pair import Pair

SILENT = {
    *("ln", "cat", "pack", "unpack", "login", "logout", "jobs abort", "jobs delete", "trash purge", "quota remove"),
    *("policies remove", "queue abort", "token revoke", "keys remove"),
    *(f"user {one}" for one in ("add", "password", "disable", "enable", "promote", "link", "unlink")),
    *(f"group {one}" for one in ("add", "give", "remove", "join", "leave")),
    *(f"storages {one}" for one in ("rename", "drain", "activate", "retire", "forget")),
    *("up", "metadata", "storage", "worker", "sftp", "mount", "unmount"),
}
"""Commands without a result: they do something, write bytes, or serve until they are stopped."""
EXAMPLES = {
    "ls": "ls vos:",
    "info": "info vos:a",
    "why": "why vos:a",
    "find": "find vos:",
    "tree": "tree vos:",
    "du": "du vos:",
    "df": "df vos:",
    "quota": "quota",
    "quota show": "quota show --user alice",
    "quota set": "quota set --user alice --nodes 1000000",
    "quota list": "quota list",
    "cp": "cp --background vos:a/file vos:by-cp",
    "copy": "copy vos:a/file vos:by-copy",
    "mv": "mv vos:by-copy vos:moved",
    "mkdir": "mkdir vos:made",
    "tag": "tag vos:a",
    "rm": "rm -r --dry-run vos:a",
    "share": "share vos:a/file",
    "jobs list": "jobs list",
    "jobs show": "jobs show {job}",
    "jobs follow": "jobs follow {job}",
    "versions": "versions vos:a/file",
    "trash list": "trash list",
    "audit": "audit --limit 3",
    "whoami": "whoami",
    "recall": "recall vos:a",
    "user show": "user show alice",
    "user list": "user list",
    "user home": "user home alice",
    "group members": "group members {group}",
    "group list": "group list",
    "allocate": "allocate {home}/a",
    "allocations": "allocations",
    "policies list": "policies list",
    "policies show": "policies show {home}",
    "policies set": "policies set {home} --versions 1",
    "state": "state",
    "queue list": "queue list",
    "storages list": "storages list",
    "storages show": "storages show 1",
    "token create": "token create --days 1",
    "token list": "token list",
    "keys add": "keys add key.pub",
    "keys list": "keys list",
    "config client": "config client",
    "config check": "config check",
    "config show": "config show",
    "mounts": "mounts",
    "migrate": "migrate",
    "usage": "usage",
    "fsck": "fsck",
}
AT_DATABASE = {"migrate", "usage", "fsck"}
MAY_FIND_NOTHING = {"trash list", "config check", "mounts", "migrate", "usage", "fsck", "queue list", "group list"}
ELSEWHERE = {"trash restore", "sync"}
"""Tried where there is something to restore, or to make alike."""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtQ2fSpcqnwnIAE8SRE8pMOhS5SZ1p3Zq8kgvlOFBCv {comment}"


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    context = typer.Context(command)
    for child in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from commands(command.get_command(context, child), f"{name} {child}".strip())
    if not hasattr(command, "list_commands") or command.invoke_without_command:
        yield name, command


ALL = dict(commands(typer.main.get_command(main.make_app())))


def test_what_prints_knows_json() -> None:
    assert set(ALL) == SILENT | set(EXAMPLES) | ELSEWHERE
    known = {name for name, command in ALL.items() if ["--json"] in [one.opts for one in command.params]}
    assert known == set(EXAMPLES) | ELSEWHERE


def test_what_is_printed_is_json(
    shell: Shell, pair: Pair, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.space.ensure_container("vos:a")
    shell.space.push(b"old", "vos:a/file")
    monkeypatch.setenv("VOSPACE_TOKEN", pair.admin_token)
    assert shell("policies", "set", environment["VOSPACE_HOME"], "--versions", "1") == 0, shell.err
    shell.space.push(b"new", "vos:a/file")
    group = environment["VOSPACE_HOME"].rpartition("/")[2]
    assert shell("group", "add", group) == 0, shell.err
    assert shell("group", "join", group, "alice") == 0, shell.err
    Path("key.pub").write_text(KEY.format(comment=group))
    known = {"home": environment["VOSPACE_HOME"], "group": group}
    for name, line in EXAMPLES.items():
        with monkeypatch.context() as patch:
            if name in AT_DATABASE:
                patch.setenv("PYVOSPACE_DATABASE__DSN", pair.dsn)
                patch.setenv("PYVOSPACE_DATABASE__CHECK_DURABILITY", "false")
            code = shell(*line.format_map(known).split(), "--json")
        assert code in {0, 1} if name in AT_DATABASE else code == 0, (name, shell.err)
        told = [json.loads(one) for one in shell.out.splitlines()]
        assert all(isinstance(one, dict) for one in told), name
        assert told or name in MAY_FIND_NOTHING, name
        if name == "cp":
            known["job"] = told[0]["job"]
