"""Children of a container in the shorthand of the database, written out as the documents of section 3.1 have them.

``sql/queries/listings.sql`` says what stands for what. What is written is what `pyvospace.wire.nodes.render_children`
writes, byte for byte; only the words are put in for a thousand nodes at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pyvospace.model.uris import encode_path
from pyvospace.model.vocabulary import CORE
from pyvospace.wire.markup import attribute, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyvospace.model.uris import NodeUri

_HERE: Final = "\0"
"""In words: the URI of the container."""
_WORDS: Final = {
    b"\x05": '" busy="true">',
    b"\x12": "<vos:target>",
    b"\x13": f"<vos:target>{_HERE}/",
    b"\x14": "</vos:target>",
    b"\x11": "<vos:nodes/>",
    b"\x03": '">',
    b"\x06": "<vos:properties>",
    b"\x07": "</vos:properties>",
    b"\x04": '" busy="false">',
    b"\x0f": "</vos:node>",
    b"\x02": f'" uri="{_HERE}/',
    b"\x01": '\n<vos:node xsi:type="vos:',
    b"\x10": '<vos:property uri="',
    b"\x0b": '">',
    b"\x0c": '" readOnly="true">',
    b"\x0e": "</vos:property>",
    b"\x08": f'<vos:property uri="{CORE}',
}
"""In the order in which they are put in: those last that make the text long."""
_STRANGE: Final = re.compile(rb"([\x15-\x17])([0-9a-f]*)\x18")
_WRITERS: Final[Mapping[bytes, Callable[[str], str]]] = {
    b"\x15": lambda name: encode_path((name,)),
    b"\x16": text,
    b"\x17": attribute,
}


def _write_strange(match: re.Match[bytes]) -> bytes:
    return _WRITERS[match[1]](bytes.fromhex(match[2].decode()).decode()).encode()


class Children:
    """Writes out the children of one container."""

    def __init__(self, container: NodeUri) -> None:
        here = str(container)
        self._words = [(mark, words.replace(_HERE, here).encode()) for mark, words in _WORDS.items()]

    def render(self, shorthand: bytes) -> bytes:
        """Write out any number of children."""
        if b"\x18" in shorthand:
            shorthand = _STRANGE.sub(_write_strange, shorthand)
        for mark, words in self._words:
            shorthand = shorthand.replace(mark, words)
        return shorthand
