"""The settings as rows: for the reference page and for ``pyvospace config show``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pyvospace.config.load import variable
from pyvospace.config.settings import Settings

_MASK = "**********"
_SECRET_TABLES = frozenset({"options"})  # a plugin's settings may hold a key; which one, it alone knows


@dataclass(frozen=True)
class Setting:
    """One setting, as the documentation shows it."""

    section: str
    """Table of the file; empty for the top level."""
    name: str
    variable: str
    """Environment variable."""
    default: str
    """In TOML; empty if there is none or the description gives it."""
    description: str


def reference() -> Iterator[Setting]:
    """Give every setting, section by section, in the order in which they are declared."""
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is None:
            yield _setting("", name, field)
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is not None:
            yield from (_setting(name, inner, detail) for inner, detail in section.model_fields.items())


def sections() -> dict[str, str]:
    """Give the tables of the file with their descriptions."""
    fields = Settings.model_fields
    return {name: field.description or "" for name, field in fields.items() if _section(field)}


def show(settings: Settings) -> str:
    """Write the settings as TOML, secrets masked; what is not set stands as a comment."""
    lines = [f"{name} = {_toml(getattr(settings, name))}" for name in Settings.model_fields if name not in sections()]
    for section in sections():
        lines += ["", f"[{section}]"]
        for name, value in vars(getattr(settings, section)).items():
            if value is None:
                lines.append(f"# {name} is not set")
            elif name in _SECRET_TABLES:
                lines += [f"{name}.{json.dumps(key)} = {_toml(_MASK)}" for key in value]
            else:
                lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _setting(section: str, name: str, field: FieldInfo) -> Setting:
    default = "" if field.default_factory or field.default is None else _toml(field.default)
    location = (section, name) if section else (name,)
    return Setting(section, name, variable(location), default, field.description or "")


def _toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = _MASK
    if isinstance(value, Path):
        value = str(value)
    # Strings, numbers, booleans and lists of strings read the same in JSON and in TOML.
    return json.dumps(value, ensure_ascii=False)
