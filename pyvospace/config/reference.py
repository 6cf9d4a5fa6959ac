"""The settings as rows: for the reference page and for ``pyvospace config show``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pyvospace.config.load import variable
from pyvospace.config.settings import Settings

_MASK = "**********"
_SECRET_TABLES = frozenset({"options", "protocols"})  # a plugin's settings may hold a key; which one, it alone knows


@dataclass(frozen=True)
class Setting:
    """One setting, as the documentation shows it."""

    section: str
    """Table of the file; empty for the top level."""
    name: str
    variable: str
    """Environment variable; of a table of which there may be several, the one for all of them, as JSON."""
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


def heading(section: str) -> str:
    """Write the line that begins a table of the file; two brackets where there may be several of them."""
    return f"[[{section}]]" if _repeated(Settings.model_fields[section]) else f"[{section}]"


def show(settings: Settings) -> str:
    """Write the settings as TOML, secrets masked; what is not set stands as a comment."""
    lines = [f"{name} = {_toml(getattr(settings, name))}" for name in Settings.model_fields if name not in sections()]
    for section in sections():
        found = getattr(settings, section)
        for table in found if isinstance(found, tuple) else (found,):
            lines += ["", heading(section), *_table(table)]
    return "\n".join(lines)


def _table(table: BaseModel) -> Iterator[str]:
    for name, value in vars(table).items():
        if value is None:
            yield f"# {name} is not set"
        elif isinstance(value, dict):
            yield from _rows(name, value, masked=name in _SECRET_TABLES)
        else:
            yield f"{name} = {_toml(value)}"


def _rows(name: str, value: dict[str, Any], *, masked: bool) -> Iterator[str]:
    for key, inner in value.items():
        place = f"{name}.{json.dumps(key)}"
        if isinstance(inner, dict) and inner:
            yield from _rows(place, inner, masked=masked)
        else:
            yield f"{place} = {_toml(_MASK if masked and inner != {} else inner)}"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    annotation = get_args(field.annotation)[0] if _repeated(field) else field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _repeated(field: FieldInfo) -> bool:
    found = get_args(field.annotation)
    return bool(found) and isinstance(found[0], type) and issubclass(found[0], BaseModel)


def _setting(section: str, name: str, field: FieldInfo) -> Setting:
    given = field.is_required() or field.default_factory or field.default is None
    default = "" if given else _toml(field.default)
    location = (section, name) if section else (name,)
    if section and _repeated(Settings.model_fields[section]):
        location = (section,)
    return Setting(section, name, variable(location), default, field.description or "")


def _toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = _MASK
    if isinstance(value, Path):
        value = str(value)
    # Strings, numbers, booleans and lists of strings read the same in JSON and in TOML.
    return json.dumps(value, ensure_ascii=False)
