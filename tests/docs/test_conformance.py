"""What the page on conformance names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = [
    line.split(" | ")
    for line in (TESTS.parent / "docs" / "conformance.md").read_text().splitlines()
    if line.startswith("| R-")
]


def named(cell: str) -> list[tuple[str, list[str]]]:
    """Give the files that a cell names, with the tests named in each."""
    parts = [re.findall(r"`([^`]+)`", part) for part in cell.split(";")]
    return [(part[0], part[1:]) for part in parts if part]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| "))
def test_tests_of_a_row_exist(row: list[str]) -> None:
    found = named(row[2])
    assert found or "later" in row[1]
    for file, names in found:
        text = (TESTS / file).read_text()
        missing = [name for name in names if not re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE)]
        assert not missing, f"{file} has no {missing}"


def test_there_are_rows() -> None:
    assert len(ROWS) > 50
