"""Transfers as jobs keep them: JSON without endpoints, which are signed anew each time they are shown."""

from __future__ import annotations

from typing import Any

from pyvospace.model.nodes import Param, View
from pyvospace.model.transfers import Protocol, Served, Transfer


def pack(transfer: Transfer) -> dict[str, Any]:
    """Give the JSON of a transfer."""
    return {
        "target": transfer.target,
        "direction": transfer.direction,
        "view": _pack_view(transfer.view) if transfer.view else None,
        "protocols": [
            {"uri": one.uri, "params": _pack_params(one.params), "methods": list(one.security_methods)}
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
            Protocol(one["uri"], params=_unpack_params(one["params"]), security_methods=tuple(one["methods"]))
            for one in packed["protocols"]
        ),
        keep_bytes=packed["keep_bytes"],
        params=_unpack_params(packed["params"]),
        version=packed["version"],
        more_targets=tuple(packed.get("more_targets", ())),
        served=Served(served[0], tuple(served[1])) if served else None,
    )


def _pack_view(view: View) -> dict[str, Any]:
    return {"uri": view.uri, "original": view.original, "params": _pack_params(view.params)}


def _pack_params(params: tuple[Param, ...]) -> list[list[str]]:
    return [[one.uri, one.value] for one in params]


def _unpack_params(packed: list[list[str]]) -> tuple[Param, ...]:
    return tuple(Param(uri, value) for uri, value in packed)
