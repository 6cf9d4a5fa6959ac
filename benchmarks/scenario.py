"""What a run of the benchmarks measures, how often and how long, and beside whom: a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

_FOLDER = Path(__file__).parent / "scenarios"
_STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Group = Literal["nodes", "listings", "small files", "quota", "jobs", "archives", "large files", "elsewhere"]
GROUPS: tuple[Group, ...] = get_args(Group)


class ScenarioError(ValueError):
    """A scenario cannot be read, and why."""


@dataclass(frozen=True, config=_STRICT)
class Other:
    """A system that is asked by its URL."""

    name: str
    kind: Literal["vospace", "webdav", "s3"]
    url: str = ""
    """Of a VOSpace its base, where /capabilities is; of the others the folder or the bucket that the run may fill."""
    folder: str = ""
    """Path of a container that the run may fill; of a VOSpace only."""
    authority: str = ""
    """What stands between vos:// and the path in names of nodes; of a VOSpace only."""
    token: str = ""
    """Name of the environment variable with the token, or, of WebDAV, with user:password."""
    start: Literal["", "nginx", "rclone", "radosgw", "moto"] = ""
    """A server that the run itself starts, for those who have none at hand."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.start:
            return self
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise ValueError(
                f"{self.name}: {self.url or 'nothing'} is no URL of http or https, and `start` names no server"
            )
        if self.kind == "vospace" and not (self.authority and self.folder.startswith("/")):
            raise ValueError(f"{self.name} needs its `authority`, and a `folder` that begins with /")
        return self


@dataclass(frozen=True, config=_STRICT)
class Scenario:
    """Every value has a default; a file names what it wants otherwise."""

    title: str = "Benchmarks"
    pair: bool = True
    """Start a pair of our own, with its ceilings, in the same run."""
    groups: tuple[Group, ...] = GROUPS
    """What is measured of the pair and its ceilings."""
    systems: tuple[Other, ...] = ()
    """Who is measured beside it, by requests of the standards."""
    workers: Count = 1
    """Processes of each of our servers."""
    warm_up: Annotated[float, Field(ge=0)] = 1.0
    """Seconds of each measure that do not count."""
    rounds: Count = 5
    seconds: Seconds = 4.0
    """Length of a round of small operations."""
    concurrency: Count = 16
    large: Count = 1 << 30
    """Bytes of a large file."""
    listings: tuple[Count, ...] = (10, 1000, 100_000)
    """Children of the containers that are listed."""
    compared: Count = 1 << 28
    """Bytes of a large file of systems that are asked by URL."""
    children: Count = 1000
    """Children of what is listed there, which have to be made by requests."""
    archived: Count = 10_000
    """Small files in an archive."""
    waiters: Count = 1000
    """Clients that wait for the end of a job."""
    profile_seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long to look into the servers for each target that is not met; 0: not at all."""
    sections: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Options of the modules of the report: workers, scale, soak."""


_READER = TypeAdapter(Scenario)


def load(name: str | Path, **otherwise: Any) -> Scenario:
    """Read a scenario, a file or the name of one of ours, with what options say otherwise.

    Raises
    ------
    ScenarioError
        It cannot be read, or says what makes no sense.
    """
    ours = _FOLDER / f"{name}.toml"
    try:
        return _READER.validate_python(tomllib.loads((ours if ours.exists() else Path(name)).read_text()) | otherwise)
    except ValidationError as error:
        raise ScenarioError("; ".join(_said(one) for one in error.errors())) from None
    except (OSError, ValueError) as error:
        raise ScenarioError(str(error)) from None


def _said(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    said = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def as_json(scenario: Scenario) -> Any:
    """Give it back as plain values."""
    return _READER.dump_python(scenario, mode="json")
