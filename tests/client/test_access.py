from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pyvospace.client import Access, Space, find_spaces
from pyvospace.model.faults import InvalidArgument, InvalidURI

FILE = """
url = "https://file.example.org/"
token = "of the file"
home = "/home/file"
ca_file = "~/ca.pem"

[spaces."other!space"]
url = "https://other.example.org"
token = "of the other"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"VOSPACE_CLIENT_CONFIG": str(tmp_path / "client.toml")}


@pytest.fixture
def file(environ: dict[str, str]) -> Path:
    path = Path(environ["VOSPACE_CLIENT_CONFIG"])
    path.write_text(FILE)
    path.chmod(0o600)
    return path


def test_nothing_is_said(environ: dict[str, str]) -> None:
    spaces = find_spaces(Access(), environ)
    assert spaces.default == Access()
    with pytest.raises(InvalidArgument, match="VOSPACE_URL"):
        Space.of(spaces.of(None))


def test_the_file_is_read(file: Path, environ: dict[str, str]) -> None:
    default = find_spaces(Access(), environ).default
    assert default.url == "https://file.example.org"
    assert default.token == "of the file"
    assert default.ca_file == Path.home() / "ca.pem"


def test_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "pyvospace").mkdir()
    (tmp_path / "pyvospace" / "client.toml").write_text('url = "http://here"')
    assert find_spaces(Access(), {"XDG_CONFIG_HOME": str(tmp_path)}).default.url == "http://here"


def test_environment_before_file_and_options_before_both(file: Path, environ: dict[str, str]) -> None:
    environ |= {"VOSPACE_TOKEN": "of the environment", "VOSPACE_HOME": "/home/env"}
    default = find_spaces(Access(home="/home/option"), environ).default
    assert (default.url, default.token, default.home) == (
        "https://file.example.org",
        "of the environment",
        "/home/option",
    )


def test_a_token_does_not_go_to_the_service_of_another_source(file: Path, environ: dict[str, str]) -> None:
    environ |= {"VOSPACE_URL": "https://env.example.org", "VOSPACE_TOKEN": "of the environment"}
    assert find_spaces(Access(), environ).default.token == "of the environment"
    elsewhere = find_spaces(Access(url="https://evil.example.org"), environ).default
    assert elsewhere.token is None
    assert elsewhere.authorization() is None
    assert find_spaces(Access(url="https://env.example.org/"), environ).default.token == "of the environment"
    del environ["VOSPACE_TOKEN"]
    assert find_spaces(Access(), environ).default.token is None


def test_a_password_of_the_environment_comes_before_the_token_of_the_file(file: Path, environ: dict[str, str]) -> None:
    environ |= {"VOSPACE_USER": "alice", "VOSPACE_PASSWORD": "secret"}
    default = find_spaces(Access(), environ).default
    assert default.authorization() == "Basic YWxpY2U6c2VjcmV0"


def test_other_spaces(file: Path, environ: dict[str, str]) -> None:
    environ["VOSPACE_AUTHORITY"] = "mine~space"
    spaces = find_spaces(Access(), environ)
    assert spaces.of(None).url == spaces.of("mine~space").url == "https://file.example.org"
    assert spaces.of("other~space").token == "of the other"
    with pytest.raises(InvalidURI, match=r"third~space.*mine~space.*spaces\."):
        spaces.of("third~space")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("url = 3", "between quotes"),
        ("tokken = 'x'", "tokken"),
        ("url = 'ftp://x'", "no URL of a service"),
        ("url = 'http://u:p@x'", "do not belong"),
        ("url = 'http://x:port'", "no URL"),
        ("not toml", "client.toml"),
        ("spaces = 3", "sections"),
        ("[spaces]\nx = 3", "sections"),
        ("[spaces.x]\nurrl = 'http://x'", "urrl"),
        ("authority = '../x'", "authority"),
    ],
)
def test_mistakes_are_named(file: Path, environ: dict[str, str], text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=words):
        find_spaces(Access(), environ)


def test_a_secret_that_others_can_read_is_warned_of(
    file: Path, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        find_spaces(Access(), environ)
    assert "chmod 600" in caplog.text
    assert "of the file" not in caplog.text


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Access(token="secret", password="secret"))


@pytest.mark.parametrize("token", ["a\nHost: evil", "ü", "", "\x00"])
def test_a_token_is_one_line(token: str) -> None:
    with pytest.raises(InvalidArgument):
        Access(token=token).authorization()
