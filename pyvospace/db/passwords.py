"""Passwords as the catalogue keeps them: argon2id."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Hash a password; it takes 64 MiB and a good part of a second of a core."""
    return _hasher.hash(password)


def password_fits(kept: str, password: str) -> bool:
    """Say whether a password is the one that was hashed, at the same cost."""
    try:
        return _hasher.verify(kept, password)
    except (Argon2Error, InvalidHashError):
        return False
