"""Bytes of an object in one go, in a worker thread: what breaks off goes on where it broke."""

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import HTTPClientError, IncompleteReadError
from urllib3.exceptions import HTTPError

from pyvospace.model.faults import ServiceBusy
from pyvospace.storage.backends.s3.errors import translated
from pyvospace.storage.backends.s3.options import Options

log = logging.getLogger(__name__)

_PIECE: Final = 1 << 20
_PAUSE: Final = 0.2
"""Seconds before the first time that a read goes on; doubled each time."""


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes of an object."""

    pieces: list[bytes]
    etag: str
    """Of the object that they are from."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object and how long it is to be."""

    bucket: str
    key: str
    size: int


class SpanReader:
    """Reads a span of an object; for worker threads."""

    def __init__(self, client: Any, wanted: Wanted, options: Options) -> None:
        self._client = client
        self._wanted = wanted
        self._attempts = options.attempts

    def read(self, start: int, stop: int, etag: str | None) -> Read:
        """Read the bytes from `start` up to `stop`, all of them.

        Raises
        ------
        OSError
            The object is not as long as it should be, or not the one of `etag` any more.
        ServiceBusy
            The store breaks off again and again.
        """
        pieces: list[bytes] = []
        position = start
        for attempt in range(self._attempts):
            if attempt:
                log.warning("%s broke off at byte %d: going on there", self._wanted.key, position)
                time.sleep(_PAUSE * 2 ** (attempt - 1))
            answer = self._open(position, stop, etag)
            etag = str(answer["ETag"])
            position += _drain(answer["Body"], pieces, stop - position)
            if position == stop:
                return Read(pieces, etag)
        raise ServiceBusy("the store breaks off")

    def _open(self, start: int, stop: int, etag: str | None) -> dict[str, Any]:
        condition = {"IfMatch": etag} if etag else {}
        wanted = self._wanted
        with translated(f"get_object {wanted.key}"):
            answer: dict[str, Any] = self._client.get_object(
                Bucket=wanted.bucket, Key=wanted.key, Range=f"bytes={start}-{stop - 1}", **condition
            )
        told, expected = answer.get("ContentRange"), f"bytes {start}-{stop - 1}/{wanted.size}"
        if told != expected:
            answer["Body"].close()
            raise OSError(f"{wanted.key} is damaged: the store has {told} and not {expected}")
        return answer


def _drain(body: Any, pieces: list[bytes], size: int) -> int:
    """Read up to `size` bytes into `pieces`; tell how many came before the connection broke."""
    left = size
    try:
        while left and (piece := body.read(min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
    except (HTTPClientError, IncompleteReadError, HTTPError, OSError) as error:
        log.debug("a read broke off: %s", type(error).__name__)
    finally:
        body.close()
    return size - left
