"""What the page on conformance says is there: every demand has a row, every row has tests."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
PAGE = (DOCS / "conformance.md").read_text().splitlines()
WANTED = [
    f"{kind}{number}" for kind, last in (("D", 10), ("N", 20), ("T", 18), ("J", 11)) for number in range(1, last + 1)
]
OPTIONAL = {"MAY", "EXT", "MUST if"}
LEVELS = OPTIONAL | {"MUST", "SHOULD", "—"}
_IDS = re.compile(r"R-([A-Z]+)-(\d{3})((?:(?: to |, )\d{3})*)")


def table(head: str) -> list[list[str]]:
    """Give the cells of all tables with this head."""
    found: list[list[str]] = []
    inside = False
    for line in PAGE:
        inside = line == head or (inside and line.startswith("|"))
        if inside and line != head and not line.startswith("| ---"):
            found.append([cell.strip() for cell in line.strip()[1:-1].split("|")])
    return found


ROWS = table("| id | level | what | test |")
FAMILIES = table("| family | of | ids | number |")
CLIENTS = table("| row | what | test |")
CHOICES = table("| topic | test | with `interop = opencadc` |")


def ids(text: str) -> Iterator[str]:
    """Give every id that a text names, those within ranges too."""
    for family, first, more in _IDS.findall(text):
        last = int(first)
        yield f"R-{family}-{last:03}"
        for link, number in re.findall(r"( to |, )(\d{3})", more):
            between = range(last + 1, int(number) + 1) if link == " to " else [int(number)]
            yield from (f"R-{family}-{one:03}" for one in between)
            last = int(number)


@cache
def functions(file: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give the tests of a file by name."""
    tree = ast.parse((TESTS / file).read_text())
    return {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def proofs(cell: str) -> list[tuple[str, str]]:
    """Give the tests that a cell names, with their files, having made sure that they are there."""
    found = []
    for part in cell.split(";") if cell.strip() else []:
        file, *names = re.findall(r"`([^`]+)`", part)
        assert names, f"{file} without a test"
        missing = [name for name in names if name not in functions(file) or not name.startswith("test_")]
        assert not missing, f"{file} has no {missing}"
        found += [(file, name) for name in names]
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_row(row: list[str]) -> None:
    """It has a test, or what it is about is optional, and why it is not offered stands there."""
    _, level, what, cell = row
    levels = set(level.split(", "))
    assert levels <= LEVELS
    not_offered = re.search(r"not offered, \w+", what) is not None
    assert not_offered or "not offered" not in what
    assert not not_offered or levels <= OPTIONAL
    assert proofs(cell) or not_offered


def test_every_demand_has_one_row() -> None:
    named = Counter(one for row in ROWS for one in ids(row[0]))
    assert not [one for one, times in named.items() if times > 1]
    wanted = [set(ids(row[2])) for row in FAMILIES if row[0]]
    assert [str(len(family)) for family in wanted] == [row[3] for row in FAMILIES if row[0]]
    assert [row[3] for row in FAMILIES if not row[0]] == [str(len(named))]
    assert set(named) == set().union(*wanted)


def test_what_clients_need() -> None:
    """Each row names tests that are marked with it."""
    assert [row[0] for row in CLIENTS] == WANTED
    for name, _, cell in CLIENTS:
        named = proofs(cell)
        assert named
        assert set(named) <= set(marked(name)), name


def marked(name: str) -> Iterator[tuple[str, str]]:
    """Give the tests that are marked with a row."""
    for path in sorted((TESTS / "interop").glob("test_*.py")):
        file = str(path.relative_to(TESTS))
        for test, function in functions(file).items():
            if any(ast.unparse(one) == f"pytest.mark.clause({name!r})" for one in function.decorator_list):
                yield file, test


@pytest.mark.parametrize("row", CHOICES, ids=lambda row: row[0])
def test_choice(row: list[str]) -> None:
    assert proofs(row[1])
    if len(row) > 2:
        proofs(row[2])


def test_files_of_the_overview_are_there() -> None:
    for _, _, cell in table("| clause | state | proved by |"):
        for path in re.findall(r"`(tests/[^`]+)`", cell):
            assert (TESTS.parent / path).exists(), path


def test_there_are_rows() -> None:
    assert len(ROWS) > 100
    assert len(CHOICES) > 40


def test_access_policy_is_described() -> None:
    """VOSpace 2.1, section 5: in words, for the registry (what it says is shown by the tests of rights)."""
    page = (DOCS / "howto" / "production.md").read_text()
    policy = page.partition("## In a registry\n")[2].partition("\n## ")[0]
    for word in ("authenticate", "anonymous", "owner", "group", "administrator", "read", "written", "container above"):
        assert word in policy, word
