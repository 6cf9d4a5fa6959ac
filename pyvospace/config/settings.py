"""Every setting of the service, typed, with its default and its description.

The reference page is generated from here. Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from pyvospace.config.credentials import GroupServiceSettings, LoginSettings, ProviderSettings, ProxySettings
from pyvospace.config.doors import SftpSettings
from pyvospace.config.kinds import (
    Authority,
    Dsn,
    Labels,
    NodePath,
    Origins,
    Percent,
    Places,
    Port,
    Ports,
    Positive,
    PublicUrl,
    Seconds,
    Section,
    UserPath,
    Words,
    default_url,
    words_of,
)
from pyvospace.config.monitoring import MetricsSettings
from pyvospace.config.partials import PartialSettings
from pyvospace.config.places import PlacementSettings, ScrubSettings
from pyvospace.model.uris import decode_path

PREFIX = "PYVOSPACE_"
"""What the name of each environment variable begins with."""
DELIMITER = "__"
"""Between section and setting in the name of an environment variable."""


class DatabaseSettings(Section):
    """How the servers reach PostgreSQL."""

    dsn: Dsn | None = Field(
        None,
        description="PostgreSQL (15 or later) as postgresql://user:password@host:port/database, for the metadata "
        "servers and the commands of the administrator. `pyvospace up` brings a database of its own.",
    )
    storage_dsn: Dsn | None = Field(
        None,
        description="The same database for the storage servers, with a role that is a member of "
        "`pyvospace_storage`. If it is not given they use `dsn`.",
    )
    direct_dsn: Dsn | None = Field(
        None,
        description="PostgreSQL itself, if `dsn` leads to a pooler in transaction mode (PgBouncer). Notifications, "
        "`pyvospace migrate` and the commands of the administrator go there, and the role gets the settings of its "
        "sessions as defaults.",
    )
    storage_direct_dsn: Dsn | None = Field(None, description="The same for `storage_dsn`.")
    replica_dsn: Dsn | None = Field(
        None,
        description="A replica (hot standby) of the same database, itself and no pooler, from which metadata servers "
        "read what decides about no change. They see there what was acknowledged before, or ask `dsn`.",
    )
    replica_wait: Seconds = Field(
        0.2, description="How long a read waits for the replica to catch up before `dsn` is asked in its place."
    )
    pool_size: Positive = Field(10, description="Most connections that one server process keeps to the database.")
    client_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of them that the requests of one client may hold at once; what is more waits for these.",
    )
    acquire_timeout: Seconds = Field(
        10.0, description="How long a request waits for a free connection before it is answered with 503."
    )
    upload_acquire_timeout: Seconds = Field(
        100.0, description="The same at the end of an upload, whose bytes have already travelled."
    )
    statement_timeout: Seconds = Field(10.0, description="How long one statement may take.")
    lock_timeout: Seconds = Field(5.0, description="How long a statement waits for what somebody else changes.")
    tree_timeout: Seconds = Field(
        300.0,
        description="How long the deletion, move or copy of a whole tree may take, in place of statement_timeout.",
    )
    check_durability: bool = Field(
        default=True,
        description="Refuse to start on a database whose fsync, full_page_writes or synchronous_commit is off: it "
        "would lose what was acknowledged. To be turned off for tests only.",
    )

    @model_validator(mode="after")
    def _check_direct(self) -> Self:
        for name in ("dsn", "storage_dsn"):
            direct = name.replace("dsn", "direct_dsn")
            if getattr(self, direct) is not None and getattr(self, name) is None:
                raise ValueError(f"{direct}: there is no {name} that leads to a pooler")
        return self

    @property
    def of_storage(self) -> tuple[SecretStr | None, SecretStr | None]:
        """How storage servers reach PostgreSQL: the DSN, and the one past the pooler if there is one."""
        if self.storage_dsn is not None:
            return self.storage_dsn, self.storage_direct_dsn
        return self.dsn, self.direct_dsn


class ServerSettings(Section):
    """What the metadata and the storage server have in common."""

    host: str = Field("127.0.0.1", description="Address to listen at; 0.0.0.0 for every one.")
    port: Port = Field(8080, description="Port to listen at.")
    workers: Positive = Field(1, description="Number of processes that share the port.")
    tls_cert: UserPath | None = Field(None, description="Certificate chain (PEM); with tls_key it turns on TLS.")
    tls_key: UserPath | None = Field(None, description="Private key (PEM) of the certificate.")
    public_url: PublicUrl = Field(
        default_factory=default_url,
        description="URL at which clients reach this server, if it is not http(s)://host:port. It may have a path.",
    )
    drain_delay: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds for which the server goes on after SIGTERM, while /readyz says 503, so that load "
        "balancers learn of it.",
    )
    drain_time: float = Field(
        10.0,
        ge=0,
        description="Seconds for which requests that are under way may then go on; new connections are refused.",
    )
    hsts: float = Field(
        31_536_000.0,
        ge=0,
        description="How long browsers that came by https:// shall use nothing else for this host; 0: say nothing.",
    )

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key belong together: give both or none")
        if self.tls_cert and urlsplit(self.public_url).scheme != "https":
            raise ValueError("public_url begins with http:// but tls_cert turns on TLS: write https://")
        return self


class MetadataSettings(ServerSettings):
    """The metadata server."""

    tls_client_ca: UserPath | None = Field(
        None,
        description="Certificates (PEM) of the authorities whose client certificates are accepted, or a directory of "
        "them with hashed names, as IGTF's. Who shows no certificate is served too.",
    )
    tls_client_crl: UserPath | None = Field(
        None,
        description="Lists of revoked certificates (PEM): one of every authority above a certificate, or it is "
        "refused. Read when the server starts.",
    )
    tls_client_proxies: bool = Field(
        default=False, description="Accept proxy certificates (RFC 3820) too: they act as who made them."
    )

    @model_validator(mode="after")
    def _check_client_ca(self) -> Self:
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("tls_client_ca: client certificates come with TLS only; give tls_cert and tls_key")
        if (self.tls_client_crl or self.tls_client_proxies) and not self.tls_client_ca:
            raise ValueError("tls_client_crl and tls_client_proxies mean nothing without tls_client_ca")
        return self

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        names = urlsplit(self.public_url).path.split("/")
        if "files" in names:
            raise ValueError("public_url: vosfs takes every URL with a segment `files` for the bytes of a file")
        if "vospace" in names:
            raise ValueError("public_url: vos, given a password, looks for /vospace/auth/ in place of /vospace/")
        return self


class StorageSettings(ServerSettings):
    """The storage server."""

    port: Port = Field(8081, description="Port to listen at.")
    name: str = Field(
        default_factory=lambda data: f"{data['host']}:{data['port']}",
        min_length=1,
        description="Name of this server in the database, the same for all its processes and at every start. "
        "If it is not given: host:port.",
    )
    backend: str = Field(
        "posix", description="Where bytes are kept: name of an entry point of the group `pyvospace.storage`."
    )
    path: UserPath = Field(
        Path("~/.local/share/pyvospace/storage"), description="Directory of the bytes, for backends that use one."
    )
    threads: Positive = Field(32, description="Most threads that read, write and hash bytes.")
    buffer_size: int = Field(2 * 1024**2, ge=4096, description="Size of a buffer of the threads.")
    idle_timeout: Seconds = Field(60.0, description="How long a client may send or take no byte of a transfer.")
    least_rate: float = Field(
        256.0, ge=0, description="Bytes a second that a client has to send, on average over that time."
    )
    sweep_interval: Seconds = Field(3600.0, description="How often leftovers of broken uploads are looked for.")
    sweep_grace: Seconds = Field(86400.0, description="Age at which bytes that no node knows are deleted.")
    obsolete_grace: Seconds = Field(
        600.0, description="How long bytes stay that were replaced or deleted, for readers that have begun."
    )
    render_time: Seconds = Field(
        60.0, description="Computing time that one view of structured data (of a FITS file, of a VOTable) may take."
    )
    drain_time: float = Field(
        60.0,
        ge=0,
        description="Seconds for which transfers that are under way may go on after SIGTERM; new connections are "
        "refused.",
    )
    reserve: float = Field(0.05, ge=0, lt=1, description="Share of the disk that uploads leave free.")
    protocols: dict[str, dict[str, str | int]] = Field(
        default_factory=dict,
        repr=False,
        description="Servers of protocols beside HTTP: a table `[storage.protocols.NAME]` of its settings for each, by "
        "the name of an entry point of the group `pyvospace.protocols`.",
    )
    heartbeat: Seconds = Field(5.0, description="How often the server reports that it is there.")
    labels: Labels = Field(
        (), description="What policies of containers may ask for, as `ssd` or `archive`; words between spaces."
    )
    site: str = Field("", max_length=100, description="Where the server stands, for clients that are near it.")
    x_accel_redirect: str = Field(
        "",
        pattern=r"^((/[A-Za-z0-9_-]+)+)?$",
        description="Let an nginx in front, one of `proxies.trusted`, send files itself: path of its internal "
        "location, behind which the path of a file in the file system stands. Empty: bytes go through the server.",
    )
    cold: bool = Field(
        default=False, description="Bytes have to be fetched from there (tape, archive tier) before they can be read."
    )
    options: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Settings of the backend, named in its own documentation."
    )


class QuotaSettings(Section):
    """Quotas that are nearly used up."""

    warn: Annotated[tuple[Percent, ...], NoDecode, BeforeValidator(words_of)] = Field(
        (80, 95), description="Per cent of a quota at which it is logged, and told in the container's document."
    )


class LimitSettings(Section):
    """What one request may ask for."""

    document_bytes: Positive = Field(1024**2, description="Size of an XML document that is accepted.")
    document_depth: Positive = Field(32, description="Depth of its elements.")
    properties: Positive = Field(1000, description="Number of properties of a node.")
    property_bytes: Positive = Field(16 * 1024, description="Size of one property's value.")
    upload_bytes: Positive | None = Field(None, description="Size of one upload. Not given: what the disk takes.")
    page: Positive = Field(1000, description="Children of a container that are read from the database at once.")
    header_timeout: Seconds = Field(30.0, description="How long a client may take to send the head of a request.")
    body_timeout: Seconds = Field(60.0, description="How long it may take to send an XML document.")
    link_hops: Positive = Field(20, description="Number of links that are followed one after the other.")
    connections: Positive = Field(
        4096,
        description="Connections of clients that one process keeps, as far as it may open files; more are closed.",
    )
    connections_of_one: Positive = Field(
        1000, description="The same from one address that is none of a trusted proxy (of IPv6: from one /64)."
    )


class CorsSettings(Section):
    """Pages of other origins that may ask from within a browser."""

    origins: Origins = Field(
        default=(),
        description="Origins of these pages, as https://portal.example.org; * for every page. They may send tokens in "
        "headers; cookies and client certificates are never taken from them.",
    )


class RateSettings(Section):
    """How often one client (a user, or an address of anonymous ones) may ask one process."""

    requests: float = Field(
        2000.0, ge=0, allow_inf_nan=False, description="Requests a second on the average; 0: as often as he likes."
    )
    burst: Positive = Field(10_000, description="Requests that he may have spared, and ask at once.")
    longest_delay: Seconds = Field(
        10.0,
        description="What would have to wait for longer is answered with 503 if it reads; what writes waits.",
    )


class ArchiveSettings(Section):
    """Archives that are unpacked into containers."""

    members: Positive = Field(
        100_000,
        description="Most nodes that one archive makes, and most members of a zip archive that a container is fetched "
        "as, since its table is held in memory.",
    )
    bytes: Positive = Field(1 << 40, description="Most bytes that an archive may hold, its own heads included.")
    ratio: Positive = Field(
        200, description="How many times larger than what is sent that may be, once it is over 64 MiB."
    )


class EndpointSettings(Section):
    """The signed URLs at which bytes travel."""

    life: Seconds = Field(3600.0, description="How long a negotiated endpoint can be used.")
    files_life: Seconds = Field(300.0, description="The same for an endpoint that /files redirects to.")
    share_life: Seconds = Field(
        86400.0 * 7,
        description="How long an endpoint of the public share protocol can be used; a client may ask for less.",
    )
    key_rotation: Seconds = Field(86400.0 * 30, description="Age at which the signing key is replaced.")
    repeat_window: Seconds = Field(
        60.0,
        description="How long after a successful upload its repetition is accepted, for clients that lost the 201.",
    )


class JobSettings(Section):
    """Jobs (UWS)."""

    destruction: Seconds = Field(
        604800.0, description="How long a job can be read after its creation, if its owner does not say otherwise."
    )
    longest: Seconds = Field(86400.0 * 30, description="The longest that its owner can ask for.")
    archive: float = Field(
        0.0, ge=0, description="How long a job is kept as ARCHIVED, without its results, when that time is over."
    )
    waiting: Positive = Field(
        1000,
        description="Number of jobs of one user, or of anonymous ones from one address, that may wait to be run, or "
        "for a worker.",
    )
    kept: Positive = Field(
        10_000,
        description="Number of ended jobs that are kept of one user, and of all anonymous ones together; the oldest "
        "are forgotten first, also before their destruction.",
    )
    at_once: int = Field(
        4,
        ge=0,
        description="Number of jobs that one metadata server or `pyvospace worker` works on at the same time. 0 on the "
        "metadata servers leaves all of them to workers.",
    )
    lease: Seconds = Field(20.0, description="How long the job of a worker that died stays with it.")
    attempts: Positive = Field(3, description="Number of workers that may begin a job before it is given up.")
    wait: Seconds = Field(60.0, description="The longest that a request with WAIT is held.")
    found: Positive = Field(100_000, description="Most nodes that one search may find as a job.")


class OutgoingSettings(Section):
    """Requests of the storage servers to URLs that users name: pullToVoSpace and pushFromVoSpace."""

    ports: Ports = Field(
        default=("80", "443", "8080", "8443"), description="Ports that they may go to; a range is written 8000-8999."
    )
    allow: Places = Field(
        default=(),
        description="Addresses, networks and names of hosts that they may go to though these are not public, or are "
        "our own. What a name here means is believed.",
    )
    connect_timeout: Seconds = Field(15.0, description="How long a connection may take to be made.")
    idle_timeout: Seconds = Field(60.0, description="How long the far side may send or take no byte.")
    transfer_time: Seconds = Field(86400.0, description="How long one request may take with all of its bytes.")
    pull_bytes: Positive | None = Field(
        None, description="Size of what is fetched. Not given: as limits.upload_bytes; there is always the disk."
    )
    transfers: Positive = Field(16, description="How many such transfers one storage process carries out at a time.")


class GroupSettings(Section):
    """Local groups."""

    prefixes: Words = Field(
        default=(),
        description="What the URI of a local group begins with; its name follows. If it is not given: "
        "ivo://AUTHORITY/gms? (with / for ~) and ivo://cadc.nrc.ca/gms?.",
    )
    self_service: bool = Field(default=False, description="Let users make groups of their own.")
    most: Positive = Field(100, description="Number of groups that one of them may have.")


class HomeSettings(Section):
    """Homes: a container of his own for each user."""

    parent: NodePath = Field("/home", description="Container that they are in.")
    self_service: bool = Field(
        default=False, description="Let a user without a home make it, by createNode of /home/HIS-NAME."
    )
    at_login: bool = Field(default=False, description="Make it when he first comes, if he may make it himself.")
    group: str | None = Field(None, description="URI of the group whose members may. Not given: every user.")
    quota: Positive | None = Field(None, description="Bytes that there may be in a new home. Not given: any number.")

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if self.at_login and not self.self_service:
            raise ValueError("at_login needs self_service = true")
        return self

    @property
    def path(self) -> tuple[str, ...]:
        """The names on the way to the container."""
        return decode_path(self.parent)


class AuditSettings(Section):
    """The audit log, in the database: every change has its row, whatever is set here."""

    reads: Literal["none", "bytes", "all"] = Field(
        "bytes",
        description="Which reads have a row too: `none`; `bytes`: of bytes and archives; `all`: of documents too.",
    )
    keep: int = Field(0, ge=0, le=36500, description="Days after which rows are taken away; 0: never.")


class LogSettings(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is written.")
    format: Literal["text", "json"] = Field("text", description="Lines to read, or lines of JSON.")


class Settings(BaseSettings):
    """All settings. `pyvospace.config.load` reads them; the constructor takes what it is given and nothing else."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
    )

    interop: Literal["standard", "opencadc"] = Field(
        "standard",
        description="`standard` follows VOSpace 2.1; `opencadc` answers as OpenCADC's Java services where they differ.",
    )
    authority: Authority = Field(
        "localhost~space",
        description="Authority of the space: vos://AUTHORITY/path. It never changes once there are nodes.",
    )
    database: DatabaseSettings = Field(default_factory=DatabaseSettings, description="PostgreSQL.")
    metadata: MetadataSettings = Field(default_factory=MetadataSettings, description="The metadata server.")
    storage: StorageSettings = Field(default_factory=StorageSettings, description="The storage server.")
    limits: LimitSettings = Field(default_factory=LimitSettings, description="What one request may ask for.")
    partial_uploads: PartialSettings = Field(
        default_factory=PartialSettings, description="Uploads that come in more than one request."
    )
    placement: PlacementSettings = Field(
        default_factory=PlacementSettings, description="Where bytes go, and how many copies of them there are."
    )
    quotas: QuotaSettings = Field(default_factory=QuotaSettings, description="Quotas that are nearly used up.")
    cors: CorsSettings = Field(default_factory=CorsSettings, description="Pages of other origins that may ask.")
    rates: RateSettings = Field(default_factory=RateSettings, description="How often one client may ask.")
    scrub: ScrubSettings = Field(
        default_factory=ScrubSettings, description="Reading all bytes again, to find damaged ones."
    )
    archives: ArchiveSettings = Field(
        default_factory=ArchiveSettings, description="Archives that are unpacked into containers."
    )
    endpoints: EndpointSettings = Field(
        default_factory=EndpointSettings, description="The signed URLs at which bytes travel."
    )
    jobs: JobSettings = Field(default_factory=JobSettings, description="Jobs (UWS).")
    outgoing: OutgoingSettings = Field(
        default_factory=OutgoingSettings, description="Requests of the service to URLs that users name."
    )
    groups: GroupSettings = Field(default_factory=GroupSettings, description="Local groups.")
    homes: HomeSettings = Field(default_factory=HomeSettings, description="A container of his own for each user.")
    proxies: ProxySettings = Field(default_factory=ProxySettings, description="Proxies in front of the servers.")
    logins: LoginSettings = Field(
        default_factory=LoginSettings, description="Passwords, tokens, and those who try wrong ones."
    )
    oidc: tuple[ProviderSettings, ...] = Field(
        default=(), description="OpenID providers whose access tokens are accepted; a table for each."
    )
    gms: tuple[GroupServiceSettings, ...] = Field(
        default=(), description="Group membership services (GMS 1.0) that are asked for groups; a table for each."
    )
    sftp: SftpSettings = Field(default_factory=SftpSettings, description="The SFTP door to the space.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="The audit log.")
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Where Prometheus asks.")
    log: LogSettings = Field(default_factory=LogSettings, description="The log, on standard error.")

    @property
    def group_prefixes(self) -> tuple[str, ...]:
        """What the URI of a local group may begin with; the first is written."""
        own = f"ivo://{self.authority.replace('~', '/')}/gms?"
        return self.groups.prefixes or (own, "ivo://cadc.nrc.ca/gms?")

    @model_validator(mode="after")
    def _check_trust(self) -> Self:
        issuers = [one.issuer for one in self.oidc]
        if len(set(issuers)) < len(issuers):
            raise ValueError("oidc: an issuer stands there twice")
        if unknown := {issuer for one in self.gms for issuer in one.issuers} - set(issuers):
            raise ValueError(f"gms: {min(unknown)} is no issuer of [[oidc]]")
        named = [one.group_prefix for one in self.oidc if one.group_prefix is not None]
        for prefix in (*named, *(prefix for one in self.gms for prefix in one.prefixes)):
            if any(prefix.startswith(local) or local.startswith(prefix) for local in self.group_prefixes):
                raise ValueError(f"{prefix!r} means local groups: nobody else tells who is in them")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (named by the base class)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing here: `load` merges the sources and remembers what came from where."""
        return (init_settings,)
