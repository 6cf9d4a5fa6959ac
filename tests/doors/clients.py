"""Clients of SFTP: OpenSSH as it is, and asyncssh for what OpenSSH does not do."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import asyncssh

from tests.support.pair import Pair

PROTOCOL = "ivo://pyvospace/protocols#sftp"
HTTP_PUT = "ivo://ivoa.net/vospace/core#httpput"
HTTP_GET = "ivo://ivoa.net/vospace/core#httpget"


def negotiate(pair: Pair, direction: str, path: str, *protocols: str, token: str | None = None) -> str:
    """Post a transfer; give the document that answers it."""
    wanted = "".join(f'<vos:protocol uri="{one}"/>' for one in protocols or (PROTOCOL,))
    document = (
        '<vos:transfer xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" version="2.1">'
        f"<vos:target>{pair.uri(path)}</vos:target><vos:direction>{direction}</vos:direction>{wanted}</vos:transfer>"
    )
    headers = {"Authorization": f"Bearer {token or pair.token}", "Content-Type": "text/xml"}
    asked = urllib.request.Request(f"{pair.url}/synctrans", document.encode(), headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return str(answer.read().decode())


def endpoint(pair: Pair, direction: str, path: str) -> str:
    """Negotiate a transfer by SFTP; give its endpoint."""
    [found] = re.findall("<vos:endpoint>(sftp:[^<]*)<", negotiate(pair, direction, path))
    return str(found)


def openssh(place: str, *commands: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run OpenSSH's ``sftp`` with a batch of commands."""
    quiet = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-F/dev/null")
    return subprocess.run(
        ["sftp", *quiet, *options, "-b", "-", place],
        input="\n".join([*commands, ""]),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@dataclass(frozen=True)
class Way:
    """How to reach a server."""

    host: str
    port: int
    user: str
    password: str | None = None

    @classmethod
    def of(cls, url: str) -> Way:
        """Read an endpoint."""
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        return cls(parts.hostname, parts.port, parts.username or "", parts.password)


@asynccontextmanager
async def connected(way: Way, key: Path | None = None) -> AsyncIterator[asyncssh.SFTPClient]:
    """Speak SFTP in this process."""
    keys = [str(key)] if key is not None else None
    async with (
        asyncssh.connect(
            way.host,
            way.port,
            username=way.user,
            password=way.password,
            client_keys=keys,
            known_hosts=None,
            config=None,
            agent_path=None,
        ) as connection,
        connection.start_sftp_client() as client,
    ):
        yield client


def read_http(pair: Pair, path: str, *, token: str | None = None) -> bytes:
    """Read a file as clients of HTTP do."""
    asked = urllib.request.Request(
        f"{pair.url}/files{pair.home}/{path}", headers={"Authorization": f"Bearer {token or pair.token}"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return bytes(answer.read())


async def block(file: asyncssh.SFTPClientFile, size: int, offset: int) -> bytes:
    """Read somewhere in a file that was opened without an encoding."""
    return cast("bytes", await file.read(size, offset))
