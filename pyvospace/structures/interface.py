"""What a structured type says and does: all that a plugin sees of pyvospace.

Everything a type does is plain blocking code that storage servers run in threads; one object serves a whole process
and all its threads, so that it keeps nothing between two calls.

What a type reads was written by strangers. Its obligations:

* Memory is bounded, whatever the bytes say of themselves.
* `Rendering.pieces` gives a piece after each small amount of work, an empty one if there is nothing to give yet:
  between two pieces the server looks at the clock and lets others have the thread.
* What is wrong with the bytes is an `InvalidData`, with the parameters of the client an `InvalidArgument`; a view
  that cannot be had (something is not installed, a variant is not known) is a `ViewNotSupported`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ViewParam:
    """A parameter that a client may give with a view."""

    uri: str
    description: str
    pattern: str = r".{1,200}"
    """Regular expression that the whole value matches."""


@dataclass(frozen=True, slots=True)
class StructuredView:
    """Something that can be computed from the bytes."""

    uri: str
    media_type: str
    """MIME type of the answer."""
    description: str
    suffix: str
    """What the name of the answer ends with, in place of the extension of the node: ``.headers.txt``."""
    params: tuple[ViewParam, ...] = ()


class Bytes(Protocol):
    """The bytes of a node, to be read at any place."""

    @property
    def size(self) -> int:
        """How many there are."""

    def read(self, start: int, length: int) -> bytes:
        """Give `length` bytes from `start` on, fewer only at the end. Ask for a few MiB at the most."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """A view of the bytes of one node."""

    pieces: Iterator[bytes]
    """Closed by the server, if it is a generator, when the client goes away."""
    size: int | None = None
    """How many bytes the pieces have together, if that is known before."""
    suffix: str | None = None
    """In place of `StructuredView.suffix`."""


class Check:
    """Looks at bytes as they come, to say at their end whether they are what the client says they are.

    This one is content with what `StructuredType.recognises` said.
    """

    def take(self, piece: bytes) -> None:
        """Look at some more bytes, in their order.

        Raises
        ------
        InvalidData
            They are not of the type. No more are shown then.
        """

    def end(self) -> None:
        """Be told that these were all; raise as `take`."""


class StructuredType(ABC):
    """A type of files."""

    name: str
    """Kept with each node that has such bytes: lower-case letters, digits and hyphens; never to be changed."""
    description: str
    import_view: str
    """URI of the view by which a client says that the bytes he brings are of this type; they are checked then."""
    content_types: tuple[str, ...] = ()
    """MIME types of such files, lower case."""
    views: tuple[StructuredView, ...] = ()

    def recognises(self, head: bytes, content_type: str | None) -> bool:
        """Say whether a file is of this type.

        Parameters
        ----------
        head
            Its first bytes, at most `HEAD`.
        content_type
            MIME type that the client named, lower case and without parameters. Better not believed if the bytes
            themselves can tell.
        """
        del head
        return content_type in self.content_types

    def check(self) -> Check:
        """Begin to check bytes that are said to be of this type and were recognised."""
        return Check()

    def missing(self) -> str | None:
        """Say what is not installed without which some views cannot be had; None: nothing."""
        return None

    @abstractmethod
    def render(self, view: StructuredView, params: Mapping[str, str], source: Bytes) -> Rendering:
        """Begin to compute a view.

        Parameters
        ----------
        view
            One of `views`.
        params
            Values by URI: each is one of the view's and matches its pattern.
        """


HEAD = 8192
"""Bytes that are shown to `StructuredType.recognises`."""
