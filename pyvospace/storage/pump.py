"""Reading a socket in a worker thread: half the CPU of the way through the event loop."""

import enum
import mmap
import select
import socket
import time
from itertools import cycle
from typing import Final

from pyvospace.storage.sink import Sink

SLICE: Final = 1.0
"""Seconds after which the thread goes back to its pool, so that all clients get their turn."""
DRY: Final = 100
"""Milliseconds without a byte after which the client is waited for without a thread."""


class Pumped(enum.Enum):
    """Why `Pump.run` returned."""

    ALL = enum.auto()
    """Everything has come and is durable."""
    DRY = enum.auto()
    """Nothing to read at present."""
    CUT = enum.auto()
    """The client ended the connection."""
    SLICE = enum.auto()
    """There is more; others are to have their turn."""


class Pump:
    """The body of one upload, read from a socket of its own in as many slices as it takes.

    Two buffers: while MD5 is still busy with one, the other is filled. They live for one slice, so their
    number is bounded by the threads and not by the clients.
    """

    def __init__(self, sock: socket.socket, sink: Sink, *, total: int, buffer_size: int) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._sink = sink
        self._buffer_size = buffer_size
        self.total = total
        self.received = 0
        self._cut = False

    @property
    def ended(self) -> bool:
        """Whether the client will send no more of this body."""
        return self._cut or self.received == self.total

    def begin(self, head: bytes) -> Pumped:
        """Take what was read of the body before."""
        self.received = len(head)
        last = self.received == self.total
        if head or last:
            self._sink.take([head], len(head), last=last)
            self._sink.settle()
        return Pumped.ALL if last else Pumped.SLICE

    def run(self) -> Pumped:
        """Receive, hash and write until all is there, the client pauses, or the slice of time is over.

        Raises
        ------
        ConnectionError
            The connection broke.
        """
        deadline = time.monotonic() + SLICE
        # Pages of an anonymous map go back to the system at once, unlike those of the heap.
        memory = memoryview(mmap.mmap(-1, 2 * self._buffer_size))
        halves = cycle((memory[: self._buffer_size], memory[self._buffer_size :]))
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        try:
            for half in halves:
                size, why = self._fill(half[: self.total - self.received], poller, deadline)
                self.received += size
                why = Pumped.ALL if self.received == self.total else why
                if size and why is not Pumped.CUT:
                    self._sink.take([half[:size]], size, last=why is Pumped.ALL)
                if why is not None:
                    return why
        finally:
            self._sink.settle()
        raise AssertionError  # halves never ends

    def _fill(self, buffer: memoryview, poller: select.poll, deadline: float) -> tuple[int, Pumped | None]:
        """Fill `buffer`; tell how far that went, and why no further."""
        filled = 0
        while filled < len(buffer):
            try:
                size = self._socket.recv_into(buffer[filled:])
            except BlockingIOError:
                if not poller.poll(DRY):
                    return filled, Pumped.DRY
                continue
            if not size:
                self._cut = True
                return filled, Pumped.CUT
            filled += size
            if time.monotonic() > deadline:
                return filled, Pumped.SLICE
        return filled, None
