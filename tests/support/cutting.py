"""A way to a server that is cut again and again: a TCP proxy that ends connections in the middle of what they carry."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.pair import free_ports

_PIECE = 16 << 10


@dataclass
class Cutting:
    """The proxy."""

    port: int
    target: int
    cuts: int = 0
    """Connections that are still to be cut."""
    after: int = 0
    """Bytes from the client that each of these carries before."""
    made: int = 0
    """Cuts that were made."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Where clients come in."""
        return f"http://localhost:{self.port}"

    def cut(self, times: int, *, after: int) -> None:
        """Cut connections from now on."""
        self.cuts, self.after, self.made = times, after, 0

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 30)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        threading.Thread(target=self._back, args=(server, client), daemon=True).start()
        carried = 0
        with client, server, suppress(OSError):
            while data := client.recv(_PIECE):
                carried += len(data)
                server.sendall(data)
                if self._due(carried):
                    break
            for one in (client, server):
                one.shutdown(socket.SHUT_RDWR)

    def _due(self, carried: int) -> bool:
        with self._lock:
            if self.cuts <= 0 or carried < self.after:
                return False
            self.cuts -= 1
            self.made += 1
            return True

    @staticmethod
    def _back(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_PIECE):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()


@contextmanager
def cutting(target: int) -> Iterator[Cutting]:
    """Run a proxy to a port of this machine."""
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)) as listener:
        proxy = Cutting(port, target)
        threading.Thread(target=proxy._accept, args=(listener,), daemon=True).start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
