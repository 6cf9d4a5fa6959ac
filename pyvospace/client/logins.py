"""Logins that are kept: ``logins.json`` beside the file of the client, for nobody else to read.

Where there is a keyring (see `pyvospace.client.keyrings`) it holds the tokens, and the file only says so.
A token of a provider lives for minutes. What keeps a login is the refresh token; each may be good for but one use, so
that processes wait for each other while one of them gets the next.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pyvospace.client import keyrings
from pyvospace.client.access import config_file
from pyvospace.client.oidc import Tokens, TokenSource
from pyvospace.model.faults import InvalidData, NotAuthenticated

_EARLY: Final = 30.0
"""Seconds before its end at which a token is replaced."""


@dataclass(frozen=True, slots=True)
class Login:
    """How a user is logged in at a service."""

    token: str = field(repr=False)
    expires: float | None = None
    """Seconds since 1970; None: nobody knows."""
    refresh_token: str | None = field(default=None, repr=False)
    token_endpoint: str = ""
    client_id: str = ""
    in_keyring: bool = False
    """The tokens are not here but in the keyring."""

    @classmethod
    def of(cls, tokens: Tokens, *, endpoint: str, client: str, refresh: str | None = None) -> Self:
        """Make one of what a provider gave; `refresh` is the refresh token if it gave no newer one."""
        return cls(tokens.access, tokens.expires, tokens.refresh or refresh, endpoint, client)

    @property
    def over(self) -> bool:
        """Say whether the token is to be replaced, and can be."""
        return self.refresh_token is not None and self.expires is not None and time.time() > self.expires - _EARLY


class StoredLogin:
    """Gives the token of a login at the moment, as a header; a new one when the old one ends."""

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        self._url = url
        self._ca_file = ca_file

    @classmethod
    def find(cls, url: str, *, ca_file: Path | None = None) -> Self | None:
        """Give the login at a service; None: there is none."""
        return cls(url, ca_file=ca_file) if url in _read() else None

    @property
    def by_provider(self) -> bool:
        """Say whether a provider gave its token, else the service itself."""
        login = _read().get(self._url)
        return login is not None and bool(login.token_endpoint)

    async def __call__(self) -> str:
        """Give the value of the header.

        Raises
        ------
        NotAuthenticated
            The login has ended.
        """
        login = await _find(self._url)
        if login is not None and login.over:
            login = await self._renewed()
        if login is None:
            raise NotAuthenticated(f"the login at {self._url} has ended: pyvospace login")
        return f"Bearer {login.token}"

    async def _renewed(self) -> Login | None:
        async with _alone():
            login = await _find(self._url)
            if login is None or not login.over or login.refresh_token is None:  # somebody else was quicker
                return login
            plain = urlsplit(self._url).scheme == "http"
            source = TokenSource(login.client_id, ca_file=self._ca_file, plain=plain)
            try:
                tokens = await source.refreshed(login.token_endpoint, login.refresh_token)
            except NotAuthenticated as fault:
                raise NotAuthenticated(
                    f"the login at {self._url} has ended: pyvospace login ({fault.detail})"
                ) from None
            made = Login.of(tokens, endpoint=login.token_endpoint, client=login.client_id, refresh=login.refresh_token)
            await _keep(self._url, made)
        return made


async def keep(url: str, login: Login | None) -> str | None:
    """Keep a login at a service; None: forget it. Say where it is kept now."""
    async with _alone():
        return await _keep(url, login)


async def _keep(url: str, login: Login | None) -> str | None:
    others = {name: one for name, one in _read().items() if name != url}
    if login is None:
        if url in (known := _read()) and known[url].in_keyring:
            await asyncio.to_thread(keyrings.remove, url)
        _write(others)
        return None
    secret = json.dumps({"token": login.token, "refresh_token": login.refresh_token})
    if await asyncio.to_thread(keyrings.put, url, secret):
        _write({**others, url: replace(login, token="", refresh_token=None, in_keyring=True)})
        return keyrings.name()
    _write({**others, url: login})
    return str(file())


async def _find(url: str) -> Login | None:
    """Give a login with its tokens; None: there is none, or its keyring does not give them."""
    login = _read().get(url)
    if login is None or not login.in_keyring:
        return login
    secret = await asyncio.to_thread(keyrings.get, url)
    try:
        return None if secret is None else replace(login, **json.loads(secret), in_keyring=False)
    except (ValueError, TypeError):
        raise InvalidData(f"the keyring holds something else than a login at {url}: pyvospace login") from None


def file() -> Path:
    """Give the path of the file."""
    return config_file().with_name("logins.json")


def _read() -> dict[str, Login]:
    try:
        found: Mapping[str, Any] = json.loads(file().read_text(encoding="utf-8"))
        return {url: Login(**one) for url, one in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        raise InvalidData(f"{file()} is not as `pyvospace login` has written it: delete it, and log in again") from None


def _write(logins: Mapping[str, Login]) -> None:
    path = file()
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        json.dump({url: asdict(one) for url, one in logins.items()}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    """Keep other processes, and other tasks of this one, away from the file."""
    path = file().with_suffix(".lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
