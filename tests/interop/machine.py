"""The machine of a user: a home directory, programs of other people, and what connects them to a space."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

FAR_FUTURE = 2_114_380_800
"""In 2037: vos never refreshes a copy of the registry that is so young."""
BINARIES = Path(sys.executable).parent
_PATIENCE = 120.0
"""Seconds after which a client that hangs is a failure."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    code: int
    out: str
    errors: str

    @property
    def lines(self) -> list[str]:
        """Give what it wrote to standard output, line by line."""
        return self.out.splitlines()


@dataclass(frozen=True)
class Machine:
    """Where a user runs his clients, in a directory of his own and with no other environment than he needs."""

    home: Path
    url: str
    """Base URL of the service."""
    authority: str
    token: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        """The identifier by which vos looks the service up."""
        return "ivo://" + self.authority.replace("~", "/")

    @property
    def bearer(self) -> str:
        """The header that logs in."""
        return f"Authorization: Bearer {self.token}"

    def settle(self) -> None:
        """Keep vos from looking for newer versions of itself."""
        versions = self.home / ".config/vos/caches/.pypi_versions.json"
        versions.parent.mkdir(parents=True)
        versions.write_text(json.dumps({"releases": {"3.7": []}}))

    def connect(self) -> None:
        """Tell vos where the service is."""
        self.settle()
        registry = self.home / ".config/cadc-registry/resource-caps"
        registry.parent.mkdir(parents=True)
        registry.write_text(f"{self.resource} = {self.url}/capabilities\n")
        os.utime(registry, (FAR_FUTURE, FAR_FUTURE))

    def run(
        self, *words: str | Path, code: int = 0, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run a program, which must end with `code`."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd or self.home,
            env={
                "PATH": f"{BINARIES}:{os.environ['PATH']}",
                "HOME": str(self.home),
                "LANG": "C.UTF-8",
                **self.environment,
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout, done.stderr)
        assert outcome.code == code, f"{words[0]}: {outcome}"
        return outcome

    def vos(self, command: str, *words: str | Path, code: int = 0, cwd: Path | None = None) -> Outcome:
        """Run a command of vos with the token, if there is one."""
        options = ["--token", self.token] if self.token else []
        return self.run(command, *options, *words, code=code, cwd=cwd)

    def curl(self, *words: str | Path, code: int = 0, cwd: Path | None = None) -> Outcome:
        """Run curl with the token, as scripts do."""
        return self.run("curl", "-sS", "-L", "--fail", "-H", self.bearer, *words, code=code, cwd=cwd)

    def python(self, program: str, *words: str | Path, code: int = 0) -> Outcome:
        """Run a program of the user."""
        return self.run(sys.executable, "-c", program, *words, code=code)


@dataclass(frozen=True)
class Folder:
    """A container of one test, in the words of each client."""

    machine: Machine
    path: str

    def vos(self, *names: str) -> str:
        """Give the URI of a node below as users of vos write it: raw, with an exclamation mark."""
        return "/".join([f"vos://{self.machine.authority.replace('~', '!')}{self.path}", *names])

    def node_path(self, *names: str) -> str:
        """Give the path of a node below, percent-encoded."""
        return "/".join([self.path, *(quote(name, safe="") for name in names)])

    def file_url(self, *names: str) -> str:
        """Give the URL of the bytes of a node below."""
        return f"{self.machine.url}/files{self.node_path(*names)}"
