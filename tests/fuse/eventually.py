"""Waiting for what comes by itself: bytes that are sent, and news that a mount hears of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PATIENCE = 30.0


def eventually(look: Callable[[], T], expected: T) -> None:
    """Look again and again until this is there."""
    found = _look(look)
    end = time.monotonic() + _PATIENCE
    while found != expected and time.monotonic() < end:
        time.sleep(0.05)
        found = _look(look)
    assert found == expected


def _look(look: Callable[[], T]) -> T | Exception:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
        return error
