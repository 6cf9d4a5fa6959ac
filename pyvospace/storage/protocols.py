"""Servers of protocols beside HTTP, run by a storage server: what they are, where they come from, their life."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from pyvospace.model.transfers import Offer

if TYPE_CHECKING:
    from pyvospace.config import Settings
    from pyvospace.storage.jobpool import JobPool

__all__ = ["Offer", "ProtocolConfig", "ProtocolServer", "Protocols", "load_protocols"]

ENTRY_POINTS: Final = "pyvospace.protocols"


@dataclass(frozen=True, slots=True)
class ProtocolConfig:
    """What the administrator set for one protocol."""

    options: Mapping[str, str | int]
    """The table ``[storage.protocols.NAME]``; check it in `ProtocolServer.configure`."""
    data: Path
    """Directory of the storage, for what is to outlast a restart: keys of the server. It may not exist yet."""
    host: str
    """Where the storage server listens."""
    public_host: str
    """How clients call this machine."""
    idle: float
    """Seconds for which a client may be silent."""


class ProtocolServer(ABC):
    """A server of another protocol in the process, and the event loop, of a storage server."""

    @classmethod
    @abstractmethod
    def configure(cls, config: ProtocolConfig) -> Self:
        """Make one from the settings, without listening yet.

        Raises
        ------
        ValueError
            A setting is wrong; the text names it.
        """

    @abstractmethod
    async def start(self, pool: JobPool) -> Sequence[Offer]:
        """Listen, and tell what transfers may be offered from now on.

        Several processes may serve the same port: listen with SO_REUSEPORT.
        """

    @abstractmethod
    async def close(self) -> None:
        """Take nobody new, let transfers end (`JobPool.drain`), and cut off who is still there.

        The pool and its threads are there until this returns.
        """


def load_protocols(settings: Settings) -> list[ProtocolServer]:
    """Make the servers that ``storage.protocols`` names.

    Raises
    ------
    ValueError
        No installed package offers one, or a setting of it is wrong.
    """
    storage = settings.storage
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    servers = []
    for name, options in storage.protocols.items():
        if name not in found:
            raise ValueError(f"storage.protocols: no {name!r}; installed: {', '.join(sorted(found)) or 'none'}")
        config = ProtocolConfig(
            options=options,
            data=storage.path,
            host=storage.host,
            public_host=urlsplit(storage.public_url).hostname or storage.host,
            idle=storage.idle_timeout,
        )
        servers.append(_kind(name, found[name]).configure(config))
    return servers


def _kind(name: str, point: EntryPoint) -> type[ProtocolServer]:
    try:
        kind = point.load()
    except ImportError as error:
        raise ValueError(f"storage.protocols: {name!r} needs a package that is not installed: {error.name}") from None
    if not (isinstance(kind, type) and issubclass(kind, ProtocolServer)):
        raise ValueError(f"storage.protocols: {name!r} is no ProtocolServer")  # noqa: TRY004 (a wrong setting)
    return kind


class Protocols:
    """The life of these servers.

    Parameters
    ----------
    offer
        Tells the catalogue what there is.
    """

    def __init__(self, servers: Sequence[ProtocolServer], offer: Callable[[Sequence[Offer]], Awaitable[None]]) -> None:
        self._servers = servers
        self._offer = offer

    async def run(self, pool: JobPool) -> AsyncIterator[None]:
        """Serve between the two halves of this generator (``cleanup_ctx`` of aiohttp)."""
        started: list[ProtocolServer] = []
        offers: list[Offer] = []
        try:
            for server in self._servers:
                offers += await server.start(pool)
                started.append(server)
            await self._offer(offers)
            yield
        finally:
            for server in reversed(started):
                await server.close()
