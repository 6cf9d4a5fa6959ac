from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyvospace.config import check, load
from pyvospace.config.settings import PREFIX
from tests.docker.conftest import ANSWERS, DOCKER, compose

OURS = ["metadata", "migrate", "storage-1", "storage-2"]
PASSWORDS = {name for name in ANSWERS if name.endswith("_PASSWORD")}


def secrets_of(service: dict[str, Any]) -> set[str]:
    text = str(service["environment"])
    return {name for name in PASSWORDS if ANSWERS[name] in text}


def test_the_services(services: dict[str, Any]) -> None:
    assert sorted(services) == sorted([*OURS, "postgres"])
    assert {name: services[name]["command"] for name in OURS} == {
        "metadata": ["metadata"],
        "migrate": ["migrate"],
        "storage-1": ["storage"],
        "storage-2": ["storage"],
    }


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("condition: service_completed_successfully", "condition: service_finished"),
        ("    networks: [database, public]", "    networks: [database, elsewhere]"),
        ("read_only: true", "readonly: true"),
    ],
)
def test_a_wrong_file_is_rejected(right: str, wrong: str, tmp_path: Path) -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    file = tmp_path / "compose.yaml"
    file.write_text(text, encoding="utf-8")
    assert compose("config", "--quiet", file=file).returncode == 0
    assert right in text
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    assert compose("config", "--quiet", file=file).returncode != 0


@pytest.mark.parametrize("name", ANSWERS)
def test_nothing_that_must_be_chosen_has_a_default(name: str) -> None:
    result = compose("config", "--quiet", answers={**ANSWERS, name: ""})
    assert result.returncode != 0
    assert name in result.stderr


def test_the_example_names_what_is_to_be_filled_in() -> None:
    lines = (DOCKER / "env.example").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(given) == {*ANSWERS, "LISTEN"}
    assert {name for name, value in given.items() if not value} == {"VOSPACE_AUTHORITY", *PASSWORDS}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(
    name: str, services: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "pyvospace.toml"
    empty.touch()
    for variable, value in services[name]["environment"].items():
        assert variable.startswith(PREFIX)
        monkeypatch.setenv(variable, value)
    assert check(empty) == []
    assert load(empty).authority == ANSWERS["VOSPACE_AUTHORITY"]


def test_each_server_knows_its_own_password_only(services: dict[str, Any]) -> None:
    assert {name: secrets_of(service) for name, service in services.items()} == {
        "postgres": PASSWORDS,
        "migrate": {"METADATA_PASSWORD"},
        "metadata": {"METADATA_PASSWORD"},
        "storage-1": {"STORAGE_1_PASSWORD"},
        "storage-2": {"STORAGE_2_PASSWORD"},
    }


def test_the_database_is_reached_from_inside_only(services: dict[str, Any]) -> None:
    assert list(services["postgres"]["networks"]) == ["database"]
    assert "ports" not in services["postgres"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(port["published"] for port in published) == ["8080", "8081", "8082"]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights_to_lose(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service  # the one of the image


def test_servers_wait_for_the_database_and_for_its_tables(services: dict[str, Any]) -> None:
    for name in ("metadata", "storage-1", "storage-2"):
        conditions = {other: how["condition"] for other, how in services[name]["depends_on"].items()}
        assert conditions == {"postgres": "service_healthy", "migrate": "service_completed_successfully"}
    assert "healthcheck" in services["postgres"]
