"""Permission: the one place that every operation asks before it tells or does anything.

What decides is a table, `TABLE`: for each right the rules in the order in which they are looked at. `Policy.require`
decides by it, `Policy.explain` says by which rule, and docs/reference/permissions.md is written from it. What changes
something decides once more where it changes it, in the statement, with the functions ``may_read``, ``may_write`` and
``way_is_readable`` of the database, which say the same.
The server gives no answer of an operation that has not asked (`Policy.asked`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

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
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import Resolution, Rights, StoredNode
    from pyvospace.model.vosi import Standing

    Held = StoredNode | Rights | None
    """The node whose owner and groups decide; None: there is none."""


class Right(StrEnum):
    """What an operation needs to be allowed, by the name that ``/permissions`` gives it, and in words."""

    words: str

    def __new__(cls, name: str, words: str) -> Self:
        """Make a member of its name and its words."""
        made = str.__new__(cls, name)
        made._value_ = name
        made.words = words
        return made

    READ = "read", "To read the node: its bytes, its children."
    SEE = "see", "To be told of the node; with `interop = opencadc`, of a leaf, to read the way to it is enough."
    SET = "set", "To change properties of the node, and its lock."
    WRITE = "write", "To change its bytes; of a container, to unpack an archive into it."
    AIM = "aim", "To change where a link leads."
    OWN = "share", "To change who may do what with it, and to make it immutable."
    UNMARK = "unmark", "To make it mutable again."
    CREATE = "create", "To make a node of that name."
    DELETE = "delete", "To delete it, or to move it away."
    ADMINISTER = "administer", "To change what only administrators may, such as quotas and owners."


@dataclass(frozen=True, slots=True)
class Question:
    """Whether somebody may do something, with all that the rules look at."""

    caller: Caller
    right: Right
    found: Resolution
    standing: Standing
    authority: str
    opencadc: bool

    @property
    def uri(self) -> NodeUri:
        """Give the URI that was asked for: what a fault reports (VOSpace 2.1, section 6.5)."""
        return NodeUri(self.authority, self.found.names)

    @property
    def held(self) -> Held:
        """Give the node whose owner and groups decide; None: there is none."""
        found = self.found
        if self.right is Right.CREATE:
            return found.container if found.node is None else found.parent or found.last
        return found.parent if self.right is Right.DELETE else found.node

    def refusal(self, what: str) -> Fault:
        """Refuse, in words that tell an anonymous caller to log in."""
        if self.caller.anonymous:
            return NotAuthenticated(f"log in to {what} {self.uri}")
        return PermissionDenied(f"you may not {what} {self.uri}")


@dataclass(frozen=True, slots=True)
class Bar:
    """A rule that refuses what it applies to."""

    name: str
    words: str
    applies: Callable[[Question], bool]
    fault: Callable[[Question], Fault]


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule that grants what it applies to, unless a bar behind it refuses."""

    name: str
    words: str
    applies: Callable[[Question, Held], bool]
    """Looks at who the caller is, and at the node whose owner and groups decide."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Rules of which one must apply."""

    grants: tuple[Grant, ...]
    words: str
    fault: Callable[[Question], Fault]
    name: str = "private"

    def find(self, question: Question, held: Held) -> Grant | None:
        """Give the first that applies."""
        for grant in self.grants:
            if grant.applies(question, held):
                return grant
        return None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether somebody may do something, and why."""

    right: Right
    rule: str
    """Name of the rule that decides."""
    words: str
    fault: Fault | None
    """How it is refused; None: it is allowed."""
    trail: tuple[str, ...]
    """Names of the rules that were looked at, in order."""

    @property
    def allowed(self) -> bool:
        """Say whether he may."""
        return self.fault is None


NEEDED: Final[Mapping[Right, TokenRight]] = {
    Right.READ: TokenRight.READ,
    Right.SEE: TokenRight.READ,
    Right.SET: TokenRight.WRITE,
    Right.WRITE: TokenRight.WRITE,
    Right.AIM: TokenRight.WRITE,
    Right.OWN: TokenRight.SHARE,
    Right.UNMARK: TokenRight.SHARE,
    Right.CREATE: TokenRight.WRITE,
    Right.DELETE: TokenRight.WRITE,
    Right.ADMINISTER: TokenRight.ADMIN,
}
"""What a token that is limited must be good for."""


def _is_elsewhere(question: Question) -> bool:
    scope = question.caller.scope
    return scope is not None and not scope.covers(question.found.names)


def _lacks_right(question: Question) -> bool:
    scope = question.caller.scope
    return scope is not None and NEEDED[question.right] not in scope.rights


def _elsewhere(uri: NodeUri) -> Fault:
    return PermissionDenied(f"this token is not for {uri}")


def _too_little(caller: Caller, right: Right) -> Fault:
    rights = caller.scope.rights if caller.scope else ()
    return PermissionDenied(f"this token is not for {NEEDED[right]}: it has {', '.join(sorted(rights))}")


def _way_is_hidden(question: Question) -> bool:
    found = question.found
    # A name below a node that holds bytes leads nowhere, whoever asks; not to tell them apart would tell nothing less.
    missing = found.node is None and not found.last.readable and not _is_data(found.last)
    return not found.way_readable or missing


def _is_data(node: StoredNode) -> bool:
    return not node.is_container and node.type is not NodeType.LINK


def _missing(question: Question) -> Fault:
    right, found = question.right, question.found
    if found.last.type is NodeType.LINK:
        return LinkFound(question.uri, link=found)
    if right in {Right.READ, Right.SEE} or (found.container is not None and right is not Right.CREATE):
        return NodeNotFound(question.uri)
    return ContainerNotFound(question.uri)


def _belongs(question: Question, held: Held) -> bool:
    return held is not None and not question.caller.anonymous and held.owner_id == question.caller.id


def _in_readers(question: Question, held: Held) -> bool:
    return held is not None and not set(held.group_read).isdisjoint(question.caller.groups)


def _in_writers(question: Question, held: Held) -> bool:
    return held is not None and not set(held.group_write).isdisjoint(question.caller.groups)


def _is_seen_leaf(question: Question, _: Held) -> bool:
    node = question.found.node
    return question.opencadc and node is not None and not node.is_container


def _is_fixed(question: Question) -> bool:
    return question.found.node is not None and question.found.node.immutable


def _is_fixed_with_container(question: Question) -> bool:
    return question.found.parent is not None and question.found.parent.immutable


def _container_is(state: str) -> Callable[[Question], bool]:
    """Look at the container that a node is put into or taken from; nothing changes in one where a node is there."""

    def applies(question: Question) -> bool:
        return question.held is not None and bool(getattr(question.held, state))

    return applies


def _fixed(question: Question) -> Fault:
    return PermissionDenied(f"{question.uri} is immutable, or its container is")


def _in_locked(question: Question) -> Fault:
    return (PermissionDenied if question.opencadc else NodeLocked)(f"{question.uri} is in a locked container")


def _no_administrator(caller: Caller) -> Fault:
    if caller.anonymous:
        return NotAuthenticated("log in as an administrator")
    return PermissionDenied("only an administrator may do this")


_CLOSED: Final = Bar(
    "service-state",
    "the operator has closed the service to changes",
    lambda question: question.standing.refusal(changes=True) is not None,
    lambda question: question.standing.refusal(changes=True) or PermissionDenied("closed"),
)
_TOKEN: Final = (
    Bar(
        "token-place",
        "the token is limited to other places",
        _is_elsewhere,
        lambda question: _elsewhere(question.uri),
    ),
    Bar(
        "token-right",
        "the token is limited to less",
        _lacks_right,
        lambda question: _too_little(question.caller, question.right),
    ),
)
_WAY: Final = Bar("way", "a container above may not be read", _way_is_hidden, lambda question: question.refusal("read"))
_ABSENT: Final = Bar("absent", "there is no such node", lambda question: question.found.node is None, _missing)
_HOMELESS: Final = Bar(
    "no-container",
    "there is no container that it could be in",
    lambda question: question.found.node is None and question.found.container is None,
    _missing,
)
_PRESENT: Final = Bar(
    "present",
    "there is a node of that name",
    lambda question: question.found.node is not None,
    lambda question: DuplicateNode(question.uri),
)
_ROOT: Final = Bar(
    "root",
    "the root stays where it is",
    lambda question: not question.found.names,
    lambda _: PermissionDenied("the root can be neither deleted nor moved"),
)
_FIXED: Final = (
    Bar(
        "immutable-container",
        "its container is immutable, and so is all that is in it",
        lambda question: _is_fixed(question) and _is_fixed_with_container(question),
        _fixed,
    ),
    Bar("immutable", "the node is immutable", _is_fixed, _fixed),
)
_STAYS_FIXED: Final = Bar(
    "immutable-container",
    "what is in an immutable container becomes mutable with it",
    _is_fixed_with_container,
    lambda _: PermissionDenied("the container is immutable: what is in it becomes mutable with it"),
)
_FIXED_PLACE: Final = Bar("immutable-container", "the container is immutable", _container_is("immutable"), _fixed)
_LOCKED: Final = Bar(
    "locked",
    "the node is locked",
    lambda question: question.found.node is not None and question.found.node.locked,
    lambda question: NodeLocked(question.uri),
)
_LOCKED_PLACE: Final = Bar("locked-container", "the container is locked", _container_is("locked"), _in_locked)

_ADMINISTRATOR: Final = Grant("administrator", "an administrator", lambda question, _: question.caller.admin)
_OWNER: Final = Grant("owner", "the owner", _belongs)
_WRITERS: Final = Grant("group-write", "a member of a group in core#groupwrite", _in_writers)
_READERS: Final = Grant("group-read", "a member of a group in core#groupread", _in_readers)
_EVERYBODY: Final = Grant(
    "public", "everybody, since core#ispublic is true", lambda _, held: held is not None and held.public
)
_LEAF: Final = Grant("leaf", "whoever may read the way to a leaf (interop = opencadc)", _is_seen_leaf)

_OF_OWNER: Final = (_ADMINISTRATOR, _OWNER)
_OF_WRITERS: Final = (*_OF_OWNER, _WRITERS)
_OF_READERS: Final = (*_OF_WRITERS, _READERS, _EVERYBODY)
_PRIVATE: Final = "nobody but its owner, the groups that it names and administrators"
_MAY_READ: Final = OneOf(_OF_READERS, _PRIVATE, lambda question: question.refusal("read"))
_MAY_SEE: Final = OneOf((*_OF_READERS, _LEAF), _PRIVATE, lambda question: question.refusal("read"))
_MAY_WRITE: Final = OneOf(
    _OF_WRITERS,
    "nobody but its owner, the groups in core#groupwrite and administrators",
    lambda question: question.refusal("write"),
)
_MAY_OWN: Final = OneOf(
    _OF_OWNER, "nobody but its owner and administrators", lambda question: question.refusal("write")
)
_MAY_ADMINISTER: Final = OneOf(
    (_ADMINISTRATOR,), "nobody but administrators", lambda question: _no_administrator(question.caller)
)

_TO_READ: Final = (*_TOKEN, _WAY, _ABSENT)
_TO_CHANGE: Final = (_CLOSED, *_TOKEN, _WAY, _ABSENT)

TABLE: Final[Mapping[Right, tuple[Bar | OneOf, ...]]] = {
    Right.READ: (*_TO_READ, _MAY_READ),
    Right.SEE: (*_TO_READ, _MAY_SEE),
    Right.SET: (*_TO_CHANGE, _MAY_WRITE),
    Right.WRITE: (*_TO_CHANGE, _MAY_WRITE, *_FIXED, _LOCKED),
    Right.AIM: (*_TO_CHANGE, _MAY_WRITE, *_FIXED),
    Right.OWN: (*_TO_CHANGE, _MAY_OWN),
    Right.UNMARK: (*_TO_CHANGE, _MAY_ADMINISTER, _STAYS_FIXED),
    Right.CREATE: (_CLOSED, *_TOKEN, _WAY, _HOMELESS, _MAY_WRITE, _PRESENT, _FIXED_PLACE, _LOCKED_PLACE),
    Right.DELETE: (*_TO_CHANGE, _MAY_WRITE, _ROOT, *_FIXED, _LOCKED, _LOCKED_PLACE),
    Right.ADMINISTER: (*_TO_CHANGE, _MAY_ADMINISTER),
}
"""For each right the rules in the order in which they are looked at; of CREATE and DELETE, owner and groups are those
of the container."""


def _decide(question: Question) -> Decision:
    trail: list[str] = []
    last: Grant | None = None
    for step in TABLE[question.right]:
        if isinstance(step, Bar):
            trail.append(step.name)
            if step.applies(question):
                return Decision(question.right, step.name, step.words, step.fault(question), tuple(trail))
            continue
        last = step.find(question, question.held)
        names = [grant.name for grant in step.grants]
        trail += names[: names.index(last.name) + 1] if last is not None else [*names, step.name]
        if last is None:
            return Decision(question.right, step.name, step.words, step.fault(question), tuple(trail))
    if last is None:
        raise AssertionError
    return Decision(question.right, last.name, last.words, None, tuple(trail))


def _refuse(question: Question) -> Fault | None:
    """Decide as `_decide`, and keep no words: nearly all that is asked is allowed, and nobody wants to know why."""
    for step in TABLE[question.right]:
        if isinstance(step, Bar):
            if step.applies(question):
                return step.fault(question)
        elif step.find(question, question.held) is None:
            return step.fault(question)
    return None


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
        self.place: tuple[str, ...] | None = None
        """The path that was asked about last."""

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
        """Require an administrator of the whole space.

        Raises
        ------
        PermissionDenied, NotAuthenticated
            The caller is none, or his token is limited to some places.
        """
        self.asked = True
        if not self.caller.admin:
            raise _no_administrator(self.caller)
        self.require_scope(Right.ADMINISTER, ())

    def require_scope(self, right: Right, path: tuple[str, ...]) -> None:
        """Require that the caller's credential is good for an operation at a place, existing or not.

        Raises
        ------
        PermissionDenied
            It is a token that may less.
        """
        self.require_place(path)
        if self.caller.scope is not None and NEEDED[right] not in self.caller.scope.rights:
            raise _too_little(self.caller, right)

    def require_place(self, path: tuple[str, ...]) -> None:
        """Require that the caller's credential is good for something at a place.

        Raises
        ------
        PermissionDenied
            It is a token that is limited to others.
        """
        self.place = path
        if self.caller.scope is not None and not self.caller.scope.covers(path):
            raise _elsewhere(NodeUri(self._authority, path))

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
        self.check_epoch(found.epoch)
        question = self._question(Right.READ, found)
        for bar in (*_TOKEN, _WAY):
            if bar.applies(question):
                raise bar.fault(question)

    def explain(self, right: Right, found: Resolution) -> Decision:
        """Decide, and say by which rule.

        Raises
        ------
        StaleCallerError
            As `check_epoch`.
        """
        self.check_epoch(found.epoch)
        return _decide(self._question(right, found))

    def held(self, right: Right, found: Resolution) -> Held:
        """Give the node whose owner and groups decide."""
        return self._question(right, found).held

    def reading(self, found: Resolution, held: Rights) -> str:
        """Name the rule by which a container on the way may be read, or may not: ``private``."""
        grant = _MAY_READ.find(self._question(Right.READ, found), held)
        return _MAY_READ.name if grant is None else grant.name

    def require_owner(self, found: Resolution) -> None:
        """Require the owner of the node, or of the container in which it is not, or an administrator.

        Raises
        ------
        PermissionDenied, NotAuthenticated
            The caller is neither, or his token is not for this.
        """
        self.check_epoch(found.epoch)
        self.require_scope(Right.OWN, found.names)
        if not _MAY_OWN.find(self._question(Right.OWN, found), found.last):
            raise self.refusal(found, "ask about others at")

    def require(self, right: Right, found: Resolution) -> StoredNode:
        """Give the node, or for CREATE its container to be.

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
        self.check_epoch(found.epoch)
        if fault := _refuse(self._question(right, found)):
            raise fault
        return found.last

    @property
    def changes(self) -> bool:
        """Say whether the caller may change anything: the service is open to it, and his credential good for it."""
        scope = self.caller.scope
        return self._standing.refusal(changes=True) is None and (scope is None or TokenRight.WRITE in scope.rights)

    def writes(self, node: StoredNode) -> bool:
        """Say whether the caller may change the content of a node that he is told of: its bytes, its children."""
        return self.changes and node.writable and not node.locked and not node.immutable

    def refusal(self, found: Resolution, what: str) -> Fault:
        """Refuse, in words that tell an anonymous caller to log in."""
        return self._question(Right.READ, found).refusal(what)

    def _question(self, right: Right, found: Resolution) -> Question:
        self.place = found.names
        return Question(self.caller, right, found, self._standing, self._authority, self._opencadc)
