"""No row of what clients need is without a test."""

from __future__ import annotations

import ast
from pathlib import Path


def rows_tested() -> set[str]:
    """Give the rows that the tests beside this one name."""
    return {
        str(node.args[0].value)
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "clause"
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_row_has_a_test() -> None:
    wanted = {
        f"{letter}{number}"
        for letter, last in (("D", 10), ("N", 20), ("T", 18), ("J", 11))
        for number in range(1, last + 1)
    }
    assert rows_tested() == wanted
