"""Who calls: credentials become callers, or 401 (R-AUTH; T5, T24)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pyvospace.db import identities
from pyvospace.db.bootstrap import add_user, set_up
from pyvospace.db.passwords import hash_password
from pyvospace.db.pool import Database
from pyvospace.model.callers import ANONYMOUS
from pyvospace.model.faults import NotAuthenticated
from pyvospace.service import auth
from pyvospace.service.auth import Authenticator, Presented

TOKEN = "a-token-of-alice"


@pytest.fixture
async def authenticator(database: Database) -> AsyncIterator[Authenticator]:
    await set_up(database, authority="localhost~space", group_prefixes=["ivo://localhost/space/gms?"])
    await add_user(database, "alice", password=hash_password("pass:word é"))
    await add_token(database, TOKEN)
    return Authenticator(database)  # type: ignore[return-value]


async def add_token(database: Database, token: str, expires: datetime | None = None) -> int:
    return await identities.add_token(database, "alice", "test", hashlib.sha256(token.encode()).digest(), expires)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


async def test_no_credential_is_anonymous(authenticator: Authenticator) -> None:
    assert await authenticator.identify(Presented()) == replace(ANONYMOUS, origin=Presented().origin)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", " Bearer  "])
async def test_token(authenticator: Authenticator, scheme: str) -> None:
    caller = await authenticator.identify(Presented(f"{scheme} {TOKEN}"))
    assert (caller.name, caller.admin, caller.anonymous) == ("alice", False, False)


async def test_password(authenticator: Authenticator) -> None:
    assert (await authenticator.identify(Presented(basic("alice", "pass:word é")))).name == "alice"


async def test_anything_else_is_refused(authenticator: Authenticator) -> None:
    for authorization in (
        "", " ", "Bearer", "Bearer ", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Token {TOKEN}", TOKEN,
        "Basic", "Basic ", "Basic x", "Basic !!!!", basic("alice", ""), basic("alice", "wrong"), basic("", ""),
        basic("nobody", "pass:word é"), basic("Alice", "pass:word é"), basic("alice\0", "pass:word é"),
        basic("admin", ""), "Basic YWxpY2U=", "Basic /zp4", "Bearer " + "x" * 9000, "Digest x", "Bearer \udcff",
    ):  # fmt: skip
        with pytest.raises(NotAuthenticated) as caught:
            await authenticator.identify(Presented(authorization))
        assert caught.value.invalid, "a credential was sent and refused"


async def test_user_without_password_has_none_that_fits(authenticator: Authenticator) -> None:
    for password in ("", "x", "None"):
        with pytest.raises(NotAuthenticated):
            await authenticator.identify(Presented(basic("admin", password)))


async def test_name_that_does_not_exist_costs_the_same(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def check(kept: str, password: str) -> bool:
        checked.append(kept)
        return False

    monkeypatch.setattr(auth, "password_fits", check)
    for name in ("alice", "nobody", "admin"):
        with pytest.raises(NotAuthenticated, match="name or password is wrong"):
            await authenticator.identify(Presented(basic(name, "x")))
    assert len(checked) == 3
    assert all(kept.startswith("$argon2id$") for kept in checked)


async def test_callers_are_remembered(
    authenticator: Authenticator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await authenticator.identify(Presented(f"Bearer {TOKEN}"))
    monkeypatch.setattr(identities, "by_token", None)
    assert await authenticator.identify(Presented(f"Bearer {TOKEN}")) == first
    authenticator.forget(Presented(f"Bearer {TOKEN}"))
    with pytest.raises(TypeError):
        await authenticator.identify(Presented(f"Bearer {TOKEN}"))


async def test_refusals_are_not_remembered(authenticator: Authenticator, database: Database) -> None:
    with pytest.raises(NotAuthenticated):
        await authenticator.identify(Presented("Bearer later"))
    await add_token(database, "later")
    assert (await authenticator.identify(Presented("Bearer later"))).name == "alice"


async def test_memory_is_bounded(
    authenticator: Authenticator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_REMEMBERED", 3)
    for number in range(10):
        await add_token(database, f"token {number}")
        await authenticator.identify(Presented(f"Bearer token {number}"))
    assert len(authenticator._callers) == 3


async def test_expired_token(authenticator: Authenticator, database: Database) -> None:
    await add_token(database, "old", datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(NotAuthenticated):
        await authenticator.identify(Presented("Bearer old"))


async def test_token_that_expires_while_it_is_remembered(
    authenticator: Authenticator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_token(database, "short", datetime.now(UTC) + timedelta(hours=1))
    await authenticator.identify(Presented("Bearer short"))

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return datetime.now(UTC) + timedelta(hours=2)

    monkeypatch.setattr(auth, "datetime", Later)
    await database.fetch(
        "update tokens set expires = now() - interval '1 s' where name = 'test' and expires is not null"
    )
    with pytest.raises(NotAuthenticated):
        await authenticator.identify(Presented("Bearer short"))
