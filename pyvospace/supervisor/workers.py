"""The two servers: in this process, or in several that share a port."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Literal

import aiohttp

from pyvospace.config import Settings
from pyvospace.config.load import unknown_variables
from pyvospace.config.requirements import require_safe_versions
from pyvospace.config.settings import PREFIX, ServerSettings
from pyvospace.service.logs import set_up_logs
from pyvospace.supervisor.errors import SupervisorError
from pyvospace.supervisor.processes import Processes, Program, Supervised, until_signalled

log = logging.getLogger(__name__)

Server = Literal["metadata", "storage"]
_LEAVING = 30.0
"""Seconds that a server may take to end, beside what it gives to transfers."""
WORKER = f"{PREFIX}WORKER"
"""Environment variable that tells a process that it is one of several."""
_PROBES: Mapping[Server, str] = {"metadata": "/capabilities", "storage": "/readyz"}


def serve(server: Server, settings: Settings, environment: Mapping[str, str]) -> None:
    """Run a server until SIGTERM or SIGINT.

    Parameters
    ----------
    environment
        From which a worker reads the same settings again.

    Raises
    ------
    SupervisorError
        The port is taken, or no worker comes up.
    """
    if WORKER in os.environ:
        set_up_logs(settings.log)
        _run(server, settings)
        return
    begin(settings)
    listening = settings.metadata if server == "metadata" else settings.storage
    require_free_port(listening)
    if listening.workers == 1:
        _run(server, settings)
        return
    processes = Processes()
    asyncio.run(until_signalled(_serve_workers(server, listening, environment, processes), processes))


def work(settings: Settings) -> None:
    """Run jobs until SIGTERM or SIGINT."""
    from pyvospace.server import worker  # noqa: PLC0415 (as in `_run`)

    begin(settings)
    worker.run(settings)


def open_door(settings: Settings) -> None:
    """Run the SFTP door until SIGTERM or SIGINT.

    Raises
    ------
    SupervisorError
        asyncssh is not installed, or the door cannot be opened.
    """
    try:
        from pyvospace.doors.sftp import door  # noqa: PLC0415 (as in `_run`)
    except ModuleNotFoundError as error:
        raise SupervisorError(f"SFTP needs the package {error.name}: pip install 'pyvospace[sftp]'") from None
    begin(settings)
    try:
        door.run(settings)
    except (ValueError, OSError) as error:
        raise SupervisorError(f"sftp: {error}") from error


def begin(settings: Settings) -> None:
    """Do what comes first in a process that a user starts: logs, a word about odd variables, a look at libraries.

    Raises
    ------
    ConfigError
        A library is known to be dangerous.
    """
    set_up_logs(settings.log)
    for problem in unknown_variables():
        log.warning("%s", problem)
    require_safe_versions()


def programs(server: Server, listening: ServerSettings, environment: Mapping[str, str]) -> list[Program]:
    """Give the processes of a server, ready to be started."""
    command = (sys.executable, "-P", "-m", "pyvospace", server)  # -P: a folder of our name here is not us
    return [
        Program(
            name=f"{server} server" if listening.workers == 1 else f"{server} worker {number}",
            command=command,
            environment={**environment, WORKER: str(number)},
            patience=listening.drain_delay + listening.drain_time + _LEAVING,
        )
        for number in range(1, listening.workers + 1)
    ]


async def wait_until_ready(server: Server, listening: ServerSettings, running: list[Supervised]) -> None:
    """Wait until a server answers.

    Raises
    ------
    SupervisorError
        One of its processes ended instead; what it said stands in the log.
    """
    scheme = "https" if listening.tls_cert else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listening.host, listening.host)  # noqa: S104 (translated)
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{listening.port}{_PROBES[server]}"
    # The certificate is for the public name, and we know whom we talk to.
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        while True:
            fallen = next((supervised for supervised in running if supervised.falls), None)
            if fallen:
                raise SupervisorError(f"the {fallen.program.name} does not start; its last lines above say why")
            try:
                async with session.get(url, ssl=False) as response:
                    if response.ok:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)


def require_free_port(listening: ServerSettings, *, patience: float = 1.0) -> None:
    """Make sure that a server can listen; a port may be held a moment longer by servers that are being killed.

    Raises
    ------
    SupervisorError
        Somebody else listens there, or the address is not ours.
    """
    end = time.monotonic() + patience
    while True:
        try:
            _try_port(listening)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < end:
                time.sleep(0.05)
                continue
            reason = "in use; --port takes another one" if error.errno == errno.EADDRINUSE else error.strerror
            raise SupervisorError(f"port {listening.port} of {listening.host}: {reason}") from None
        return


def _try_port(listening: ServerSettings) -> None:
    for family, kind, protocol, _, address in socket.getaddrinfo(
        listening.host, listening.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # but not REUSEPORT: nobody is to be there
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
            probe.listen(1)


def _run(server: Server, settings: Settings) -> None:
    # Imported here: each is slow to import and needs much that the other one and the supervisor do not.
    try:
        if server == "metadata":
            from pyvospace.server import app as metadata_server  # noqa: PLC0415

            metadata_server.run(settings)
        else:
            from pyvospace.storage import app as storage_server  # noqa: PLC0415

            storage_server.run(settings)
    except ValueError as error:  # a setting that the server itself has to judge: an option of a plugin, say
        log.debug("the %s server does not start", server, exc_info=True)
        raise SupervisorError(str(error)) from error


async def _serve_workers(
    server: Server, listening: ServerSettings, environment: Mapping[str, str], processes: Processes
) -> None:
    async with processes:
        running = [await processes.start(program) for program in programs(server, listening, environment)]
        await wait_until_ready(server, listening, running)
        log.info("%d workers of the %s server are ready", len(running), server)
        await asyncio.Event().wait()
