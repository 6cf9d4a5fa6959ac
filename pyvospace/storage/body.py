"""What every body of the core has in common, whatever it comes from."""

from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pyvospace.model.faults import Fault, InvalidData, QuotaExceeded, RequestEntityTooLarge
from pyvospace.storage.backend import Body
from pyvospace.storage.hashing import Announced, Digests, Hashes, Watch
from pyvospace.storage.inspection import Inspection


@dataclass(frozen=True, slots=True)
class Received:
    """All bytes came, and they are what the client announced."""

    size: int
    digests: Digests


class CheckedBody(Body):
    """A body that is counted, hashed and compared with what was announced.

    Parameters
    ----------
    size
        How many bytes were announced; None: unknown.
    limit
        The most bytes that are welcome; None: as many as fit.
    announced
        The digests that the bytes are to have.
    """

    def __init__(self, *, size: int | None, limit: int | None, announced: Announced) -> None:
        self.size = size
        self.received: Received | None = None
        """Set at the end of the body, if all is well."""
        self.inspection: Inspection | None = None
        """Shown all bytes; what it finds wrong fails the body. To be set before the body is consumed."""
        self.room: tuple[int, str] | None = None
        """Bytes that quotas leave room for, and what to say of more. To be set before the body is consumed."""
        self.begun: Hashes | None = None
        """What came before, if the digests are to be those of more than this body. To be set likewise."""
        self.hashes: Hashes | None = None
        """The same with this body, at its end."""
        self._limit = limit
        self._announced = announced
        self._begun = False

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes in pieces (see `Body.__aiter__`)."""

    async def discard(self) -> None:
        """Receive everything, check it and keep nothing."""
        async for _ in self:
            pass

    def digests(self) -> Digests:
        """Tell the digests of a body that was received."""
        if self.received is None:
            raise RuntimeError("the body was not received to its end")
        return self.received.digests

    def _begin(self) -> None:
        """To be called first by whatever consumes the body."""
        if self._begun:
            raise RuntimeError("a body can be consumed only once")
        self._begun = True
        self._check_size(self.size or 0)

    def _check_size(self, size: int) -> None:
        """Compare a number of bytes, announced or received so far, with the limit."""
        if self._limit is not None and size > self._limit:
            raise RequestEntityTooLarge(f"more than {self._limit} bytes are not taken")
        if self.room is not None and size > self.room[0]:
            raise QuotaExceeded(self.room[1])

    def _verify(self, size: int, digests: Digests) -> None:
        """Compare what came with what was announced; for worker threads as well."""
        if self.size is not None and size != self.size:
            raise self._cut(size)
        self._announced.verify(digests)
        if self.inspection is not None:
            self.inspection.end()

    @property
    def _watch(self) -> Watch | None:
        return self.inspection.take if self.inspection is not None else None

    def _cut(self, size: int) -> Fault:
        return InvalidData(f"the body ended after {size} of {self.size} bytes")
