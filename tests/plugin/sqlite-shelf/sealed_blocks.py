"""A layer that keeps bytes encrypted: AES-GCM in blocks of 64 KiB."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pyvospace.storage.backend import StorageBackend
from pyvospace.storage.layers import Layer


@dataclass(frozen=True)
class Sealed:
    """One file: the nonce of a block is that of the file and the number of the block."""

    cipher: AESGCM
    header: bytes

    def seal(self, number: int, block: bytes) -> bytes:
        """Encrypt a block."""
        return self.cipher.encrypt(self.header + number.to_bytes(4), block, None)

    def open(self, number: int, block: bytes) -> bytes:
        """Decrypt it."""
        try:
            return self.cipher.decrypt(self.header + number.to_bytes(4), block, None)
        except InvalidTag as error:
            raise OSError(f"block {number} is damaged") from error


class SealedBlocks(Layer):
    """Takes one option: ``key_file``, which holds 32 bytes."""

    header_size: ClassVar[int] = 8
    overhead: ClassVar[int] = 16

    def __init__(self, inner: StorageBackend, key: bytes) -> None:
        super().__init__(inner)
        self._cipher = AESGCM(key)

    @classmethod
    def wrap(cls, inner: StorageBackend, options: Mapping[str, str]) -> Self:
        """Read the key."""
        if options.keys() != {"key_file"}:
            raise ValueError("storage.options: the layer needs sealed.key_file, and nothing else")
        return cls(inner, Path(options["key_file"]).read_bytes())

    def new(self) -> Sealed:
        """Begin a file."""
        return Sealed(self._cipher, os.urandom(self.header_size))

    def existing(self, header: bytes) -> Sealed:
        """Go on with one."""
        return Sealed(self._cipher, header)
