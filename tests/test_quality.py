"""What no tool at hand checks: sizes, what a layer may import, that everything of the package is explained."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvospace.config.reference import reference

ROOT = Path(__file__).parents[1]
LONGEST_FUNCTION = 50
LONGEST_MODULE = 600
BACKENDS_SEE = {
    "pyvospace.model",
    "pyvospace.service.content",
    "pyvospace.storage.backend",
    "pyvospace.storage.backends",
    "pyvospace.storage.layers",
    "pyvospace.storage.waiting",
}
"""What docs/howto/storage-backend.md offers to plugins."""


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring and its decorators."""
    documented = ast.get_docstring(function, clean=False) is not None
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def imports(path: Path) -> Iterator[str]:
    """Give what a module imports; a relative import, which none may have, as a dot."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module if node.module and not node.level else "."


@pytest.mark.parametrize(
    "path", modules("pyvospace", "tests", "benchmarks", "docs"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {function.name: size for function in functions if (size := lines_of_code(function)) > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("path", modules("pyvospace/model"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_model_needs_the_standard_library_alone(path: Path) -> None:
    foreign = {name for name in imports(path) if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if not name.startswith("pyvospace.model")} == set()


@pytest.mark.parametrize("path", modules("pyvospace/storage/backends"), ids=lambda path: str(path.relative_to(ROOT)))
def test_our_backends_see_no_more_than_a_plugin(path: Path) -> None:
    ours = {name for name in imports(path) if name.split(".")[0] in {"pyvospace", ""}}
    assert {
        name for name in ours if not any(name == seen or name.startswith(f"{seen}.") for seen in BACKENDS_SEE)
    } == set()


def test_every_setting_is_explained() -> None:
    for setting in reference():
        assert setting.description, setting.variable


def test_no_module_is_called_by_no_name() -> None:
    assert [path for path in modules("pyvospace") if path.stem in {"utils", "helpers", "common", "misc"}] == []


_SECRET = re.compile(r"(^|_)(token|secret|password|signature|digest|mac|hmac|challenge)s?$")
_NO_SECRETS = {"migrations.py", "contract.py", "checking.py", "incoming.py", "tus_headers.py", "uploads.py"}
"""Where a digest is one of bytes or files that everybody may know."""


def names_in(node: ast.expr) -> set[str]:
    """Give the name of a value: of a variable, an attribute, or what is called on one."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.Call):
        method = names_in(node.func) if isinstance(node.func, ast.Attribute) else set()
        return method | {name for arg in node.args for name in names_in(arg)}
    return set()


@pytest.mark.parametrize("path", modules("pyvospace"), ids=lambda path: str(path.relative_to(ROOT)))
def test_secrets_are_compared_in_constant_time(path: Path) -> None:
    """`==` ends at the first difference, and so tells how much of a guess was right: see hmac.compare_digest."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
            sides = [node.left, *node.comparators]
            constant = any(isinstance(side, ast.Constant) for side in sides)
            if not constant and any(_SECRET.search(name) for side in sides for name in names_in(side)):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == [] or path.name in _NO_SECRETS
