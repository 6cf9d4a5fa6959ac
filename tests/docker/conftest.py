from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
ANSWERS = {
    "VOSPACE_AUTHORITY": "example.org~space",
    "POSTGRES_PASSWORD": "of-the-superuser",
    "METADATA_PASSWORD": "of-metadata",
    "STORAGE_1_PASSWORD": "of-storage-1",
    "STORAGE_2_PASSWORD": "of-storage-2",
    "METADATA_URL": "https://space.example.org",
    "STORAGE_1_URL": "https://one.example.org",
    "STORAGE_2_URL": "https://two.example.org/files",
}
"""What a user has to fill in."""


def tool(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of the virtual environment; of our environment it sees what is needed to find others."""
    program = Path(sys.executable).with_name(name)
    known = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    return subprocess.run(
        [program, *arguments], env={**known, **(environment or {})}, capture_output=True, text=True, check=False
    )


def compose(
    *arguments: str, answers: Mapping[str, str] = ANSWERS, file: Path = DOCKER / "compose.yaml"
) -> subprocess.CompletedProcess[str]:
    """Run docker compose; what stands in a .env of this clone does not count."""
    return tool("docker-compose", "--env-file", os.devnull, "--file", str(file), *arguments, environment=answers)


@pytest.fixture(scope="session")
def services() -> dict[str, Any]:
    """The services of compose.yaml as docker compose understands them."""
    result = compose("config", "--format", "json")
    assert result.returncode == 0, result.stderr
    services: dict[str, Any] = json.loads(result.stdout)["services"]
    return services
