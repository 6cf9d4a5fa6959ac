"""What new bytes of a StructuredDataNode are, found out as they stream by."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyvospace.model.claims import UploadClaim
from pyvospace.model.faults import InvalidData, ViewNotSupported
from pyvospace.structures import Check, StructuredType
from pyvospace.structures.installed import structured_types
from pyvospace.structures.interface import HEAD

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Inspection:
    """Looks at the bytes of one upload, in worker threads, one call at a time.

    Their head tells the structure. If the client says by a view what they are, they are checked to their end.
    """

    def __init__(self, claim: UploadClaim, content_type: str | None) -> None:
        self._kind = (content_type or "").partition(";")[0].strip().lower() or None
        self._demanded = claim.view
        self._expected = _type_of(self._demanded)
        self._check: Check | None = self._expected.check() if self._expected is not None else None
        self._head = b""
        self.structure: str | None = None
        """Name of the type; None: none of those that are installed. Known at the end."""

    def take(self, pieces: "Sequence[ReadableBuffer]") -> None:
        """Look at some more bytes.

        Raises
        ------
        InvalidData
            They are not what the client says they are.
        """
        for piece in pieces:
            if len(self._head) < HEAD:
                self._head += bytes(memoryview(piece)[: HEAD - len(self._head)])
            if self._check is not None:
                self._check.take(bytes(piece))

    def end(self) -> None:
        """Be told that these were all; raise as `take`, and ViewNotSupported for a type that is not installed."""
        if self._demanded is None:
            self.structure = next(
                (name for name, one in structured_types().items() if one.recognises(self._head, self._kind)), None
            )
            return
        if self._expected is None or self._check is None:
            raise ViewNotSupported(self._demanded)
        if not self._expected.recognises(self._head, self._kind):
            raise InvalidData(f"these bytes are no {self._expected.description}")
        self._check.end()
        self.structure = self._expected.name


def _type_of(view: str | None) -> StructuredType | None:
    return next((one for one in structured_types().values() if one.import_view == view), None) if view else None
