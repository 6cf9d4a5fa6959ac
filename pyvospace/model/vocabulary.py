"""The identifiers of the standards: one table for each list, and everything else reads it."""

from __future__ import annotations

from enum import StrEnum

CORE = "ivo://ivoa.net/vospace/core#"
"""Properties, views and protocols of VOSpace."""
CADC = "ivo://cadc.nrc.ca/vospace/core#"
"""Properties of OpenCADC."""
OWN = "ivo://pyvospace#"
"""Views and parameters that are known here only."""


class NodeType(StrEnum):
    """Types of nodes (section 3.1); the set is closed."""

    NODE = "Node"
    DATA = "DataNode"
    UNSTRUCTURED = "UnstructuredDataNode"
    STRUCTURED = "StructuredDataNode"
    CONTAINER = "ContainerNode"
    LINK = "LinkNode"

    @property
    def holds_bytes(self) -> bool:
        """Say whether the type is DataNode or one of its kinds that hold bytes."""
        return self in _DATA


_DATA = frozenset({NodeType.DATA, NodeType.UNSTRUCTURED, NodeType.STRUCTURED})


class Detail(StrEnum):
    """How much of a node is told (section 6.3.1)."""

    MIN = "min"
    PROPERTIES = "properties"
    MAX = "max"
    FULL = ""
    """No parameter: the full record."""


class SortKey(StrEnum):
    """What children can be listed by: the names of parameter ``sort``, behind the name space of VOSpace or without."""

    NAME = "name"
    LENGTH = "length"
    DATE = "date"


class Direction(StrEnum):
    """Directions of transfers with the outside (section 3.6.1)."""

    PUSH_TO_VOSPACE = "pushToVoSpace"
    PULL_TO_VOSPACE = "pullToVoSpace"
    PUSH_FROM_VOSPACE = "pushFromVoSpace"
    PULL_FROM_VOSPACE = "pullFromVoSpace"


class Phase(StrEnum):
    """Phases of a job (UWS 1.1, section 2.1.3)."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    UNKNOWN = "UNKNOWN"
    HELD = "HELD"
    SUSPENDED = "SUSPENDED"
    ABORTED = "ABORTED"
    ARCHIVED = "ARCHIVED"

    @property
    def final(self) -> bool:
        """Say whether a job in this phase does nothing any more."""
        return self in _FINAL


_FINAL = frozenset({Phase.COMPLETED, Phase.ERROR, Phase.ABORTED, Phase.ARCHIVED})

# Properties that the service keeps in columns of their own.
LENGTH = CORE + "length"
MD5 = CORE + "MD5"
DATE = CORE + "date"
BTIME = CORE + "btime"
CTIME = CORE + "ctime"
MTIME = CORE + "mtime"
CREATOR = CORE + "creator"
AVAILABLE_SPACE = CORE + "availableSpace"
QUOTA = CORE + "quota"
QUOTA_STATE = OWN + "quotaState"
INTEGRITY = OWN + "integrity"
TIER = OWN + "tier"
"""Of bytes whose home is a cold storage: online, recalling or nearline."""
TYPE = CORE + "type"
IS_PUBLIC = CORE + "ispublic"
PUBLIC_READ = CORE + "publicread"
GROUP_READ = CORE + "groupread"
GROUP_WRITE = CORE + "groupwrite"
INHERIT_PERMISSIONS = CADC + "inheritPermissions"
IS_LOCKED = CADC + "islocked"
CORE_IS_LOCKED = CORE + "islocked"
IMMUTABLE = CORE + "immutable"
CONTENT_DATE = CORE + "content-date"
READABLE = CADC + "readable"
WRITABLE = CADC + "writable"

MANAGED = frozenset(
    {
        LENGTH, MD5, DATE, BTIME, CTIME, MTIME, CREATOR, AVAILABLE_SPACE,
        CONTENT_DATE, READABLE, WRITABLE, CORE + "readable", CORE + "writable", QUOTA_STATE, INTEGRITY,
        TIER,
    }
)  # fmt: skip
"""Facts that the service itself keeps: what a client says of them is ignored (rulings of A-07)."""

DESCRIPTIVE = frozenset(
    CORE + name
    for name in (
        "title", "subject", "description", "type", "format", "identifier", "source", "language", "relation",
        "coverage", "rights", "publisher", "contributor", "encoding", "runid",
    )
)  # fmt: skip
"""Properties of the standard that only describe: kept as sent."""

PERMISSIONS = frozenset({IS_PUBLIC, PUBLIC_READ, GROUP_READ, GROUP_WRITE, INHERIT_PERMISSIONS})
"""Properties that decide who may do what: only the owner and an administrator change them."""

LOCKS = frozenset({IS_LOCKED, CORE_IS_LOCKED})

ACCEPTED_PROPERTIES = DESCRIPTIVE | PERMISSIONS | LOCKS | {IMMUTABLE}
"""Properties that a client may set and the service understands."""

PROVIDED_PROPERTIES = PERMISSIONS | {
    LENGTH, MD5, DATE, BTIME, CTIME, MTIME, CONTENT_DATE, CREATOR, AVAILABLE_SPACE, READABLE, WRITABLE, QUOTA,
    QUOTA_STATE, INTEGRITY, TIER,
}  # fmt: skip
"""Properties that the service writes by itself."""

KNOWN_CORE = ACCEPTED_PROPERTIES | PROVIDED_PROPERTIES | MANAGED
"""All that may stand below ``ivo://ivoa.net/vospace/core#``; another fragment there is an InvalidArgument."""


ANY_VIEW = CORE + "anyview"
BINARY_VIEW = CORE + "binaryview"
DEFAULT_VIEW = CORE + "defaultview"
BYTE_VIEWS = frozenset({ANY_VIEW, BINARY_VIEW, DEFAULT_VIEW})
"""Views of an import that say nothing of the bytes; the default view is taken too (rulings of A-08)."""
TAR_VIEW = "ivo://pyvospace/views#tar"
TAR_GZ_VIEW = "ivo://pyvospace/views#tar.gz"
ZIP_VIEW = "ivo://pyvospace/views#zip"
"""A container as one archive. The standard names no URIs for these (section 3.4.5), so they are ours."""
PACKAGE_VIEW = "vos://cadc.nrc.ca~vospace/CADC/std/Pkg-1.0"
"""OpenCADC: several nodes as one archive. Also the identifier of the interface."""
PACKAGE_TARGET = "ivo://pyvospace/transfers#target"
"""Parameter of a transfer that we describe: a target of a package behind the first."""
FORMAT = CORE + "format"
"""Parameter of the package view: media type of the archive."""

HTTP_GET = CORE + "httpget"
HTTP_PUT = CORE + "httpput"
HTTPS_GET = CORE + "httpsget"
HTTPS_PUT = CORE + "httpsput"
GET_PROTOCOLS = frozenset({HTTP_GET, HTTPS_GET})
PUT_PROTOCOLS = frozenset({HTTP_PUT, HTTPS_PUT})
TUS = "ivo://pyvospace/protocols#tus"
"""Resumable upload (tus.io, version 1.0.0). No standard names a URI for it, so this one is ours."""
PUBLIC_SHARE = "http://wiki.ivoa.net/twiki/bin/view/IVOA/VOSpacePublicShare"
"""An endpoint to be handed on to others, for pullFromVoSpace only (section 3.5.4)."""
SHARE_LIFE = OWN + "share-life"
"""Parameter of a transfer: seconds that such an endpoint is to last."""
SFTP = "ivo://pyvospace/protocols#sftp"
"""In both directions: an endpoint ``sftp://user:password@host:port/name``. The standard names no such protocol."""
HOST_KEY = OWN + "host-key"
"""Parameter of that protocol: the fingerprint of the server's key, as OpenSSH writes it."""
FILE_TIME = OWN + "mtime"
"""Property: when the file was last changed at home, as a client tells that keeps such times."""
FILE_MODE = OWN + "mode"
"""Property: the permissions of the file at home, octal, as a client tells that keeps them."""
REPLACE = "ivo://pyvospace/transfers#replace"
"""Parameter of a move, ``true``: what stands at the destination gives way."""
SECURE_PROTOCOLS = frozenset({HTTPS_GET, HTTPS_PUT})
SERVICE_PROTOCOLS: dict[str, frozenset[str]] = {
    Direction.PULL_TO_VOSPACE: GET_PROTOCOLS | PUT_PROTOCOLS,
    Direction.PUSH_FROM_VOSPACE: PUT_PROTOCOLS,
}
"""What the service speaks as a client, by the direction of the transfer."""
CLIENT_PROTOCOLS = (HTTP_GET, HTTPS_GET, HTTP_PUT, HTTPS_PUT)
"""The same in any direction."""

SSO_ANON = "ivo://ivoa.net/sso#anon"
SSO_TOKEN = "ivo://ivoa.net/sso#token"  # noqa: S105 - an identifier, no secret
SSO_OAUTH = "ivo://ivoa.net/sso#OAuth"
SSO_PASSWORD = "ivo://ivoa.net/sso#tls-with-password"  # noqa: S105 - an identifier, no secret
SSO_BASIC = "ivo://ivoa.net/sso#BasicAA"
SSO_CERTIFICATE = "ivo://ivoa.net/sso#tls-with-certificate"

STANDARD_VOSI_CAPABILITIES = "ivo://ivoa.net/std/VOSI#capabilities"
STANDARD_VOSI_AVAILABILITY = "ivo://ivoa.net/std/VOSI#availability"
STANDARD_NODES = "ivo://ivoa.net/std/VOSpace/v2.0#nodes"
STANDARD_TRANSFERS = "ivo://ivoa.net/std/VOSpace/v2.0#transfers"
STANDARD_SYNC = "ivo://ivoa.net/std/VOSpace#sync-2.1"
STANDARD_SYNC_20 = "ivo://ivoa.net/std/VOSpace/v2.0#sync"
STANDARD_VIEWS = "ivo://ivoa.net/std/VOSpace/v2.0#views"
STANDARD_PROTOCOLS = "ivo://ivoa.net/std/VOSpace/v2.0#protocols"
STANDARD_PROPERTIES = "ivo://ivoa.net/std/VOSpace/v2.0#properties"
STANDARD_VOSPACE = CORE + "vospace-2.1"
"""Capability of a node: it can be reached by a service of this version (section 3.3.5)."""
STANDARD_FILES = "ivo://ivoa.net/std/VOSpace#files-proto"
STANDARD_SEARCH = "ivo://pyvospace/std/search#sync-1.0"
"""Of our own: no standard has it any more."""
STANDARD_SEARCHES = "ivo://pyvospace/std/search#async-1.0"
STANDARD_GMS = "ivo://ivoa.net/std/GMS#search-1.0"
STANDARD_AUDIT = "ivo://pyvospace/std/audit#1.0"
STANDARD_PERMISSIONS = "ivo://pyvospace/std/permissions#1.0"
STANDARD_VERSIONS = "ivo://pyvospace/std/versions#1.0"
STANDARD_RECALLS = "ivo://pyvospace/std/recalls#1.0"
STANDARD_ENTRIES = "ivo://pyvospace/std/entries#1.0"
"""Nodes as a file system wants them; who offers it also takes times and modes with bytes, and moves that replace."""
STANDARD_ASYNC_DELETE = "ivo://ivoa.net/std/VOSpace#recursive-delete-proto"
STANDARD_ASYNC_SETPROPS = "ivo://ivoa.net/std/VOSpace#recursive-nodeprops-proto"
