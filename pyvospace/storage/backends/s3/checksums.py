"""How a store proves that it keeps what it was sent.

Whatever is chosen here, each request carries the SHA-256 of its body in its signature, and a store that gets other
bytes refuses them.
"""

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Buffer = bytes | bytearray


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest that the store is asked to compare with each part, and to show for the whole.

    Stores make the digest of an object of several parts from those of the parts, so that one value, known to us,
    speaks for all bytes and their order.
    """

    digest: Callable[[Buffer], bytes]
    sent: str
    """Argument of a request that carries the digest of its body."""
    shown: str
    """Member of the answer to HEAD that shows the digest of the object."""
    algorithm: str | None
    """As CreateMultipartUpload calls it; None: needs not be told."""

    def arguments(self, digest: bytes) -> dict[str, str]:
        """Give what goes with a body."""
        return {self.sent: b64encode(digest).decode(), **self.named}

    @property
    def named(self) -> dict[str, str]:
        """Tell which digest it is, where that has to be told."""
        return {"ChecksumAlgorithm": self.algorithm} if self.algorithm else {}

    def of_part(self, digest: bytes) -> dict[str, str]:
        """Give what CompleteMultipartUpload tells of a part."""
        return {self.sent: b64encode(digest).decode()} if self.algorithm else {}

    def require(self, head: Mapping[str, Any], digests: Sequence[bytes], *, parts: bool) -> None:
        """Compare what HEAD shows with what was sent, whole or in parts.

        Raises
        ------
        OSError
            It is something else.
        """
        whole = self.digest(b"".join(digests)) if parts else digests[0]
        expected = b64encode(whole).decode() if self.algorithm else whole.hex()
        shown, _, count = head.get(self.shown, "").strip('"').partition("-")
        if shown != expected or count not in {"", str(len(digests))}:
            raise OSError(f"the store shows the checksum {head.get(self.shown)} instead of {expected}")


def composed(etags: Sequence[str]) -> str:
    """Give the ETag that an object has if its parts have these, unless it is encrypted with a key of its own.

    Ceph does not tell it when the object is made.
    """
    try:
        return f"{_md5(b''.join(bytes.fromhex(etag) for etag in etags)).hex()}-{len(etags)}"
    except ValueError:
        return ""


def _md5(data: Buffer) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _sha256(data: Buffer) -> bytes:
    return hashlib.sha256(data).digest()


def _crc32(data: Buffer) -> bytes:
    return zlib.crc32(data).to_bytes(4)


CHECKSUMS: Final[Mapping[str, Checksum | None]] = {
    "signature": None,
    "md5": Checksum(_md5, "ContentMD5", "ETag", None),
    "sha256": Checksum(_sha256, "ChecksumSHA256", "ChecksumSHA256", "SHA256"),
    "crc32": Checksum(_crc32, "ChecksumCRC32", "ChecksumCRC32", "CRC32"),
}
"""By the name in the settings."""
