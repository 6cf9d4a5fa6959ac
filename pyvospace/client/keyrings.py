"""The keyring of the desktop, if there is one: secrets of logins are kept there rather than in a file.

It needs the package `keyring` (the extra of that name), and a backend that keeps secrets; without either there is none.
Which one it is, or that there is to be none, is for that package to say (PYTHON_KEYRING_BACKEND, keyringrc.cfg).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

log = logging.getLogger(__name__)

_SERVICE: Final = "pyvospace"


def name() -> str | None:
    """Give the name of the keyring; None: there is none."""
    backend = _backend()
    return None if backend is None else str(backend.name)


def put(key: str, secret: str) -> bool:
    """Keep a secret; say whether that was possible."""
    backend = _backend()
    if backend is None:
        return False
    try:
        backend.set_password(_SERVICE, key, secret)
    except Exception as error:  # noqa: BLE001 (each backend raises errors of its own, of its library or of D-Bus)
        log.warning("the keyring takes no secret, a file does: %s", error)
        return False
    return True


def get(key: str) -> str | None:
    """Give a secret; None: there is none, or nobody may read it now."""
    backend = _backend()
    try:
        return None if backend is None else backend.get_password(_SERVICE, key)
    except Exception as error:  # noqa: BLE001 (as above)
        log.warning("the keyring gives no secret: %s", error)
        return None


def remove(key: str) -> None:
    """Forget a secret."""
    backend = _backend()
    try:
        if backend is not None and backend.get_password(_SERVICE, key) is not None:
            backend.delete_password(_SERVICE, key)
    except Exception as error:  # noqa: BLE001 (as above)
        log.warning("the keyring forgets nothing: %s", error)


def _backend() -> KeyringBackend | None:
    """Find a keyring that is one: those of a priority below 1 keep nothing, or keep it where everybody reads it."""
    try:
        import keyring  # noqa: PLC0415 (takes a while, and most users of this module never come here)
    except ImportError:
        return None
    backend = keyring.get_keyring()
    return backend if backend.priority >= 1 else None
