"""The settings that docs/howto/database.md shows are settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pyvospace.config import Settings

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "database.md"
SHOWN = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("shown", SHOWN)
def test_settings_of_the_page(shown: str) -> None:
    settings = Settings.model_validate({**tomllib.loads(shown), "authority": "here.example.org~vospace"})
    assert settings.database.dsn is not None
    assert (settings.database.direct_dsn is None) is not (settings.database.replica_dsn is None)


def test_way_around_a_pooler_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="storage_direct_dsn"):
        Settings.model_validate({"database": {"storage_direct_dsn": "postgresql://vospace@db.example.org/vospace"}})


def test_storage_servers_that_come_as_the_others_do() -> None:
    dsn, direct = "postgresql://vospace@pooler/vospace", "postgresql://vospace@db/vospace"
    given = Settings.model_validate({"database": {"dsn": dsn, "direct_dsn": direct}}).database.of_storage
    assert [one and one.get_secret_value() for one in given] == [dsn, direct]
    own = "postgresql://storage@db/vospace"
    alone = Settings.model_validate({"database": {"dsn": dsn, "direct_dsn": direct, "storage_dsn": own}})
    assert [one and one.get_secret_value() for one in alone.database.of_storage] == [own, None]
