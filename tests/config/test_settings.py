from pathlib import Path

import pytest
from pydantic import SecretStr

from pyvospace.config import ConfigError, Settings, check, load
from pyvospace.config.load import CONFIG_VARIABLE, OTHER_VARIABLES, find_file
from pyvospace.config.reference import reference, sections, show


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give the test a home without a configuration and an environment without our variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for setting in reference():
        monkeypatch.delenv(setting.variable, raising=False)
    for name in OTHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pyvospace.toml"


def test_defaults() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.metadata.public_url == "http://127.0.0.1:8080"
    assert settings.storage.name == "127.0.0.1:8081"
    assert settings.group_prefixes == ("ivo://localhost/space/gms?", "ivo://cadc.nrc.ca/gms?")


def test_command_line_beats_environment_beats_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[metadata]\nport = 1\nworkers = 1\nhost = 'file'\n")
    monkeypatch.setenv("PYVOSPACE_METADATA__PORT", "2")
    monkeypatch.setenv("PYVOSPACE_METADATA__WORKERS", "2")
    settings = load(file, {"metadata": {"port": 3}})
    assert (settings.metadata.port, settings.metadata.workers, settings.metadata.host) == (3, 2, "file")


def test_the_file_is_the_given_one_then_the_named_one_then_a_default(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = tmp_path / ".config/pyvospace/pyvospace.toml"
    default.parent.mkdir(parents=True)
    default.touch()
    assert find_file() == default
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert find_file() == file
    assert find_file(Path("~/other.toml")) == tmp_path / "other.toml"


def test_the_constructor_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVOSPACE_AUTHORITY", "example.org~vault")
    assert Settings().authority == "localhost~space"
    assert load().authority == "example.org~vault"


def test_lists_and_paths_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYVOSPACE_GROUPS__PREFIXES", "ivo://a/gms? ivo://b/gms?")
    monkeypatch.setenv("PYVOSPACE_STORAGE__PATH", "~/bytes")
    monkeypatch.setenv("PYVOSPACE_STORAGE__NAME", "")  # an empty variable is none: Compose files pass them on
    settings = load()
    assert settings.group_prefixes == ("ivo://a/gms?", "ivo://b/gms?")
    assert settings.storage.path == tmp_path / "bytes"
    assert settings.storage.name == "127.0.0.1:8081"


def test_addresses() -> None:
    settings = load(overrides={"metadata": {"host": "::1"}, "storage": {"public_url": "https://x.org/bytes/"}})
    assert settings.metadata.public_url == "http://[::1]:8080"
    assert settings.storage.public_url == "https://x.org/bytes"
    everywhere = load(overrides={"metadata": {"host": "0.0.0.0"}}).metadata.public_url
    assert "0.0.0.0" not in everywhere


def test_tls_makes_the_public_url_https() -> None:
    metadata = {"tls_cert": "cert.pem", "tls_key": "key.pem"}
    assert load(overrides={"metadata": metadata}).metadata.public_url == "https://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("metadata = 3", "metadata: Input should be a valid dictionary"),
        ("[metadata]\nprot = 1", "metadata.prot: unknown setting, did you mean port?"),
        ("[metdata]\nport = 1", "metdata: unknown setting, did you mean metadata?"),
        ("[metadata]\nport = 'x'", "metadata.port: Input should be a valid integer"),
        ("[metadata]\nport = 70000", "metadata.port: Input should be less than or equal to 65535"),
        ("[metadata]\ntls_key = 'key.pem'", "metadata: tls_cert and tls_key belong together"),
        (
            "[storage]\ntls_cert = 'c'\ntls_key = 'k'\npublic_url = 'http://x.org'",
            "storage: public_url begins with http:// but tls_cert turns on TLS",
        ),
        ("[storage]\npublic_url = 'x.org'", "storage.public_url: write it as http://host:port"),
        ("[storage]\nreserve = 1.5", "storage.reserve: Input should be less than 1"),
        ("[jobs]\ndestruction = inf", "jobs.destruction: Input should be a finite number"),
        ("authority = 'a/b'", "authority: an authority begins with a letter or digit"),
        ("[database]\ndsn = 'mysql://joe:hunter2@x/y'", "database.dsn: a DSN begins with postgresql://"),
        ("interop = 'cadc'", "interop: Input should be 'standard' or 'opencadc'"),
        ("port = = 1", "no TOML: Invalid value"),
    ],
)
def test_each_problem_is_named(file: Path, toml: str, problem: str) -> None:
    file.write_text(toml)
    [found] = check(file)
    assert str(found).startswith(f"{file}: {problem}")
    assert "hunter2" not in str(found)


def test_a_missing_file_is_named(file: Path) -> None:
    assert [str(problem) for problem in check(file)] == [f"{file}: No such file or directory"]


def test_wrong_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVOSPACE_DATABASE__DNS", "postgresql://joe:hunter2@x/y")
    monkeypatch.setenv("PYVOSPACE_STORAGE__PORT", "hunter2")
    monkeypatch.setenv("PYVOSPACE_DATABASE_DSN", "hunter2")
    assert [str(problem) for problem in check()] == [
        "PYVOSPACE_DATABASE__DNS: unknown setting, did you mean PYVOSPACE_DATABASE__DSN?",
        "PYVOSPACE_STORAGE__PORT: Input should be a valid integer, unable to parse string as an integer",
        "PYVOSPACE_DATABASE_DSN: unknown variable, did you mean PYVOSPACE_DATABASE__DSN?",
    ]


def test_a_section_as_one_variable_has_to_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVOSPACE_METADATA", '{"port": 99}')
    assert load().metadata.port == 99
    monkeypatch.setenv("PYVOSPACE_METADATA", "hunter2")
    assert [str(problem) for problem in check()] == [
        "PYVOSPACE_METADATA: no JSON; set the variables of the single settings instead"
    ]


def test_a_variable_of_somebody_else_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVOSPACE_SERVICE_HOST", "10.0.0.1")  # Kubernetes, for a service named pyvospace
    assert load() == Settings()


def test_a_conflict_across_sources_names_the_section(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[metadata]\ntls_cert = 'cert.pem'")
    monkeypatch.setenv("PYVOSPACE_METADATA__PORT", "1")
    with pytest.raises(ConfigError, match="metadata: tls_cert and tls_key"):
        load(file)


def test_secrets_are_not_shown() -> None:
    database = {"dsn": "postgresql://joe:hunter2@host/space"}
    settings = load(overrides={"database": database, "storage": {"options": {"key": "hunter2"}}})
    assert isinstance(settings.database.dsn, SecretStr)
    for text in (show(settings), str(settings), repr(settings)):
        assert "hunter2" not in text


def test_what_is_shown_can_be_read_again(file: Path) -> None:
    settings = load(overrides={"storage": {"path": '/srv/a "b"', "name": "ä"}, "limits": {"upload_bytes": 5}})
    file.write_text(show(settings), encoding="utf-8")
    assert load(file) == settings


def test_every_setting_is_described() -> None:
    rows = list(reference())
    assert len(rows) > 50
    for row in rows:
        assert row.description.endswith("."), row.name
    assert all(description.endswith(".") for description in sections().values())
