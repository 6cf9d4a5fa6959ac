"""The audit log: what is written of an action, and who may see it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pyvospace.model.instants import write_instant
from pyvospace.model.uris import NodeUri

if TYPE_CHECKING:
    from pyvospace.model.stored import Changes

DONE: Final = "done"
"""Outcome of what was not refused; of what was, the name of the fault."""
LINES: Final = "application/x-ndjson"
"""Type of an answer of rows, each a line of JSON."""
_MOST_NAMES: Final = 50
_NAME: Final = 200


class Action(StrEnum):
    """What somebody has done, or tried to do. A row of the log has one of these and no other."""

    CREATE_NODE = "createNode"
    SET_NODE = "setNode"
    """Properties, rights, the target of a link."""
    DELETE_NODE = "deleteNode"
    MOVE_NODE = "moveNode"
    COPY_NODE = "copyNode"
    STORE_BYTES = "storeBytes"
    UNPACK_ARCHIVE = "unpackArchive"
    RESTORE_VERSION = "restoreVersion"
    """To let an older content of a data node be its content again."""
    DELETE_VERSION = "deleteVersion"
    RESTORE_NODE = "restoreNode"
    """To take a node out of the trash."""
    PURGE_NODE = "purgeNode"
    """To remove a node that is in the trash for ever."""
    GET_NODE = "getNode"
    """To read a node's document."""
    READ_BYTES = "readBytes"
    READ_ARCHIVE = "readArchive"
    TRANSFER = "transfer"
    """To negotiate one."""
    SEARCH = "search"
    REQUEST = "request"
    """Any other request."""
    LOG_IN = "login"
    ADD_USER = "addUser"
    CHANGE_USER = "changeUser"
    REMOVE_USER = "removeUser"
    ADD_TOKEN = "addToken"  # noqa: S105 (no password)
    CHANGE_TOKEN = "changeToken"  # noqa: S105 (no password)
    REVOKE_TOKEN = "revokeToken"  # noqa: S105 (no password)
    ADD_GROUP = "addGroup"
    CHANGE_GROUP = "changeGroup"
    REMOVE_GROUP = "removeGroup"
    ADD_MEMBER = "addMember"
    CHANGE_MEMBER = "changeMember"
    REMOVE_MEMBER = "removeMember"
    ADD_KEY = "addKey"
    CHANGE_KEY = "changeKey"
    REMOVE_KEY = "removeKey"
    LINK_IDENTITY = "linkIdentity"
    CHANGE_IDENTITY = "changeIdentity"
    UNLINK_IDENTITY = "unlinkIdentity"
    ADD_QUOTA = "addQuota"
    CHANGE_QUOTA = "changeQuota"
    REMOVE_QUOTA = "removeQuota"
    ADD_POLICY = "addPolicy"
    CHANGE_POLICY = "changePolicy"
    REMOVE_POLICY = "removePolicy"
    ADD_STORAGE = "addStorage"
    CHANGE_STORAGE = "changeStorage"
    REMOVE_STORAGE = "removeStorage"
    MAKE_SPACE = "makeSpace"
    SET_SPACE = "setSpace"
    """State and group prefixes of the service."""
    FIND_DAMAGE = "findDamage"
    """Bytes are missing or wrong: they are not served any more."""
    CLEAR_DAMAGE = "clearDamage"
    """They were read again, and are good."""
    REPAIR = "repair"
    """What fsck has mended."""
    PRUNE_AUDIT = "pruneAudit"
    """Old rows of this log were taken away, as the settings say."""
    DROP_AUDIT = "dropAudit"
    """Reads and refusals came faster than they could be written: so many rows are missing."""


def audited(changes: Changes, *, below: bool = False) -> str:
    """Give as JSON what the log says of a change of properties: names, no values.

    Rights are told with what they were, by the statement that changes them; of those `below` a container, of which
    there may be many, with what they are to be.
    """
    found: dict[str, Any] = {}
    if changes.properties:
        found["set"] = _names(changes.properties)
    if changes.removed:
        found["removed"] = _names(changes.removed)
    if changes.target is not None:
        found["target"] = True
    if changes.owner is not None:
        found["owner"] = changes.owner
    if below:
        rights = {
            "public": changes.public,
            "groupRead": changes.group_read,
            "groupWrite": changes.group_write,
            "inherit": changes.inherit,
            "locked": changes.locked,
        }
        found["below"] = True
        found["rights"] = {name: value for name, value in rights.items() if value is not None}
    return json.dumps(found)


def _names(names: Iterable[str]) -> list[str]:
    shown = sorted(name[:_NAME] for name in names)
    more = len(shown) - _MOST_NAMES
    return [*shown[:_MOST_NAMES], f"and {more} more"] if more > 0 else shown


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the log."""

    at: datetime
    id: int
    user_id: int
    """Who did it; 0: somebody who had not shown who he is."""
    name: str
    credential: str
    remote: str
    request: str
    action: str
    node_id: int | None
    path: str | None
    """Of the node at that moment: names behind slashes."""
    owner_id: int | None
    """Whose node it was, or who it is about."""
    outcome: str
    details: Mapping[str, Any]

    def told(self, authority: str, viewer: int | None) -> dict[str, Any]:
        """Give what a user may see of it; None: an administrator, who sees everything.

        What others did to something of his the owner is told with name and time, but not from where and by which
        credential. A node that is not his has no number for him.
        """
        found: dict[str, Any] = {"time": self.at.isoformat(), "user": self.name or None, "action": self.action}
        found["outcome"] = self.outcome
        if self.path is not None:
            found["target"] = str(NodeUri(authority, tuple(filter(None, self.path.split("/")))))
        if self.node_id is not None and viewer in {None, self.owner_id}:
            found["node"] = self.node_id
        if viewer in {None, self.user_id}:
            found |= {"credential": self.credential, "remote": self.remote, "request": self.request}
        return found | {"details": self.details}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows somebody wants to see."""

    below: bool = False
    """Of a node and of all that was below it."""
    user: str | None = None
    """What he did."""
    action: str | None = None
    outcome: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    limit: int | None = None

    @property
    def parameters(self) -> dict[str, str | int]:
        """Give the parameters of ``/audit``."""
        asked: dict[str, str | int | None] = {
            "recursive": "true" if self.below else None,
            "user": self.user,
            "action": self.action,
            "outcome": self.outcome,
            "after": write_instant(self.after) if self.after else None,
            "before": write_instant(self.before) if self.before else None,
            "limit": self.limit,
        }
        return {name: value for name, value in asked.items() if value is not None}


ALL: Final = Filters()


def line(told: Mapping[str, Any]) -> bytes:
    """Write a row as one line, whatever is in it: JSON in ASCII, in which no control character stands for itself."""
    return json.dumps(told).encode() + b"\n"
