"""The settings that docs/howto/openid-connect.md shows are settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pyvospace.config import Settings

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "openid-connect.md"


def test_settings_of_the_page() -> None:
    shown = "\n".join(re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL))
    settings = Settings.model_validate({**tomllib.loads(shown), "authority": "here.example.org~vospace"})
    assert settings.oidc[0].provision
    assert settings.gms[0].issuers == (settings.oidc[0].issuer,)
