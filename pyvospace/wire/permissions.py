"""Answers of ``/permissions``: JSON, for no standard has a document for them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pyvospace.model.faults import InvalidData
from pyvospace.model.permissions import Permission, Permissions, Step


def render_permissions(told: Permissions) -> bytes:
    """Write what somebody may do to a node."""
    return json.dumps(asdict(told), ensure_ascii=False).encode()


def parse_permissions(body: bytes) -> Permissions:
    """Read it, on the side of a client.

    Raises
    ------
    InvalidData
        It is something else.
    """
    try:
        told = json.loads(body)
        return Permissions(
            target=str(told["target"]),
            user=told["user"],
            permissions=tuple(Permission(**_lists(one)) for one in told["permissions"]),
            way=tuple(Step(**_lists(one)) for one in told["way"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InvalidData("the service answers with something else than permissions") from None


def _lists(members: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in members.items()}
