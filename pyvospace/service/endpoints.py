"""Signed endpoints: the only module that makes or reads tokens of this service.

An endpoint is a JSON Web Token, HS256, signed with a key of the catalogue. Everything is pinned: one algorithm, a known
key, every claim there and no other.

Protocols with a user and a password get the same as these: the user is the job, the password the rest of the claims in
a few bytes with their HMAC.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from pyvospace.model.claims import OPERATIONS, EndpointClaims
from pyvospace.model.faults import PermissionDenied
from pyvospace.service import jwts
from pyvospace.service.jwts import TokenRefused, Unverified
from pyvospace.service.logs import request_id, trace_id

log = logging.getLogger(__name__)

_HEADER: Final = {"alg", "typ", "kid"}
_CLAIMS: Final = {"iss", "aud", "sub", "exp", "op", "node", "job", "tok", "via"}
_VERSION: Final = "version"
"""The operation with one more claim."""
_REFRESH: Final = 60.0
"""Seconds for which a signing key is used without asking for a newer one."""
_LOOK_AGAIN: Final = 0.2
"""Seconds between two looks for a key that is not known."""
_PACKED: Final = struct.Struct(">8sIBQQ")
"""Of a password: key, end, operation, node, user."""
_MAC: Final = 16
_OPERATIONS: Final = tuple(sorted(OPERATIONS))

SigningKey = Callable[[], Awaitable[tuple[str, bytes]]]
Keys = Callable[[], Awaitable[Mapping[str, bytes]]]


class EndpointSigner:
    """Makes endpoints, on a metadata server.

    Parameters
    ----------
    authority
        Of the space: the issuer.
    key
        Gives the name and the secret of the key that signs now.
    """

    def __init__(self, authority: str, key: SigningKey) -> None:
        self._issuer = authority
        self._key = key
        self._current: tuple[str, bytes] | None = None
        self._until = 0.0

    async def endpoint(self, storage_url: str, storage: str, claims: EndpointClaims, *, name: str) -> str:
        """Give the URL at which `claims` hold, on the storage with this URL and UUID.

        `name` ends the URL so that clients which look there find the name of the file.
        """
        token = await self._sign(claims, storage)
        return f"{storage_url}/files/{token}/{quote(name, safe='')}"

    async def creation(self, storage_url: str, storage: str, claims: EndpointClaims) -> str:
        """Give the URL at which an upload of TUS for `claims` can be begun (see `endpoint`)."""
        return f"{storage_url}/tus/{await self._sign(claims, storage)}"

    async def credential(self, storage: str, claims: EndpointClaims) -> tuple[str, str]:
        """Give the user and the password with which `claims` of a job hold on the storage with this UUID."""
        kid, secret = await self._signing_key()
        job = claims.job_id or ""
        packed = _PACKED.pack(
            bytes.fromhex(kid),
            int(claims.expires.timestamp()),
            _OPERATIONS.index(claims.operation),
            claims.node_id or 0,
            claims.user_id or 0,
        )
        mac = _mac(secret, self._issuer, storage, job, packed)
        return job, base64.urlsafe_b64encode(packed + mac).decode().rstrip("=")

    async def _signing_key(self) -> tuple[str, bytes]:
        if self._current is None or time.monotonic() > self._until:
            self._current = await self._key()
            self._until = time.monotonic() + _REFRESH
        return self._current

    async def _sign(self, claims: EndpointClaims, storage: str) -> str:
        kid, secret = await self._signing_key()
        payload = {
            "iss": self._issuer,
            "aud": storage,
            "sub": str(claims.user_id or 0),
            "exp": int(claims.expires.timestamp()),
            "op": claims.operation,
            "node": claims.node_id or 0,
            "job": claims.job_id or "",
            "tok": claims.token_id or 0,
            "via": _trace(claims),
            **({"ver": claims.version} if claims.version else {}),
        }
        return jwts.sign(payload, kid, secret)


def _trace(claims: EndpointClaims) -> str:
    """Give what connects the log lines about a transfer: nothing if there is a job, unless the client has a trace.

    An endpoint of a job looks the same each time, unless somebody wants to trace it.
    """
    if claims.job_id is None or trace_id.get() not in {"", request_id.get()}:
        return trace_id.get()
    trace_id.set(claims.job_id)
    return ""


class EndpointVerifier:
    """Reads endpoints, on a storage server.

    Parameters
    ----------
    authority
        Of the space: the issuer that is believed.
    audience
        UUID of the storage: an endpoint for another one is refused.
    keys
        Gives all keys by name.
    """

    def __init__(self, authority: str, audience: str, keys: Keys) -> None:
        self._expected = jwts.Expected(issuer=authority, audiences=(audience,), algorithms=(jwts.HMAC,))
        self._names = authority, audience
        self._fetch = keys
        self._keys: Mapping[str, bytes] = {}
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    async def verify(self, token: str) -> EndpointClaims:
        """Read a token.

        Raises
        ------
        PermissionDenied
            It is not one of ours, was altered, is for another storage, or has expired.
        """
        try:
            unverified = jwts.read(token)
            secret = await self._secret(unverified)
            payload = jwts.check_own(unverified, secret, self._expected)
        except TokenRefused as refused:
            log.debug("endpoint refused: %s", refused)
            raise PermissionDenied("this endpoint is not valid, or not any more; negotiate again") from None
        # What was signed by an older version tells no trace.
        known = _CLAIMS | {"ver"} if payload.get("op") == _VERSION else _CLAIMS
        if payload.keys() | {"via"} != known or payload["op"] not in OPERATIONS:
            raise PermissionDenied("this is no endpoint of ours")
        trace_id.set(str(payload.get("via") or payload["job"] or trace_id.get()))
        return EndpointClaims(
            operation=payload["op"],
            node_id=payload["node"] or None,
            job_id=payload["job"] or None,
            user_id=int(payload["sub"]) or None,
            expires=datetime.fromtimestamp(payload["exp"], UTC),
            token_id=payload["tok"] or None,
            version=payload.get("ver"),
        )

    async def verify_credential(self, user: str, password: str) -> EndpointClaims:
        """Read what `EndpointSigner.credential` gave.

        Raises
        ------
        PermissionDenied
            As `verify`.
        """
        try:
            data = base64.b64decode(password.encode("ascii") + b"=" * (-len(password) % 4), b"-_", validate=True)
            kid, end, operation, node, of_user = _PACKED.unpack(data[:-_MAC])
        except (ValueError, binascii.Error, struct.error):
            raise PermissionDenied("this is no password of ours") from None
        packed, mac = data[:-_MAC], data[-_MAC:]
        secret = await self._key(kid.hex())
        if not hmac.compare_digest(mac, _mac(secret, *self._names, user, packed)) or end <= time.time():
            raise PermissionDenied("this password is not valid, or not any more; negotiate again")
        return EndpointClaims(
            operation=_OPERATIONS[operation],
            node_id=node or None,
            job_id=user,
            user_id=of_user or None,
            expires=datetime.fromtimestamp(end, UTC),
        )

    async def _secret(self, token: Unverified) -> bytes:
        kid = token.kid
        if token.header.keys() != _HEADER or token.algorithm != jwts.HMAC or kid is None:
            raise PermissionDenied("this is no endpoint of ours")
        return await self._key(kid)

    async def _key(self, kid: str) -> bytes:
        if kid not in self._keys:
            await self._look_for(kid)
        if kid not in self._keys:
            raise PermissionDenied("this endpoint is not valid any more; negotiate again")
        return self._keys[kid]

    async def _look_for(self, kid: str) -> None:
        """Read the keys anew, one reader at a time and not too often: strangers can make up names of keys.

        Whoever waits meanwhile is content with the same look, so that strangers keep nobody waiting for theirs.
        """
        asked = time.monotonic()
        async with self._looking:
            if kid in self._keys or self._looked >= asked:
                return
            await asyncio.sleep(max(0.0, self._looked + _LOOK_AGAIN - time.monotonic()))
            begun = time.monotonic()
            self._keys = await self._fetch()
            self._looked = begun


def _mac(secret: bytes, issuer: str, storage: str, job: str, packed: bytes) -> bytes:
    """Bind a password to all that it is for. What is signed as a JSON Web Token begins in another way."""
    told = f"credential\0{issuer}\0{storage}\0{job}\0".encode("utf-8", "replace")
    return hmac.digest(secret, told + packed, "sha256")[:_MAC]
