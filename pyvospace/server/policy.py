"""Permission: the one place that every operation asks before it tells or does anything.

Who may read or write a single node is decided in the database, by the functions ``may_read`` and ``may_write`` that
every statement uses; this module decides what an operation needs of them, and in which words it is refused.
The server gives no answer of an operation that has not asked (`Policy.asked`).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from pyvospace.model.callers import StaleCallerError, TokenRight
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    Fault,
    LinkFound,
    NodeLocked,
    NodeNotFound,
    NotAuthenticated,
    PermissionDenied,
)
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import Resolution, StoredNode
    from pyvospace.model.vosi import Standing


class Right(Enum):
    """What an operation needs to be allowed."""

    READ = auto()
    """Of the node, and of every container above it."""
    SEE = auto()
    """To be told of the node: as READ; with OpenCADC's rules, of a leaf, to read the way to it is enough."""
    WRITE = auto()
    """To the node: its properties, its bytes."""
    OWN = auto()
    """To change who may do what: its owner and administrators."""
    CREATE = auto()
    """To write to the container that the node will be in."""
    DELETE = auto()
    """To write to the container that the node is in."""


_READING = frozenset({Right.READ, Right.SEE})
_NEEDED: Final[Mapping[Right, TokenRight]] = {
    Right.READ: TokenRight.READ,
    Right.SEE: TokenRight.READ,
    Right.WRITE: TokenRight.WRITE,
    Right.OWN: TokenRight.SHARE,
    Right.CREATE: TokenRight.WRITE,
    Right.DELETE: TokenRight.WRITE,
}
"""What a token that is limited must be good for."""


class Policy:
    """Decides for one caller, in one request.

    Parameters
    ----------
    authority
        Of the space, for the URIs in faults.
    standing
        The state of the service.
    opencadc
        Decide as OpenCADC's services where they differ (rulings of A-21 and of locks).
    """

    def __init__(self, caller: Caller, authority: str, standing: Standing, *, opencadc: bool = False) -> None:
        self.caller = caller
        self._authority = authority
        self._standing = standing
        self._opencadc = opencadc
        self.asked = False
        """Somebody has decided whether there may be an answer."""
        self.confirmed = caller.anonymous
        """The caller is still who he was when he was identified."""

    def exempt(self) -> None:
        """Say that an answer tells nothing that depends on who asks."""
        self.asked = True

    def settled(self) -> None:
        """Say that a statement has decided by itself, with ``may_read``, ``may_write`` and the caller's epoch."""
        self.asked = self.confirmed = True

    def check_epoch(self, epoch: int) -> None:
        """Make sure that the caller is still who he was when he was identified.

        Raises
        ------
        StaleCallerError
            Identify him again and start over.
        """
        self.asked = True
        if not self.caller.anonymous and epoch != self.caller.epoch:
            raise StaleCallerError
        self.confirmed = True

    def require_writable(self) -> None:
        """Require that the service is open to changes at all.

        Raises
        ------
        ServiceBusy
            Its operator has closed it.
        """
        self._standing.require(changes=True)

    def require_admin(self) -> None:
        """Require an administrator.

        Raises
        ------
        PermissionDenied, NotAuthenticated
            The caller is none.
        """
        self.asked = True
        if self.caller.anonymous:
            raise NotAuthenticated("log in as an administrator")
        if not self.caller.admin:
            raise PermissionDenied("only an administrator may do this")

    def require_scope(self, right: Right, path: tuple[str, ...]) -> None:
        """Require that the caller's credential is good for an operation at a place, existing or not.

        Raises
        ------
        PermissionDenied
            It is a token that may less.
        """
        scope = self.caller.scope
        if scope is None:
            return
        if not scope.covers(path):
            raise PermissionDenied(f"this token is not for {NodeUri(self._authority, path)}")
        if _NEEDED[right] not in scope.rights:
            raise PermissionDenied(f"this token is not for {_NEEDED[right]}: it has {', '.join(sorted(scope.rights))}")

    def require_whole(self) -> None:
        """Require a credential that may all that its user may.

        Raises
        ------
        PermissionDenied
            It is a token that may less.
        """
        if self.caller.scope is not None:
            raise PermissionDenied("this token is limited; come with a credential that may all that you may")

    def require_way(self, found: Resolution) -> None:
        """Require that every container on the way may be read, down to where the path leads or ends.

        What exists below a container that the caller may not read and what does not get the same answer.
        """
        self.require_scope(Right.READ, found.names)
        self._require_way(found)

    def _require_way(self, found: Resolution) -> None:
        self.check_epoch(found.epoch)
        missing = found.node is None
        if not found.way_readable or (missing and not found.last.readable and not self._is_data(found.last)):
            raise self.refusal(found, "read")

    def require(self, right: Right, found: Resolution, *, locked: bool = False) -> StoredNode:
        """Give the node, or for CREATE its container to be.

        Parameters
        ----------
        locked
            The operation may be done to a locked or immutable node.

        Raises
        ------
        PermissionDenied, NotAuthenticated
            The caller may not, or nobody may, since the node or its container is immutable.
        NodeNotFound, ContainerNotFound, DuplicateNode, LinkFound
            The path does not lead where the operation needs it to.
        NodeLocked
            The node, or the container that would change, is locked.
        ServiceBusy
            The service is closed to changes.
        """
        if right not in _READING:
            self.require_writable()
        self.require_scope(right, found.names)
        self._require_way(found)
        if right is Right.CREATE:
            return self._require_container(found)
        node = found.node
        if node is None:
            raise self._missing(right, found)
        if not self._allows(right, node, found):
            raise self.refusal(found, "read" if right in _READING else "write")
        if right not in _READING and not locked:
            self._require_unlocked(right, node, found)
        return node

    def require_mutable(self, node: StoredNode, found: Resolution) -> None:
        """Require that the node, or the container that would change, is not immutable, which binds everybody."""
        if node.immutable:
            raise PermissionDenied(f"{self._uri(found)} is immutable, or its container is")

    def _require_unlocked(self, right: Right, node: StoredNode, found: Resolution) -> None:
        self.require_mutable(node, found)
        if node.locked:
            raise NodeLocked(self._uri(found))
        if right is Right.DELETE and found.parent_locked:
            raise self._locked_container(found)

    def _locked_container(self, found: Resolution) -> Fault:
        return (PermissionDenied if self._opencadc else NodeLocked)(f"{self._uri(found)} is in a locked container")

    def sees(self, node: StoredNode) -> bool:
        """Say whether a node in a container that the caller may read is told of, beyond its name and type."""
        return node.readable or (self._opencadc and not node.is_container)

    def _allows(self, right: Right, node: StoredNode, found: Resolution) -> bool:
        if right is Right.READ:
            return node.readable
        if right is Right.SEE:
            return self.sees(node)
        if right is Right.WRITE:
            return node.writable
        if right is Right.OWN:
            return self.caller.admin or (node.owner_id == self.caller.id and not self.caller.anonymous)
        return found.parent_writable

    def _require_container(self, found: Resolution) -> StoredNode:
        if found.node is not None:
            allowed = found.parent_writable if found.names else found.last.writable
            raise DuplicateNode(self._uri(found)) if allowed else self.refusal(found, "write")
        container = found.container
        if container is None:
            raise self._missing(Right.CREATE, found)
        if not container.writable:
            raise self.refusal(found, "write")
        self.require_mutable(container, found)
        if container.locked:
            raise self._locked_container(found)
        return container

    @staticmethod
    def _is_data(node: StoredNode) -> bool:
        return not node.is_container and node.type is not NodeType.LINK

    def _missing(self, right: Right, found: Resolution) -> Fault:
        if found.last.type is NodeType.LINK:
            return LinkFound(self._uri(found), link=found)
        if right in _READING or (found.container is not None and right is not Right.CREATE):
            return NodeNotFound(self._uri(found))
        return ContainerNotFound(self._uri(found))

    def _uri(self, found: Resolution) -> NodeUri:
        """Give the URI that was asked for: what a fault reports (section 6.5)."""
        return NodeUri(self._authority, found.names)

    def refusal(self, found: Resolution, what: str) -> Fault:
        """Refuse, in words that tell an anonymous caller to log in."""
        if self.caller.anonymous:
            return NotAuthenticated(f"log in to {what} {self._uri(found)}")
        return PermissionDenied(f"you may not {what} {self._uri(found)}")
