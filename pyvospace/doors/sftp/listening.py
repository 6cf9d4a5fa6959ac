"""Listening for SSH: the key of the server, and what no connection may."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from typing import TYPE_CHECKING, Final

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOGIN: Final = 30
"""Seconds in which somebody has to show who he is."""
_ALIVE: Final = 30
"""Seconds after which a silent client is asked whether it is still there; after three times it is not."""
_KEY: Final = "ssh_host_ed25519_key"

# It logs names of users, which for endpoints may hold their secret.
asyncssh.set_log_level(logging.WARNING)


def host_key(file: Path | None, data: Path) -> asyncssh.SSHKey:
    """Read the key of the server, or that which is kept in the data directory; the first time, make it.

    Raises
    ------
    ValueError
        It cannot be read.
    """
    place = file or data / _KEY
    if file is None and not place.exists():
        _make_key(place)
    try:
        return asyncssh.read_private_key(place)
    except (OSError, asyncssh.KeyImportError) as error:
        raise ValueError(f"host key {place}: {getattr(error, 'strerror', None) or error}") from None


def _make_key(place: Path) -> None:
    """Make a key that only we can read; of several processes that do so at the same time, one succeeds."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = place.with_name(f"{place.name}.{secrets.token_hex(8)}")
    with open(made, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(asyncssh.generate_private_key("ssh-ed25519", "pyvospace").export_private_key())
    with contextlib.suppress(FileExistsError):
        os.link(made, place)
    made.unlink()


async def listen(
    host: str, port: int, server: Callable[[], asyncssh.SSHServer], *, key: asyncssh.SSHKey
) -> asyncssh.SSHAcceptor:
    """Listen; other processes may listen at the same port."""
    return await asyncssh.listen(
        host,
        port,
        server_factory=server,
        server_host_keys=[key],
        reuse_port=True,
        login_timeout=_LOGIN,
        keepalive_interval=_ALIVE,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_pty=False,
        line_editor=False,
        allow_scp=False,
    )


class Connections:
    """Counts connections, and by what distinguishes their clients."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._open: dict[str, int] = {}

    def admit(self, client: str) -> bool:
        """Count a connection in; False: it is one too many."""
        number = self._open.get(client, 0)
        if sum(self._open.values()) >= self._most or number >= self._most_of_one:
            return False
        self._open[client] = number + 1
        return True

    def leave(self, client: str) -> None:
        """Count one out that was admitted."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]
