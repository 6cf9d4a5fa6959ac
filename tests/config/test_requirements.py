import pytest

from pyvospace.config import ConfigError, requirements


def test_what_is_installed_is_safe() -> None:
    requirements.require_safe_versions()


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"aiohttp": "3.9.5", "python-jose": "3.5.0"}
    monkeypatch.setattr(requirements, "version", versions.__getitem__)
    with pytest.raises(ConfigError, match=r"aiohttp: 3\.9\.5 is too old, 3\.14\.2 or later is needed"):
        requirements.require_safe_versions()


def test_parsing_http_in_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    with pytest.raises(ConfigError, match="parser in C"):
        requirements.require_safe_versions()
