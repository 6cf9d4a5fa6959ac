"""Public SSH keys as OpenSSH writes them: ``ssh-ed25519 AAAA… comment``."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from pyvospace.model.faults import InvalidArgument

KINDS: Final = frozenset(
    {
        "ssh-ed25519", "ssh-ed448", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)  # fmt: skip
_LONGEST: Final = 16_384
_RSA: Final = 2048
"""Bits that a key of RSA has at least."""


def fingerprint(text: str) -> str:
    """Give the fingerprint of a key (``SHA256:…``), as ``ssh-keygen -l`` does.

    Raises
    ------
    InvalidArgument
        It is no public key, or a weak one.
    """
    words = text.split()
    if len(text) > _LONGEST or len(words) < 2 or words[0] not in KINDS:  # noqa: PLR2004 (kind and key)
        raise InvalidArgument("that is no public SSH key: give what stands in ~/.ssh/id_ed25519.pub")
    try:
        blob = base64.b64decode(words[1], validate=True)
        kind, *numbers = _parts(blob)
    except (ValueError, binascii.Error):
        raise InvalidArgument("that is no public SSH key: it is cut off, or altered") from None
    if kind != words[0].encode() or not numbers:
        raise InvalidArgument("that is no public SSH key: it is of another kind than it says")
    if words[0] == "ssh-rsa" and int.from_bytes(numbers[-1]).bit_length() < _RSA:
        raise InvalidArgument(f"a key of RSA has to have {_RSA} bits")
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _parts(blob: bytes) -> list[bytes]:
    """Take a key apart (RFC 4253, section 6.6)."""
    found = []
    while blob:
        end = 4 + int.from_bytes(blob[:4])
        if end > len(blob):
            raise ValueError
        found.append(blob[4:end])
        blob = blob[end:]
    return found
