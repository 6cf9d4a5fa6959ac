"""Reading a socket in a worker thread: half the CPU of the way through the event loop."""

import enum
import mmap
import select
import socket
import time
from itertools import cycle
from typing import Final

from pyvospace.storage.direct import BLOCK
from pyvospace.storage.sink import Relay, Sink

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

    The buffer has two halves: while MD5 is still busy with one, the other is filled. It lives for one slice, so
    that the number of buffers is bounded by the threads and not by the clients.

    Parameters
    ----------
    head
        What was read of the body before.
    total
        Size of the body.
    whole
        Whether it is of no use if the client ends the connection before.
    slice_time
        Seconds after which `run` returns; 0: after each half of the buffer.
    """

    def __init__(
        self,
        sock: socket.socket,
        sink: Sink | Relay,
        *,
        head: bytes,
        total: int,
        buffer_size: int,
        whole: bool = True,
        slice_time: float = SLICE,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._sink = sink
        self._head = memoryview(head)
        self._half = max(buffer_size // 2 - buffer_size // 2 % BLOCK, BLOCK)
        self.total = total
        self.received = 0
        self._whole = whole
        self._slice_time = slice_time
        self._cut = False

    @property
    def ended(self) -> bool:
        """Whether the client will send no more of this body."""
        return self._cut or self.received == self.total

    @property
    def rest(self) -> bytes:
        """What is left of `head`, behind this body."""
        return bytes(self._head)

    def finish(self) -> None:
        """Be content with what has come, if anything has."""
        if self.received:
            self._sink.take([], 0, last=True)

    def run(self) -> Pumped:
        """Receive, hash and write until all is there, the client pauses, or the slice of time is over.

        Raises
        ------
        ConnectionError
            The connection broke.
        """
        deadline = time.monotonic() + self._slice_time
        # Pages of an anonymous map go back to the system at once, unlike those of the heap.
        memory = memoryview(mmap.mmap(-1, 2 * self._half))
        halves = cycle((memory[: self._half], memory[self._half :]))
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        try:
            for half in halves:
                why = self._fill_and_take(half, poller, deadline)
                if why is not None:
                    return why
        finally:
            self._sink.settle()
        raise AssertionError  # halves never ends

    def _fill_and_take(self, buffer: memoryview, poller: select.poll, deadline: float) -> Pumped | None:
        # Up to the end of a block: if the last slice ended inside one, the next buffers are aligned again.
        room = min(len(buffer) - self.received % BLOCK, self.total - self.received)
        size, why = self._fill(buffer[:room], poller, deadline)
        self.received += size
        if self.received == self.total or (why is Pumped.CUT and self.received and not self._whole):
            why = Pumped.ALL
        if why is Pumped.ALL or (size and why is not Pumped.CUT):
            self._sink.take([buffer[:size]], size, last=why is Pumped.ALL)
        return why if why is not None or time.monotonic() < deadline else Pumped.SLICE

    def _fill(self, buffer: memoryview, poller: select.poll, deadline: float) -> tuple[int, Pumped | None]:
        """Fill `buffer`; tell how far that went, and why no further."""
        filled = min(len(buffer), len(self._head))
        buffer[:filled] = self._head[:filled]
        self._head = self._head[filled:]
        while filled < len(buffer):
            try:
                size = self._socket.recv_into(buffer[filled:])
            except BlockingIOError:
                if not poller.poll(DRY):
                    return filled, Pumped.DRY
                continue
            except ConnectionError:
                if self._whole:
                    raise
                size = 0
            if not size:
                self._cut = True
                return filled, Pumped.CUT
            filled += size
            if time.monotonic() > deadline + SLICE:  # a slow client
                return filled, Pumped.SLICE
        return filled, None
