"""What a request brings with it to an operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import NodeUri
from pyvospace.model.vosi import Standing
from pyvospace.server.policy import Policy
from pyvospace.service.audit import REFUSED, Entry

if TYPE_CHECKING:
    from pyvospace.config.settings import Settings
    from pyvospace.db.listening import Listener
    from pyvospace.db.pool import Database, Reader
    from pyvospace.model.audit import Action
    from pyvospace.model.callers import Caller
    from pyvospace.model.faults import Fault
    from pyvospace.service.audit import AuditWriter
    from pyvospace.service.endpoints import EndpointSigner
    from pyvospace.service.standing import StandingWatch
    from pyvospace.uws.runner import Runner
    from pyvospace.uws.waiting import Waiting
    from pyvospace.wire.xml import Limits

OPEN: Final = Standing()
"""For what has begun, and may end: jobs."""


@dataclass(frozen=True, slots=True)
class Service:
    """What all requests of a server share."""

    settings: Settings
    database: Database
    signer: EndpointSigner
    limits: Limits
    """Of documents that come in."""
    listener: Listener
    """Hears what the database tells by itself."""
    watch: StandingWatch
    """The state of the service."""
    waiting: Waiting
    """Those who wait for jobs."""
    audit: AuditWriter
    """Takes what the audit log is told of, besides changes."""
    runner: Runner
    """Does jobs in this process."""

    @property
    def authority(self) -> str:
        """Authority of the space."""
        return self.settings.authority

    @property
    def url(self) -> str:
        """Public base URL, without a slash at the end."""
        return self.settings.metadata.public_url

    @property
    def secure(self) -> bool:
        """Say whether clients reach the service by TLS."""
        return self.url.startswith("https:")

    @property
    def opencadc(self) -> bool:
        """Say whether to answer as OpenCADC where it contradicts the standard."""
        return self.settings.interop == "opencadc"


@dataclass(frozen=True, slots=True)
class Context:
    """One request: who calls, and what he may."""

    service: Service
    caller: Caller
    standing: Standing = OPEN
    policy: Policy = field(init=False)

    def __post_init__(self) -> None:
        service = self.service
        policy = Policy(self.caller, service.authority, self.standing, opencadc=service.opencadc)
        object.__setattr__(self, "policy", policy)

    @property
    def database(self) -> Database:
        """The catalogue."""
        return self.service.database

    @property
    def reader(self) -> Reader:
        """The catalogue, or a replica of it, for what decides about no change."""
        return self.service.database.reader

    def note_refusal(self, fault: Fault, action: Action) -> None:
        """Tell the audit log of a refusal that the caller learns from his job."""
        if fault.status in REFUSED:
            self.service.audit.add(Entry(self.caller, action, fault.code, names=self.policy.place))

    def uri(self, path: tuple[str, ...]) -> NodeUri:
        """Give the URI of a node of this space."""
        return NodeUri(self.service.authority, path)

    def own_path(self, text: str) -> tuple[str, ...]:
        """Read the URI of a node of this space.

        Raises
        ------
        InvalidURI
            It is not valid, or of another space.
        """
        uri = NodeUri.parse(text)
        if uri.authority != self.service.authority:
            raise InvalidURI(f"{text[:300]} is not in the space vos://{self.service.authority}")
        return uri.path
