"""Transfers as jobs keep them: JSON without our own endpoints, which are signed anew each time they are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pyvospace.model.nodes import Param, View
from pyvospace.model.transfers import Protocol, Served, Transfer
from pyvospace.model.vocabulary import Direction

_SERVICE_DRIVEN: Final = frozenset({Direction.PULL_TO_VOSPACE, Direction.PUSH_FROM_VOSPACE})
_URL: Final = re.compile(r"([^/?#]*//)(?:([^/?#]*)@)?(.*)", re.DOTALL)


def pack(transfer: Transfer) -> dict[str, Any]:
    """Give the JSON of a transfer."""
    return {
        "target": transfer.target,
        "direction": transfer.direction,
        "view": _pack_view(transfer.view) if transfer.view else None,
        "protocols": [
            {"uri": one.uri, "params": _pack_params(one.params), "methods": list(one.security_methods)}
            | (_pack_endpoint(one.endpoint or "") if transfer.direction in _SERVICE_DRIVEN else {})
            for one in transfer.protocols
        ],
        "keep_bytes": transfer.keep_bytes,
        "params": _pack_params(transfer.params),
        "version": transfer.version,
        "more_targets": list(transfer.more_targets),
        "served": [transfer.served.operation, list(transfer.served.nodes)] if transfer.served else None,
    }


def unpack(packed: dict[str, Any]) -> Transfer:
    """Read what `pack` gave."""
    view, served = packed["view"], packed.get("served")
    return Transfer(
        target=packed["target"],
        direction=packed["direction"],
        view=View(view["uri"], view["original"], _unpack_params(view["params"])) if view else None,
        protocols=tuple(
            Protocol(
                one["uri"],
                one.get("endpoint"),
                params=_unpack_params(one["params"]),
                security_methods=tuple(one["methods"]),
            )
            for one in packed["protocols"]
        ),
        keep_bytes=packed["keep_bytes"],
        params=_unpack_params(packed["params"]),
        version=packed["version"],
        more_targets=tuple(packed.get("more_targets", ())),
        served=Served(served[0], tuple(served[1])) if served else None,
    )


def endpoint_of(protocol: Mapping[str, Any]) -> str:
    """Give the whole endpoint of a packed protocol, with user and password: for whoever goes there, and nobody else."""
    endpoint = str(protocol.get("endpoint") or "")
    user = protocol.get("user")
    return endpoint if user is None else endpoint.replace("//", f"//{user}@", 1)


def _pack_endpoint(endpoint: str) -> dict[str, Any]:
    """Keep the endpoint of a user apart from his password, which nobody is shown and the job forgets at its end."""
    found = _URL.fullmatch(endpoint)
    if found is None:
        return {"endpoint": endpoint} if endpoint else {}
    scheme, user, rest = found.groups()
    return {"endpoint": scheme + rest} | ({} if user is None else {"user": user})


def _pack_view(view: View) -> dict[str, Any]:
    return {"uri": view.uri, "original": view.original, "params": _pack_params(view.params)}


def _pack_params(params: tuple[Param, ...]) -> list[list[str]]:
    return [[one.uri, one.value] for one in params]


def _unpack_params(packed: list[list[str]]) -> tuple[Param, ...]:
    return tuple(Param(uri, value) for uri, value in packed)
