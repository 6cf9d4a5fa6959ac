"""What to do next about a failure, in one place: a line for each kind of fault."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Final

from pyvospace.model import faults
from pyvospace.model.faults import Fault
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyvospace.client import Space

_HINTS: Final[dict[str, str]] = {
    "ContainerNotFound": "pyvospace mkdir -p makes the containers above",
    "ContentChanged": "somebody has written it meanwhile: the same command again fetches the new bytes",
    "DuplicateNode": "nothing is replaced: pyvospace rm or mv what is there first, or choose another name",
    "InsufficientStorage": "it is the store that is full and not your quota: administrators make room",
    "JobAborted": "pyvospace jobs list shows your jobs",
    "LinkFound": "pyvospace info shows where a link leads: use the URI of that",
    "NodeBusy": "somebody writes it at this moment: try again in a while; pyvospace jobs list --phase EXECUTING",
    "NodeLocked": "pyvospace tag URI islocked=false takes the lock away, if the node is yours",
    "PermissionDenied": "pyvospace why URI says who may do what with a node, and by which rule",
    "QuotaExceeded": "pyvospace quota, and df URI of a container, tell what is left; what is in the trash counts",
    "ServiceBusy": "the service is there but busy: try again in a while",
    "TooManyAttempts": "wait a while; pyvospace login asks for the right password",
    "UnreadableLinkTarget": "pyvospace info shows where the link leads",
}
"""By the name of the fault."""
_LOGIN: Final = "no token is given: set VOSPACE_TOKEN, use --token, or log in with `pyvospace login`"
_ANONYMOUS: Final = "log in"
"""So the words of the service begin for those who have sent no credential."""
_REFUSED: Final = "the credential is refused: look at VOSPACE_TOKEN and client.toml, or log in with `pyvospace login`"
_CERTIFICATE: Final = "--ca-file or SSL_CERT_FILE names a certificate to trust"
_UNREACHABLE: Final = "is the URL right (--url, VOSPACE_URL, client.toml), and does the service run?"
_SAID: Final = {"DuplicateNode": "nothing is replaced", "NotAuthenticated": "pyvospace login"}
"""Words of faults that say themselves what the hint would say."""
_LOOKED_AT: Final = 2000
"""Siblings among which a similar name is looked for."""
_PATIENCE: Final = 2.0
"""Seconds that a better hint may take."""


def hint(error: Exception, *, anonymous: bool | None = None) -> str | None:
    """Say what to do about a failure; None: there is nothing plain to say.

    Parameters
    ----------
    anonymous
        Whether no credential was sent; None: it is not known.
    """
    if not isinstance(error, Fault) or _SAID.get(error.code, "\0") in error.detail:
        return None
    if isinstance(error, faults.NotAuthenticated | faults.PermissionDenied) and anonymous:
        return _LOGIN
    if isinstance(error, faults.NotAuthenticated):
        return _LOGIN if error.detail.startswith(_ANONYMOUS) else _REFUSED
    if isinstance(error, faults.PermissionDenied) and "administrator" in error.detail:
        return "pyvospace whoami says who you are"
    if error.code == "ServiceUnreachable":
        return _CERTIFICATE if "certificate not trusted" in error.detail else _UNREACHABLE
    return _HINTS.get(error.code)


async def similar(space: Space, uri: NodeUri) -> str | None:
    """Name the node that may have been meant, if what is missing has a sibling that is called almost so.

    What is there after all is not what is missing, but something of it.
    """
    names: list[str] = []
    with suppress(Fault, OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE), aclosing(space.list(uri.parent, detail=Detail.MIN)) as children:
            async for child in children:
                names.append(child.uri.name)
                if len(names) == _LOOKED_AT:
                    break
    near = [] if uri.name in names else get_close_matches(uri.name, names, 1)
    return f"did you mean {uri.parent.child(near[0])} ?" if near else None


def missing(error: Exception) -> NodeUri | None:
    """Give the URI of a node that is not there, as the fault names it."""
    if isinstance(error, faults.NodeNotFound):
        with suppress(faults.InvalidURI, IndexError):
            found = NodeUri.parse(error.detail.split()[0].rstrip(":"))
            return found if found.path else None
    return None


def shown(hints: Iterable[str | None], *, most: int = 3) -> list[str]:
    """Give the lines to write: each once, and not too many."""
    return [f"hint: {one}" for one in islice(dict.fromkeys(filter(None, hints)), most)]
