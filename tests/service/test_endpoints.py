"""Tokens of endpoints: what is made is read, and nothing else is (T5, T6, T8)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from jose import jwt

from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import PermissionDenied, ServiceBusy
from pyvospace.service import endpoints
from pyvospace.service.endpoints import EndpointSigner, EndpointVerifier

KID, SECRET = "0123456789abcdef", b"s" * 32
ISSUER, STORAGE, URL = "localhost~space", "b0b1c3d2-0000-4000-8000-000000000000", "http://localhost:8081"


class Keys:
    """The keys of a catalogue, and how often somebody has looked at them."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self.keys = keys
        self.looks = 0
        self.fault: Exception | None = None

    async def __call__(self) -> Mapping[str, bytes]:
        self.looks += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return dict(self.keys)


def claims(**changes: object) -> EndpointClaims:
    values: dict[str, object] = {
        "operation": "get",
        "node_id": 7,
        "job_id": "j" * 40,
        "user_id": 3,
        "expires": datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5),
    }
    return EndpointClaims(**(values | changes))  # type: ignore[arg-type]


async def sign(of: EndpointClaims, *, secret: bytes = SECRET, storage: str = STORAGE, issuer: str = ISSUER) -> str:
    """Give the token of an endpoint."""

    async def key() -> tuple[str, bytes]:
        return KID, secret

    return (await EndpointSigner(issuer, key).endpoint(URL, storage, of, name="a b/c")).split("/")[-2]


def verifier(keys: Keys | None = None) -> EndpointVerifier:
    return EndpointVerifier(ISSUER, STORAGE, keys or Keys({KID: SECRET}))


def forged(
    payload: Mapping[str, object], *, algorithm: str = "HS256", headers: Mapping[str, object] | None = None
) -> str:
    """Make a token with the right key by other means."""
    return str(jwt.encode(dict(payload), SECRET, algorithm=algorithm, headers=dict(headers or {"kid": KID})))


GOOD: dict[str, object] = {
    "iss": ISSUER,
    "aud": STORAGE,
    "sub": "3",
    "exp": int((datetime.now(UTC) + timedelta(hours=1)).timestamp()),
    "op": "get",
    "node": 7,
    "job": "",
    "tok": 0,
}


@pytest.mark.parametrize(
    "changes", [{}, {"operation": "put"}, {"node_id": None}, {"job_id": None}, {"user_id": None}], ids=str
)
async def test_what_is_signed_is_read(changes: dict[str, object]) -> None:
    made = claims(**changes)
    assert await verifier().verify(await sign(made)) == made


async def test_url_ends_with_the_name() -> None:
    async def key() -> tuple[str, bytes]:
        return KID, SECRET

    url = await EndpointSigner(ISSUER, key).endpoint(URL, STORAGE, claims(), name="a b/é?#")
    assert url.startswith(URL + "/files/eyJ")
    assert url.endswith("/a%20b%2F%C3%A9%3F%23")


async def test_forgery_of_this_test_would_pass() -> None:
    """So that what follows is refused for what is wrong with it alone."""
    assert (await verifier().verify(forged(GOOD))).node_id == 7


WRONG = {
    "issuer": GOOD | {"iss": "example.org~other"},
    "audience": GOOD | {"aud": "b0b1c3d2-0000-4000-8000-000000000001"},
    "audiences": GOOD | {"aud": [STORAGE, "other"]},
    "expired": GOOD | {"exp": 1},
    "expires in words": GOOD | {"exp": "soon"},
    "operation": GOOD | {"op": "delete"},
    "more": GOOD | {"admin": True},
    **{f"no {name}": {key: value for key, value in GOOD.items() if key != name} for name in GOOD},
    "nothing": {},
}


@pytest.mark.parametrize("kind", WRONG)
async def test_wrong_claims(kind: str) -> None:
    if kind == "audiences":
        # A list that names us is for us in the eyes of the standard; ours never has one.
        assert (await verifier().verify(forged(WRONG[kind]))).node_id == 7
        return
    with pytest.raises(PermissionDenied):
        await verifier().verify(forged(WRONG[kind]))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_other_algorithms(algorithm: str) -> None:
    with pytest.raises(PermissionDenied):
        await verifier().verify(forged(GOOD, algorithm=algorithm))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"kid": 1},
        {"kid": None},
        {"kid": ""},
        {"kid": "../../etc/passwd"},
        {"kid": KID, "jwk": {}},
        {"kid": KID, "jku": "http://x"},
        {"kid": KID, "crit": ["x"]},
    ],
)
async def test_other_headers(headers: dict[str, object]) -> None:
    token = str(jwt.encode(GOOD, SECRET, algorithm="HS256", headers=headers or None))
    with pytest.raises(PermissionDenied):
        await verifier().verify(token)


async def test_other_key() -> None:
    with pytest.raises(PermissionDenied):
        await verifier().verify(await sign(claims(), secret=b"t" * 32))


async def test_every_change_of_a_letter_is_found() -> None:
    token = await sign(claims())
    reader = verifier()
    await reader.verify(token)
    for place in range(0, len(token) - 1, 3):  # the last letter has bits that mean nothing
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(PermissionDenied):
            await reader.verify(token[:place] + other + token[place + 1 :])
    for end in range(0, len(token), 5):
        with pytest.raises(PermissionDenied):
            await reader.verify(token[:end])


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "é", "\0", "eyJhbGciOiJIUzI1NiJ9.e30.x", "W10.W10.W10", "x" * 9000]
)
async def test_rubbish(token: str) -> None:
    with pytest.raises(PermissionDenied):
        await verifier().verify(token)


async def test_new_key_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_LOOK_AGAIN", 0.01)
    keys = Keys({"old": b"o" * 32})
    reader = verifier(keys)
    with pytest.raises(PermissionDenied):
        await reader.verify(await sign(claims()))
    keys.keys = {"old": b"o" * 32, KID: SECRET}
    await reader.verify(await sign(claims()))
    looks = keys.looks
    await reader.verify(await sign(claims()))
    assert keys.looks == looks


async def test_invented_keys_are_looked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tokens with names of keys that nobody has cost one look, and keep nobody else waiting."""
    monkeypatch.setattr(endpoints, "_LOOK_AGAIN", 0.2)
    keys = Keys({KID: SECRET})
    reader = verifier(keys)
    with pytest.raises(PermissionDenied):
        await reader.verify(forged(GOOD, headers={"kid": "nobody"}))
    assert keys.looks == 1
    invented = [reader.verify(forged(GOOD, headers={"kid": f"{number:016x}"})) for number in range(1000)]
    results = await asyncio.gather(*invented, return_exceptions=True)
    assert {type(one) for one in results} == {PermissionDenied}
    assert keys.looks <= 3
    await reader.verify(await sign(claims()))


async def test_keys_that_cannot_be_read_are_no_reason_to_refuse() -> None:
    keys = Keys({KID: SECRET})
    keys.fault = ServiceBusy("away")
    reader = verifier(keys)
    with pytest.raises(ServiceBusy):
        await reader.verify(await sign(claims()))
    keys.fault = None
    await reader.verify(await sign(claims()))


async def test_signing_key_is_asked_for_once() -> None:
    asked = 0

    async def key() -> tuple[str, bytes]:
        nonlocal asked
        asked += 1
        return KID, SECRET

    signer = EndpointSigner(ISSUER, key)
    for _ in range(10):
        await signer.endpoint(URL, STORAGE, claims(), name="a")
    assert asked == 1


async def credential(of: EndpointClaims, *, storage: str = STORAGE, issuer: str = ISSUER) -> tuple[str, str]:
    async def key() -> tuple[str, bytes]:
        return KID, SECRET

    return await EndpointSigner(issuer, key).credential(storage, of)


async def test_credential_says_what_an_endpoint_says() -> None:
    of = claims(operation="put", node_id=None)
    user, password = await credential(of)
    assert len(password) == 60
    assert await verifier().verify_credential(user, password) == of


async def test_credentials_that_are_refused() -> None:
    user, password = await credential(claims())
    changed = [password[:at] + ("A" if password[at] != "A" else "B") + password[at + 1 :] for at in range(60)]
    late = await credential(claims(expires=datetime.now(UTC) - timedelta(seconds=1)))
    others = [await credential(claims(), storage="another"), await credential(claims(), issuer="another")]
    wrong = [("k" * 40, password), (user, ""), (user, "é"), (user, password + "AAAA"), (user, "A" * 60), late, *others]
    reader = verifier()
    for pair in [*((user, one) for one in changed), *wrong]:
        with pytest.raises(PermissionDenied):
            await reader.verify_credential(*pair)
