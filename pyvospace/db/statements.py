"""Named statements in SQL files: a class names those it expects, and its import fails if the file differs."""

from __future__ import annotations

import re
from importlib import resources
from typing import ClassVar

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
SQL = resources.files("pyvospace") / "sql"
"""The folder of all SQL."""


def read_statements(file: str) -> dict[str, str]:
    """Read ``sql/queries/FILE``: each statement by its name, without comments before it and the last semicolon."""
    pieces = _NAME.split((SQL / "queries" / file).read_text(encoding="utf-8"))[1:]
    return {
        name: re.sub(r"^--.*\n", "", text, flags=re.MULTILINE).strip().removesuffix(";")
        for name, text in zip(pieces[::2], pieces[1::2], strict=True)
    }


class QueryFile:
    """Base of the classes that hold the statements of one file as attributes."""

    statements: ClassVar[dict[str, str]]

    def __init_subclass__(cls, *, file: str) -> None:
        super().__init_subclass__()
        found = read_statements(file)
        expected = {name for name in cls.__annotations__ if name != "statements"}
        if expected != found.keys():
            raise ImportError(f"{file} and {cls.__qualname__} differ: {sorted(expected ^ found.keys())}")
        cls.statements = found
        for name, text in found.items():
            setattr(cls, name, text)
