"""Signed endpoints: the only module that makes or reads tokens of this service.

An endpoint is a JSON Web Token, HS256, signed with a key of the catalogue. python-jose takes much on trust (a token
without audience, any algorithm), so that everything is pinned here: one algorithm, a known key, every claim there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from jose import JWTError, jwt

from pyvospace.model.claims import OPERATIONS, EndpointClaims
from pyvospace.model.faults import PermissionDenied

log = logging.getLogger(__name__)

_ALGORITHM: Final = "HS256"
_MAX_BYTES: Final = 8192
_HEADER: Final = {"alg", "typ", "kid"}
_CLAIMS: Final = {"iss", "aud", "sub", "exp", "op", "node", "job", "tok"}
_REFRESH: Final = 60.0
"""Seconds for which a signing key is used without asking for a newer one."""
_LOOK_AGAIN: Final = 0.2
"""Seconds between two looks for a key that is not known."""
_REQUIRED: Final = {f"require_{claim}": True for claim in ("iss", "aud", "sub", "exp")}

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

    async def _sign(self, claims: EndpointClaims, storage: str) -> str:
        if self._current is None or time.monotonic() > self._until:
            self._current = await self._key()
            self._until = time.monotonic() + _REFRESH
        kid, secret = self._current
        payload = {
            "iss": self._issuer,
            "aud": storage,
            "sub": str(claims.user_id or 0),
            "exp": int(claims.expires.timestamp()),
            "op": claims.operation,
            "node": claims.node_id or 0,
            "job": claims.job_id or "",
            "tok": claims.token_id or 0,
        }
        return str(jwt.encode(payload, secret, algorithm=_ALGORITHM, headers={"kid": kid}))


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
        self._issuer = authority
        self._audience = audience
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
        if len(token) > _MAX_BYTES:
            raise PermissionDenied("this is no endpoint of ours")
        secret = await self._secret(token)
        try:
            payload = jwt.decode(
                token,
                secret,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options=_REQUIRED,
            )
        except JWTError as error:
            log.debug("endpoint refused: %s", error)
            raise PermissionDenied("this endpoint is not valid, or not any more; negotiate again") from None
        if payload.keys() != _CLAIMS or payload["op"] not in OPERATIONS:
            raise PermissionDenied("this is no endpoint of ours")
        return EndpointClaims(
            operation=payload["op"],
            node_id=payload["node"] or None,
            job_id=payload["job"] or None,
            user_id=int(payload["sub"]) or None,
            expires=datetime.fromtimestamp(payload["exp"], UTC),
            token_id=payload["tok"] or None,
        )

    async def _secret(self, token: str) -> bytes:
        try:
            header = jwt.get_unverified_header(token)
        except JWTError:
            header = {}
        kid = header.get("kid")
        if header.keys() != _HEADER or header["alg"] != _ALGORITHM or not isinstance(kid, str):
            raise PermissionDenied("this is no endpoint of ours")
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
