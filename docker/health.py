# ruff: noqa: INP001 (a program of the image, no part of the package)
"""Health of a container: exit code 0 if what its first process was told to serve answers.

The image has one health check for all roles, so this finds out the role from the command line of process 1. A role
that serves nothing (migrate, the commands of users) is healthy for as long as it runs.

It asks `/livez`, not `/readyz`: an engine restarts what is not healthy, and that heals no database.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT = 4.0
PORTS = {"metadata": 8080, "storage": 8081}
"""Default port of each server."""


def targets(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, int]:
    """Say the port of each server that a command runs; no server for commands that serve nothing."""
    arguments = _arguments(command)
    role = arguments[0] if arguments else ""
    given = _option("--port", arguments)
    configured = {name: int(environment.get(_variable(name, "PORT")) or 0) for name in PORTS}
    if role in PORTS:
        return {role: int(given or configured[role] or PORTS[role])}
    if role != "up":
        return {}
    first = int(given or configured["metadata"] or PORTS["metadata"])
    following = 0 if given else configured["storage"]
    return {"metadata": first, "storage": following or first + 1}


def answers(port: int, *, tls: bool = False) -> bool:
    """Tell whether the server at a port of this container lives."""
    connection = _connection(port, tls=tls)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connection(port: int, *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    context = ssl.create_default_context()
    context.check_hostname = False  # the certificate is for the public name, and we know whom we talk to
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)


def _arguments(command: Sequence[str]) -> Sequence[str]:
    """Drop what stands before `pyvospace` and itself: the interpreter, an init."""
    names = [Path(word).name for word in command]
    return command[names.index("pyvospace") + 1 :] if "pyvospace" in names else []


def _option(name: str, arguments: Sequence[str]) -> str:
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def _variable(section: str, name: str) -> str:
    return f"PYVOSPACE_{section.upper()}__{name}"


def main() -> int:
    """Check what process 1 serves."""
    command = Path("/proc/1/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    tls = any(os.environ.get(_variable(name, "TLS_CERT")) for name in PORTS) or bool(_option("--tls-cert", command))
    silent = [
        f"the {name} server does not answer at port {port}"
        for name, port in targets(command, os.environ).items()
        if not answers(port, tls=tls)
    ]
    sys.stdout.write("\n".join(silent) or "ok")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
