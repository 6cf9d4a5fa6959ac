"""Writes the reference of the Python client from its signatures and docstrings; `generate.py` calls it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import Any

from pyvospace import client
from pyvospace.client import access, conditions, http, jobs, retry, shares, upload, versions
from pyvospace.model import entries, nodes, permissions, searches, uris
from pyvospace.model import jobs as model_jobs

_INTRODUCTION = """# Python client

`pyvospace.client` is for coroutines. `pyvospace.client.sync` has `connect`, `Space` and `Reader` with the same methods
for everybody else: nothing is awaited, and what is iterated with `async for` here is an iterator there. How to use it:
[Use a space from Python](../howto/python-client.md). The faults are [a page of their own](faults.md).
"""
_RECORDS = (
    (entries, ("Entry", "Room")),
    (nodes, ("Node", "Property", "View", "Param")),
    (uris, ("NodeUri",)),
    (upload, ("Stored",)),
    (conditions, ("Condition",)),
    (searches, ("Conditions", "Span", "Glob")),
    (jobs, ("Counts", "JobReference")),
    (model_jobs, ("Job", "Progress", "Result")),
    (shares, ("Share",)),
    (versions, ("Version",)),
    (permissions, ("Permissions", "Permission", "Step")),
    (access, ("Access", "Spaces")),
    (http, ("Timeouts",)),
    (retry, ("Retry",)),
)


def client_page(note: str) -> str:
    """Write the page."""
    lines = [note, _INTRODUCTION, *_function(client.connect, "connect"), *_function(client.find_spaces, "find_spaces")]
    lines += ["## Space", "", *_prose(client.Space), "### Space.of", "", *_described(client.Space.of, "Space.of")]
    for part in reversed(client.Space.__mro__):
        methods = [one for name, one in vars(part).items() if name[0] != "_" and inspect.isroutine(one)]
        for one in methods:
            if getattr(part, one.__name__, None) is one:  # no class method
                lines += [f"### {one.__name__}", "", *_described(one, f"space.{one.__name__}")]
    lines += ["## Reader", "", *_prose(client.Reader), "", *_fields_of_reader()]
    lines += ["### Reader.read", "", *_described(client.Reader.read, "reader.read")]
    for module, names in _RECORDS:
        for name in names:
            lines += _record(module.__name__, getattr(module, name))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _function(function: Any, name: str) -> list[str]:
    return [f"## {name}", "", *_described(function, name)]


def _described(function: Any, name: str) -> list[str]:
    found = function.__func__ if inspect.ismethod(function) else function
    kind = (
        "await "
        if inspect.iscoroutinefunction(found)
        else "async for … in "
        if inspect.isasyncgenfunction(found)
        else ""
    )
    return [
        "```",
        *textwrap.wrap(f"{kind}{name}{_signature(found)}", 100, subsequent_indent="    "),
        "```",
        "",
        *_prose(found),
    ]


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    told, starred = [], False
    for name, one in signature.parameters.items():
        if name in {"self", "cls"}:
            continue
        if one.kind is one.KEYWORD_ONLY and not starred:
            told.append("*")
            starred = True
        text = f"*{name}" if one.kind is one.VAR_POSITIONAL else name
        text += f": {one.annotation}"
        told.append(text if one.default is one.empty else f"{text} = {_value(one.default)}")
    return f"({', '.join(told)}) -> {signature.return_annotation}"


def _value(default: Any) -> str:
    if isinstance(default, Enum):
        return str(f"{type(default).__name__}.{default.name}")
    return repr(default) if default is None or isinstance(default, str | int | float | tuple) else "…"


def _prose(documented: Any) -> list[str]:
    """Write a docstring of numpy's form."""
    lines = inspect.cleandoc(documented.__doc__ or "").replace("``", "`").splitlines()
    told: list[str] = []
    in_list = False
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if line and set(line) == {"-"}:
            in_list = lines[number - 1] not in {"Notes", "Examples"}
        elif following and set(following) == {"-"}:
            told += ["", f"**{line}**", ""]
        elif in_list and line and not line.startswith(" "):
            told.append(f"* `{line}`:")
        else:
            told.append(f"  {line.strip()}" if in_list and line else line)
    return [*told, ""]


def _record(module: str, record: Any) -> Iterator[str]:
    """Write a dataclass: its members, and its own methods."""
    yield from (f"## {record.__name__}", "", f"`from {module} import {record.__name__}`", "", *_prose(record))
    notes = _notes(record)
    for one in dataclasses.fields(record):
        default = "" if one.default is dataclasses.MISSING else f" = {_value(one.default)}"
        yield f"* `{one.name}: {one.type}{default}` {notes.get(one.name, '')}".rstrip()
    for name, one in vars(record).items():
        if name.startswith("_") or not (isinstance(one, property | classmethod) or inspect.isfunction(one)):
            continue
        function = one.fget if isinstance(one, property) else getattr(one, "__func__", one)
        text = name if isinstance(one, property) else f"{name}{_signature(function)}"
        yield f"* `{text}` {inspect.cleandoc(function.__doc__ or '').splitlines()[0]}".replace("``", "`")
    yield ""


def _notes(described: Any) -> dict[str, str]:
    """Read what stands below the members of a class."""
    [found] = ast.parse(textwrap.dedent(inspect.getsource(described))).body
    body = found.body if isinstance(found, ast.ClassDef) else []
    return {
        one.target.id: " ".join(str(note.value.value).replace("``", "`").split())
        for one, note in pairwise(body)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(note, ast.Expr)
        and isinstance(note.value, ast.Constant)
    }


def _fields_of_reader() -> Iterator[str]:
    yield "* `etag: str | None` SHA-256 of the bytes in hex, as `Entry.etag`; None: the service names no version."
    yield "* `size: int` Bytes of the whole."
    yield ""
