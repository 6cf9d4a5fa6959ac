"""What the threat model says is there: every threat has a row, and every row tests, or says that it is not offered."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvospace.config import Settings
from tests.docs.test_conformance import DOCS, functions

PAGE = (DOCS / "explanation" / "threat-model.md").read_text()


def rows() -> Iterator[list[str]]:
    for line in PAGE.splitlines():
        if re.match(r"\| T\d+ \|", line):
            yield [cell.strip() for cell in line.strip()[1:-1].split(" | ")]


def named(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give files of tests with the tests that are named behind them."""
    for file, tests in re.findall(r"`([\w/]+\.py)`:\s+((?:`test_\w+`(?:, )?)+)", text):
        yield file, re.findall(r"`(\w+)`", tests)


ROWS = list(rows())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_row(row: list[str]) -> None:
    assert len(row) == 4
    found = list(named(row[3]))
    assert found or "not offered" in row[2]
    assert len(re.findall(r"`test_\w+`", row[3])) == sum(len(tests) for _, tests in found)
    for file, tests in found:
        assert set(tests) <= set(functions(file)), file


def test_every_threat_has_a_row() -> None:
    assert [row[0] for row in ROWS] == [f"T{number}" for number in range(1, 31)]


def test_other_tests_are_there() -> None:
    for file, tests in named(PAGE):
        assert (Path(__file__).parents[1] / file).exists()
        assert set(tests) <= set(functions(file)), file


def test_settings_of_the_page_on_hardening_are_settings() -> None:
    page = (DOCS / "howto" / "hardening.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 2
    for block in blocks:
        Settings.model_validate(tomllib.loads(block))
