"""Documents of the transfers that the service carries out by itself (VOSpace 2.1, sections 6.2 and 6.4)."""

from __future__ import annotations

from pyvospace.client.locations import is_uri
from pyvospace.model.jobs import Job
from pyvospace.model.nodes import Param, View
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import (
    BINARY_VIEW,
    DEFAULT_VIEW,
    HTTP_GET,
    HTTP_PUT,
    HTTPS_GET,
    HTTPS_PUT,
    REPLACE,
    Direction,
)

_VERSION = "2.1"


def move_of(source: NodeUri, destination: NodeUri, *, replace: bool = False) -> Transfer:
    """Ask for moveNode; with `replace` (an extension of our own) what is there gives way."""
    params = (Param(REPLACE, "true"),) if replace else ()
    return Transfer(str(source), str(destination), keep_bytes=False, params=params, version=_VERSION)


def copy_of(source: NodeUri, destination: NodeUri) -> Transfer:
    """Ask for copyNode."""
    return Transfer(str(source), str(destination), keep_bytes=True, version=_VERSION)


def pull_of(target: NodeUri, *urls: str) -> Transfer:
    """Ask for pullToVoSpace from one of these URLs."""
    protocols = tuple(Protocol(HTTPS_GET if _is_secure(url) else HTTP_GET, url) for url in urls)
    return Transfer(str(target), Direction.PULL_TO_VOSPACE, View(BINARY_VIEW), protocols, version=_VERSION)


def push_of(source: NodeUri, *urls: str) -> Transfer:
    """Ask for pushFromVoSpace to one of these URLs."""
    protocols = tuple(Protocol(HTTPS_PUT if _is_secure(url) else HTTP_PUT, url) for url in urls)
    return Transfer(str(source), Direction.PUSH_FROM_VOSPACE, View(DEFAULT_VIEW), protocols, version=_VERSION)


def _is_secure(url: str) -> bool:
    return url[:6].lower() == "https:"


def destination_of(job: Job) -> NodeUri | None:
    """Give where a move or copy has led to; None: the service does not say.

    Raises
    ------
    InvalidURI
        It says nonsense.
    """
    told = {one.id: one.href for one in job.results if is_uri(one.href)}
    href = told.get("destination") or next(iter(told.values()), None)
    return NodeUri.parse(href) if href else None
