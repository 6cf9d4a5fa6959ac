"""Commands that are imported when they are asked for: most of the time of a short command is what it imports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

import typer
from typer.core import TyperGroup

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "space_commands": (
        *("ls", "cp", "mv", "mkdir", "rm", "ln", "cat", "tag"),
        *("info", "why", "find", "pack", "unpack", "share"),
    ),
    "sync_command": ("sync",),
    "mount_commands": ("mount", "unmount", "mounts"),
    "tree_commands": ("tree", "du", "copy"),
    "job_commands": ("jobs",),
    "version_commands": ("versions",),
    "trash_commands": ("trash",),
    "audit_command": ("audit",),
    "login_commands": ("login", "logout"),
    "server_commands": ("up", "metadata", "storage", "worker", "sftp", "migrate", "config"),
    "user_commands": ("whoami", "user"),
    "group_commands": ("group",),
    "quota_commands": ("df", "allocate", "allocations", "quota"),
    "policy_commands": ("policies",),
    "usage_commands": ("usage",),
    "integrity_commands": ("fsck",),
    "operation_commands": ("state", "queue"),
    "storage_commands": ("storages",),
    "recall_commands": ("recall",),
    "token_commands": ("token",),
    "key_commands": ("keys",),
}
"""Modules beside this one with a function ``register(app)``, and the commands that it adds, in the help's order."""
_HOMES: Final = {name: part for part, names in PARTS.items() for name in names}


class Commands(TyperGroup):
    """Imports a module when one of its commands is asked for, and all of them for the whole help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command."""
        _spare(self, ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (the parser names it)
        """Give the names, without an import."""
        return list(_HOMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Give a command. For a name that is none everything is imported: the parser then says what is like it."""
        for part in [_HOMES[cmd_name]] if cmd_name in _HOMES else PARTS:
            if PARTS[part][0] not in self.commands:
                self.commands.update(load(part, ctx))
        return self.commands.get(cmd_name)


def load(part: str, ctx: Any) -> Mapping[str, Any]:
    """Import a module and make its commands."""
    app = typer.Typer()
    app.callback()(lambda: None)  # so that one command makes a group too
    importlib.import_module(f"pyvospace.cli.{part}").register(app)
    commands = cast("TyperGroup", typer.main.get_command(app)).commands
    for command in commands.values():
        for one in (command, *getattr(command, "commands", {}).values()):
            _spare(one, ctx)
    return commands


def _spare(command: Any, ctx: Any) -> None:
    """Have texts and defaults taken as they are: the parser would import pydantic to look at them.

    A release of typer that keeps its converters elsewhere does not see these, and is as slow as before.
    """
    for one in command.get_params(ctx):
        kind = getattr(one, "type_descriptor", None)
        if kind is not None and kind.parameter_info.parser is None:
            one._runtime_param = _AsItIs(kind.annotation)  # noqa: SLF001


class _Parameter(Protocol):
    multiple: bool
    nargs: int
    default: Any
    _runtime_param: Any

    def get_runtime_param(self) -> Any: ...


class _AsItIs:
    """Gives what needs no conversion as it is, and leaves the rest to the converter of typer."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def coerce(self, value: Any, param: _Parameter, ctx: Any) -> Any:
        """Convert a value."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if value is param.default or (self._kind is str and isinstance(value, str)):
            return value
        if self._kind == list[str] and isinstance(value, tuple | list):
            return list(value)
        param._runtime_param = None  # noqa: SLF001
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)
