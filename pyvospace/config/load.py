"""Reading the settings: command line, then environment, then file, then defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from pyvospace.config.settings import DELIMITER, PREFIX, Settings

CONFIG_VARIABLE = f"{PREFIX}CONFIG"
"""Environment variable that names the file."""
OTHER_VARIABLES = frozenset(
    {
        CONFIG_VARIABLE,
        f"{PREFIX}CRASH",
        f"{PREFIX}DATA",
        f"{PREFIX}OFFICIAL_SCHEMAS",
        f"{PREFIX}PG_BIN",
        f"{PREFIX}WORKER",
    }
)
"""Variables with our prefix that are no settings."""
DEFAULT_FILES = (Path("~/.config/pyvospace/pyvospace.toml"), Path("/etc/pyvospace.toml"))
"""Files that are read if none is named; the first that exists."""

_DEFAULT_NOT_MADE = "default_factory_not_called"  # another setting of the section is wrong and says so itself


@dataclass(frozen=True)
class Problem:
    """Something wrong with the settings."""

    where: str
    """The file and the name of the setting, or the environment variable, or the option."""
    what: str

    def __str__(self) -> str:
        """Give the one line that is shown."""
        return f"{self.where}: {self.what}"


class ConfigError(Exception):
    """Settings with which nothing can start."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class _Layer:
    """The settings of one source."""

    values: Mapping[str, Any]
    file: Path | None = None
    environment: bool = False

    def name(self, location: tuple[str, ...]) -> str | None:
        """Say how this source names the setting; None if it does not have it."""
        values: Any = self.values
        for key in location:
            if isinstance(values, list) and key.isdecimal() and int(key) < len(values):
                values = values[int(key)]
                continue
            if not isinstance(values, Mapping) or key not in values:
                return None
            values = values[key]
        if self.environment and not isinstance(values, Mapping):
            return variable(location)
        return ".".join(location) if self.file is None else f"{self.file}: {'.'.join(location)}"


def find_file(given: Path | None = None) -> Path | None:
    """Find the file of settings: the one given, the one that PYVOSPACE_CONFIG names, or a default one that exists."""
    named = given or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        return named.expanduser()
    return next((file for path in DEFAULT_FILES if (file := path.expanduser()).is_file()), None)


def load(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings.

    Parameters
    ----------
    file
        As for `find_file`.
    overrides
        What the command line says: ``{"metadata": {"port": 8000}}``.

    Raises
    ------
    ConfigError
        With every problem that there is. An environment variable that is no setting is none, since other programs
        (Kubernetes) set variables with our prefix: see `unknown_variables`.
    """
    layers = [_Layer(overrides or {}), _environment(), _file(find_file(file))]
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _merge(merged, layer.values)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise ConfigError(list(_problems(error, layers))) from None


def check(file: Path | None = None) -> list[Problem]:
    """Name everything wrong with the settings, unknown variables of the environment included."""
    try:
        load(file)
    except ConfigError as error:
        return error.problems + unknown_variables()
    return unknown_variables()


def unknown_variables() -> list[Problem]:
    """Name the variables of the environment that look like settings and are none."""
    known = [variable(location) for location in _names(Settings)]
    sections = {variable((name,)) for name in Settings.model_fields}  # what is wrong below one is found by `load`
    return [
        Problem(name, "unknown variable" + _suggestion(_nearest(name.upper(), known)))
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX)
        and name.upper() not in OTHER_VARIABLES
        and name.upper().partition(DELIMITER)[0] not in sections
    ]


def variable(location: tuple[str, ...]) -> str:
    """Name the environment variable of a setting."""
    return PREFIX + DELIMITER.join(location).upper()


def as_environment(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Write what `load` takes as `overrides` as variables, for the environment of another process."""
    found: dict[str, str] = {}
    for name, value in overrides.items():
        if isinstance(value, Mapping):
            found |= {variable((name, inner)): str(detail) for inner, detail in value.items()}
        else:
            found[variable((name,))] = str(value)
    return found


def environment_of(file: Path | None, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Give our environment, changed so that another process that reads its settings from it finds the same ones."""
    environment = {**os.environ, **as_environment(overrides)}
    if found := find_file(file):
        environment[CONFIG_VARIABLE] = str(found.absolute())
    return environment


def _environment() -> _Layer:
    try:
        return _Layer(EnvSettingsSource(Settings, env_ignore_empty=True)(), environment=True)
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        where = variable((field[1],)) if field else "environment"
        raise ConfigError([Problem(where, "no JSON; set the variables of the single settings instead")]) from None


def _file(path: Path | None) -> _Layer:
    if path is None:
        return _Layer({})
    try:
        return _Layer(tomllib.loads(path.read_text(encoding="utf-8")), file=path)
    except OSError as error:
        raise ConfigError([Problem(str(path), error.strerror or "cannot be read")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), f"no TOML: {error}")]) from None


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _problems(error: ValidationError, layers: list[_Layer]) -> Iterator[Problem]:
    """Put pydantic's errors into words; never a value, since it may be a secret."""
    for detail in error.errors(include_input=False, include_context=False, include_url=False):
        if detail["type"] == _DEFAULT_NOT_MADE:
            continue
        location = tuple(str(part) for part in detail["loc"])
        found = (layer.name(location) for layer in layers)
        where = next((name for name in found if name), ".".join(location))
        if detail["type"] == "extra_forbidden":
            near = _nearest(location[-1], _siblings(location))
            spelled = variable((*location[:-1], near)) if where.startswith(PREFIX) and near else near
            yield Problem(where, "unknown setting" + _suggestion(spelled))
        else:
            yield Problem(where, detail["msg"].removeprefix("Value error, "))


def _siblings(location: tuple[str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for key in location[:-1]:
        if key.isdecimal():  # one of several tables
            continue
        annotation = model.model_fields[key].annotation
        annotation = next(iter(get_args(annotation)), annotation)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _names(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from ((name, *inner) for inner in _names(field.annotation))
        else:
            yield (name,)


def _nearest(word: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1)), None)


def _suggestion(near: str | None) -> str:
    return f", did you mean {near}?" if near else ""
