"""Passwords as the catalogue keeps them: argon2id."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""OWASP's parameters for little memory: a server checks passwords in the same process that lists nodes."""


def hash_password(password: str) -> str:
    """Hash a password; it takes 19 MiB and some ten milliseconds of a core."""
    return _hasher.hash(password)


def password_fits(kept: str, password: str) -> bool:
    """Say whether a password is the one that was hashed, at the same cost."""
    try:
        return _hasher.verify(kept, password)
    except (Argon2Error, InvalidHashError):
        return False
