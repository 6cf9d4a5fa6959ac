"""Tokens of OpenID providers at a running pair: good ones, and every kind of bad ones (T5, T6, T25; R-AUTH-022)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from jose import jws

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import GROUP_READ
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.interop.machine import Machine
from tests.support.agents import node_document
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.provider import (
    AUDIENCE,
    MadeUpIssuer,
    Provider,
    claims,
    new_key,
    public,
    public_pem,
    running_provider,
    sign,
)

GROUPS = "ivo://example.org/gms?"
KEY, EC_KEY, OTHER_KEY, STRANGE_KEY = new_key("one"), new_key("two", "ES256"), new_key("other"), new_key("one")


@dataclass
class World:
    """A pair, and two providers that it trusts."""

    pair: Pair
    issuer: MadeUpIssuer
    other: MadeUpIssuer

    def ask(
        self,
        token: str | None,
        path: str = "/nodes/home/alice",
        method: str = "GET",
        body: bytes | None = None,
        kind: str = "text/xml",
    ) -> tuple[int, Message, str]:
        """Give status, headers and body of an answer."""
        headers = {"Content-Type": kind} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        request = urllib.request.Request(self.pair.url + path, body, headers, method=method)
        try:
            answer: Any = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read().decode()

    def link(self, user: str, issuer: str, subject: str) -> int:
        """Let a user be known by a subject."""

        async def work(database: Database) -> int:
            return await identities.add_identity(database, user, "oidc", issuer, subject)

        return int(self.database(work))

    def database(self, work: Callable[[Database], Any]) -> Any:
        """Do something in the catalogue."""

        async def run() -> Any:
            connected = await Database.connect(self.pair.dsn, self.pair.database)
            try:
                return await work(connected)
            finally:
                await connected.close()

        return asyncio.run(run())


def trust(url: str, **changes: Any) -> dict[str, Any]:
    """Give the settings of a provider."""
    return {"issuer": url, "audience": [AUDIENCE], "plain_http": True, "leeway": 5, **changes}


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    issuer, other = MadeUpIssuer([KEY, EC_KEY]), MadeUpIssuer([OTHER_KEY])
    told = [
        trust(issuer.url, groups_claim="groups", group_prefix=GROUPS),
        trust(
            other.url,
            provision=True,
            client_id="space",
            client_secret="secret",
            read_scope="vos.read",
            write_scope="vos.write",
            refetch=0.1,
        ),
    ]
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        directory, environment = tmp_path_factory.mktemp("openid"), {"PYVOSPACE_OIDC": json.dumps(told)}
        with running_pair(dsn, directory, storage_dsn=storage_dsn, environment=environment) as pair:
            made = World(pair, issuer, other)
            made.link("alice", issuer.url, "alice")
            yield made
    issuer.close()
    other.close()


def b64(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def parts(head: object, body: object, signature: str = "AAAA") -> str:
    return f"{b64(head)}.{b64(body)}.{signature}"


def hashed(secret: str | bytes, of: dict[str, Any]) -> str:
    """Sign by HS256 with what everybody knows; the library would refuse to."""
    text = parts({"alg": "HS256", "typ": "JWT", "kid": "one"}, of, "").removesuffix(".")
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{text}.{b64(hmac.digest(key, text.encode(), hashlib.sha256))}"


def altered(token: str) -> str:
    head, body, signature = token.split(".")
    found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return f"{head}.{b64({**found, 'sub': 'admin'})}.{signature}"


def header(**more: Any) -> Callable[[str, str], str]:
    return lambda us, _: sign(KEY, claims(us), **more)


def said(**changes: Any) -> Callable[[str, str], str]:
    return lambda us, _: sign(KEY, claims(us, **changes))


NOW = int(time.time())
BAD: dict[str, Callable[[str, str], str]] = {
    "tampered": lambda us, _: altered(sign(KEY, claims(us))),
    "signature cut": lambda us, _: sign(KEY, claims(us))[:-20],
    "no signature": lambda us, _: sign(KEY, claims(us)).rpartition(".")[0] + ".",
    "another key of that name": lambda us, _: sign(STRANGE_KEY, claims(us)),
    "expired": said(exp=NOW - 60),
    "no exp": said(exp=None),
    "exp is text": said(exp="tomorrow"),
    "exp is endless": lambda us, _: sign(KEY, claims(us, exp=10**400)),
    "not yet valid": said(nbf=NOW + 3600),
    "made tomorrow": said(iat=NOW + 3600),
    "wrong audience": said(aud="urn:other"),
    "no audience": said(aud=None),
    "audience is a number": said(aud=7),
    "wrong issuer": said(iss="https://elsewhere.example.org"),
    "issuer is a list": said(iss=["x"]),
    "issuer with a slash more": lambda us, _: sign(KEY, claims(us + "/")),
    "no subject": said(sub=None),
    "subject is no text": said(sub={"a": 1}),
    "subject with NUL": said(sub="a\0b"),
    "subject with half a character": said(sub="\ud800"),
    "ID token": said(nonce="n"),
    "logout token": said(events={}),
    "type is a list": said(typ=["Bearer"]),
    "bound to a key": said(cnf={"jkt": "x"}),
    "refresh token of Keycloak": said(typ="Refresh"),
    "none": lambda us, _: parts({"alg": "none", "typ": "JWT"}, claims(us), ""),
    "None with a signature": lambda us, _: parts({"alg": "None", "kid": "one"}, claims(us)),
    "HS256 with the public PEM": lambda us, _: hashed(public_pem(KEY), claims(us)),
    "HS256 with the public JWK": lambda us, _: hashed(json.dumps(public(KEY)), claims(us)),
    "HS256 with the modulus": lambda us, _: hashed(base64.urlsafe_b64decode(KEY["n"] + "=="), claims(us)),
    "kid of the other kind": lambda us, _: sign(KEY, claims(us), kid="two"),
    "kid and key of another issuer": lambda us, _: sign(OTHER_KEY, claims(us)),
    "issuer of another key": lambda _, other: sign(KEY, claims(other)),
    "kid is a path": header(kid="../../../../dev/null"),
    "kid is SQL": header(kid="' or 1=1 --"),
    "kid is a number": header(kid=1),
    "jku": header(jku="http://127.0.0.1/keys"),
    "jwk": lambda us, _: sign(STRANGE_KEY, claims(us), jwk=public(STRANGE_KEY)),
    "x5u": header(x5u="http://127.0.0.1/chain"),
    "x5c": header(x5c=["MIIB"]),
    "crit": header(crit=["exp"]),
    "b64": header(b64=False, crit=["b64"]),
    "zip": header(zip="DEF"),
    "nested": header(cty="JWT"),
    "type of something else": header(typ="secevent+jwt"),
    "JWE": lambda *_: ".".join([b64({"alg": "RSA-OAEP", "enc": "A256GCM"}), *["AAAA"] * 4]),
    "deep": lambda *_: parts({"alg": "RS256", "kid": "one"}, b"[" * 3000),
    "names twice": lambda us, _: parts(b'{"alg":"none","alg":"RS256"}', claims(us)),
    "not JSON": lambda *_: parts(b"hello", b"hello"),
    "JSON that is no object": lambda *_: parts([], []),
    "dots": lambda *_: "...",
    "two dots": lambda *_: "..",
    "not base64": lambda *_: "a!.b!.c!",
    "odd base64": lambda *_: "a.b.c",
    "unicode": lambda *_: "\xfc\xdf.\xe9\xe9.\xff",
    "UTF-16": lambda us, _: parts('{"alg":"RS256","kid":"one"}'.encode("utf-16"), claims(us)),
    "endpoint of ours": lambda *_: jws.sign({"iss": "localhost~space", "sub": "1"}, b"s" * 32, {"kid": "k"}),
}  # fmt: skip


def test_good_tokens_are_let_in(world: World) -> None:
    us = world.issuer.url
    for good in (
        sign(KEY, claims(us)),
        sign(EC_KEY, claims(us)),
        sign(KEY, claims(us, aud=["urn:other", AUDIENCE])),
        sign(KEY, claims(us, exp=int(time.time()) - 2)),  # within the leeway
        sign(KEY, claims(us, many=["x" * 4000])),
        sign(KEY, claims(us), typ="JWT"),
        sign(KEY, claims(us), typ="application/at+jwt"),
    ):
        status, headers, body = world.ask(good)
        assert (status, headers["x-vo-authenticated"]) == (200, "alice"), body


@pytest.mark.parametrize("kind", BAD)
def test_bad_tokens_are_refused(world: World, kind: str) -> None:
    status, headers, body = world.ask(BAD[kind](world.issuer.url, world.other.url))
    assert status == 401, body
    assert "x-vo-authenticated" not in headers
    challenges = headers.get_all("WWW-Authenticate") or []
    assert any(one.startswith("Bearer ") and 'error="invalid_token"' in one for one in challenges)
    assert len(body) < 400


def test_a_huge_token_is_no_request(world: World) -> None:
    assert world.ask(sign(KEY, claims(world.issuer.url, padding="x" * 9000)))[0] == 400


def test_challenges_say_where_tokens_are_to_be_had(world: World) -> None:
    _, headers, _ = world.ask(None)
    named = [
        one for one in headers.get_all("WWW-Authenticate") or [] if one.startswith("ivoa_bearer") and "OpenID" in one
    ]
    assert len(named) == 2
    assert f'discovery_url="{world.issuer.url}/.well-known/openid-configuration"' in named[0]


def test_unknown_kids_do_not_make_us_ask(world: World) -> None:
    us = world.issuer.url
    assert world.ask(sign(KEY, claims(us)))[0] == 200
    before = len(world.issuer.asked)
    for number in range(1000):
        assert world.ask(parts({"alg": "RS256", "kid": f"k{number}"}, claims(us)), "/protocols")[0] == 401
    assert len(world.issuer.asked) - before <= 2  # its discovery document and its keys, once
    assert world.ask(sign(KEY, claims(us)))[0] == 200


def test_keys_rotate(world: World) -> None:
    them, new = world.other.url, new_key("new")
    assert world.ask(sign(OTHER_KEY, claims(them, "rotating", scope="vos.read")), "/nodes")[0] == 200
    world.other.publish(new, OTHER_KEY)
    time.sleep(0.2)
    assert world.ask(sign(new, claims(them, "rotating", scope="vos.read")), "/nodes")[0] == 200
    # Two keys of one name: neither is believed, and the others serve on.
    world.other.publish(OTHER_KEY, new_key("twice"), new_key("twice"))
    time.sleep(0.2)
    assert world.ask(sign(new_key("twice"), claims(them, "rotating", scope="vos.read")), "/nodes")[0] == 401
    assert world.ask(sign(new, claims(them, "rotating", scope="vos.read", jti="2")), "/nodes")[0] == 401
    assert world.ask(sign(OTHER_KEY, claims(them, "rotating", scope="vos.read", jti="2")), "/nodes")[0] == 200


def test_whoever_is_not_linked_hears_what_to_do(world: World) -> None:
    us = world.issuer.url
    # Neither the name of a user here nor his address makes somebody else him.
    token = sign(KEY, claims(us, "mallory", preferred_username="alice", email="alice@example.org"))
    status, headers, body = world.ask(token)
    assert status == 403
    assert "x-vo-authenticated" not in headers
    assert "'; rm -rf $HOME'" in world.ask(sign(KEY, claims(us, "; rm -rf $HOME")))[2]
    assert f"pyvospace user link NAME --oidc {us} mallory" in body


def test_users_are_made_at_first_sight(world: World) -> None:
    them = world.other.url

    def come(subject: str, **more: Any) -> tuple[str, str]:
        token = sign(OTHER_KEY, claims(them, subject, scope="vos.read vos.write", **more))
        status, headers, body = world.ask(token, "/nodes/home")
        assert status == 200, body
        return headers["x-vo-authenticated"], token

    name, token = come("dora-1", preferred_username="dora")
    assert name == "dora"
    assert world.ask(token, "/nodes/home/dora")[0] == 200
    assert world.ask(None, "/nodes/home/dora")[0] == 401
    assert come("dora-1", preferred_username="somebody", jti="2")[0] == "dora"
    made = world.database(lambda database: database.fetch("select action, credential from audit where name = ''"))
    assert {("addUser", f"oidc {them} dora-1"), ("linkIdentity", f"oidc {them} dora-1")} <= {*map(tuple, made)}
    for subject, wanted in (
        ("x1", "dora"),
        ("x2", "ALICE"),
        ("x3", "admin"),
        ("x4", "../etc"),
        ("x5", 7),
        ("x6", "a\0"),
    ):
        derived, _ = come(subject, preferred_username=wanted)
        assert derived.startswith("u"), wanted
        assert len(derived) == 13
    # Nobody chooses the name that is derived for another one, who could not come in any more.
    derived = "u" + hashlib.sha256(f"{them}\nx8".encode()).hexdigest()[:12]
    assert come("x7", preferred_username=derived)[0] != derived
    assert come("x8")[0] == derived


def test_a_disabled_user_is_refused(world: World) -> None:
    them = world.other.url
    token = sign(OTHER_KEY, claims(them, "erin", preferred_username="erin", scope="vos.read vos.write"))
    assert world.ask(token, "/nodes/home/erin")[0] == 200
    world.database(lambda database: identities.change_user(database, "erin", disabled=True))
    assert world.ask(token, "/nodes/home/erin")[0] == 401


def test_an_unlinked_identity_is_refused_at_once(world: World) -> None:
    us = world.issuer.url
    identity = world.link("alice", us, "second")
    token = sign(KEY, claims(us, "second"))
    assert world.ask(token)[0] == 200
    world.database(lambda database: identities.remove_identity(database, "alice", identity))
    assert world.ask(token)[0] == 403


def test_scopes_narrow_rights(world: World) -> None:
    them = world.other.url
    node = (
        '<node xmlns="http://www.ivoa.net/xml/VOSpace/v2.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:type="ContainerNode" uri="vos://localhost~space/home/finn/%s"><properties/></node>'
    )

    def make(name: str, scope: str) -> int:
        token = sign(OTHER_KEY, claims(them, "finn", preferred_username="finn", scope=scope))
        return int(world.ask(token, f"/nodes/home/finn/{name}", "PUT", (node % name).encode())[0])

    assert make("a", "vos.read vos.write") == 201
    assert make("b", "vos.read") == 403
    assert make("c", "openid") == 403
    reader = sign(OTHER_KEY, claims(them, "finn", scope="vos.read"))
    assert world.ask(reader, "/nodes/home/finn/a")[0] == 200
    assert world.ask(sign(OTHER_KEY, claims(them, "finn", scope="vos.write")), "/nodes/home/finn/a")[0] == 403


def test_what_a_token_with_less_rights_does_not_see(world: World) -> None:
    """A job of a better token may hold an endpoint that writes."""
    them = world.other.url

    def token(scope: str) -> str:
        return sign(OTHER_KEY, claims(them, "olga", preferred_username="olga", scope=scope, jti=str(time.time_ns())))

    def make(with_token: str) -> str:
        body, kind = b"target=vos://localhost~space/home/olga", "application/x-www-form-urlencoded"
        status, _, told = world.ask(with_token, "/searches", "POST", body, kind)
        assert status == 200, told
        found = re.search(r"jobId>([0-9a-f]{40})<", told)
        assert found
        return found[1]

    full, reader = token("vos.read vos.write"), token("vos.read")
    assert world.ask(full, "/nodes/home/olga")[0] == 200
    good, less = make(full), make(reader)
    for seen, job, expected in (
        (reader, good, 403),
        (reader, less, 200),
        (token("vos.read"), less, 200),
        (token("vos.write"), less, 403),
        (full, good, 200),
        (full, less, 200),
    ):
        assert world.ask(seen, f"/searches/{job}")[0] == expected
        assert (job in world.ask(seen, "/searches")[2]) == (expected == 200)


def test_opaque_tokens_are_asked_about(world: World) -> None:
    them = world.other
    good = claims(them.url, "gwen", preferred_username="gwen", scope="vos.read vos.write", active=True)
    them.active = {
        "good": good,
        "elsewhere": {**good, "aud": "urn:other"},
        "nobody": {**good, "sub": None},
        "expired": {**good, "exp": int(time.time()) - 60},
        "endless": {**good, "exp": None},
        "bound": {**good, "cnf": {"jkt": "x"}},
        "listed": {**good, "token_type": ["Bearer"], "typ": {}},
        "silly": {**good, "active": "true"},
    }
    assert world.ask("good", "/nodes/home/gwen")[1]["x-vo-authenticated"] == "gwen"
    for bad in ("elsewhere", "nobody", "expired", "endless", "bound", "listed", "silly", "unknown"):
        assert world.ask(bad, "/nodes")[0] == 401, bad
    before = len(them.asked)
    for _ in range(3):
        assert world.ask("unknown", "/nodes")[0] == 401
        assert world.ask("good", "/nodes")[0] == 200
        assert world.ask("ab" * 32, "/nodes")[0] == 401  # looks like a token of ours: nobody is told about it
    assert len(them.asked) == before


def test_groups_come_with_the_token(world: World) -> None:
    us = world.issuer.url
    world.pair.add_user("hugo")
    world.link("hugo", us, "hugo")
    body = (
        '<node xmlns="http://www.ivoa.net/xml/VOSpace/v2.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:type="ContainerNode" uri="vos://localhost~space/home/alice%s"><properties>'
        f'<property uri="ivo://ivoa.net/vospace/core#groupread">{GROUPS}survey/deep</property></properties></node>'
    )
    assert world.ask(world.pair.token, "/nodes/home/alice", "POST", (body % "").encode())[0] == 200
    made = int(time.time())

    def may(told: int, groups: object) -> bool:
        status = world.ask(sign(KEY, claims(us, "hugo", iat=told, groups=groups)))[0]
        assert status in {200, 403}
        return bool(status == 200)

    assert not may(made - 50, None)
    assert may(made - 40, ["other", "/survey/deep"])
    assert may(made - 45, [])  # an older token does not take back what a newer one says
    assert world.ask(world.pair.token_for("hugo"))[0] == 200  # and with another credential he is the same
    assert not may(made - 30, ["survey"])
    assert not may(made - 40, ["/survey/deep"])  # nor does it bring back old groups
    for odd in ("no list", 7, [7], {"a": 1}, ["x" * 300, "a b", "a,b", ""], ["ivo://localhost/space/gms?staff"]):
        made += 1
        assert not may(made - 30, odd)


@pytest.fixture(scope="module")
def real(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Provider]]:
    directory = tmp_path_factory.mktemp("provider")
    with running_provider(directory, [new_key("first")]) as provider, postgres_server.clone() as name:
        told = trust(
            provider.url,
            provision=True,
            groups_claim="groups",
            group_prefix=GROUPS,
            client_id="space",
            client_secret="space secret/1",
            refetch=0.1,
            renew=0.5,
        )
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_OIDC": json.dumps([told])}
        with running_pair(dsn, directory, storage_dsn=storage_dsn, environment=environment) as pair:
            yield World(pair, None, None), provider  # type: ignore[arg-type]


def test_real_provider(real: tuple[World, Provider]) -> None:
    world, provider = real
    provider.know("rita", preferred_username="rita")
    tokens = provider.person("rita")
    assert world.ask(tokens["access_token"], "/nodes/home/rita")[1]["x-vo-authenticated"] == "rita"
    assert world.ask(tokens["id_token"], "/nodes")[0] == 401
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "native"}
    assert world.ask(provider.tokens(form)["access_token"], "/nodes/home/rita")[0] == 200
    assert world.ask(tokens["refresh_token"], "/nodes")[0] == 401
    assert world.ask(provider.robot(), "/nodes")[1]["x-vo-authenticated"].startswith("u")  # it says no name
    opaque = provider.person("rita", resource=f"{AUDIENCE}:opaque")["access_token"]
    assert "." not in opaque
    assert world.ask(opaque, "/nodes/home/rita")[0] == 200
    assert world.ask(opaque[:-1] + "x", "/nodes")[0] == 401


def test_vos_takes_a_token_of_the_provider(real: tuple[World, Provider], tmp_path: Path) -> None:
    world, provider = real
    provider.know("vera", preferred_username="vera")
    token = provider.person("vera")["access_token"]
    machine = Machine(tmp_path / "home", world.pair.url, world.pair.authority, token)
    machine.home.mkdir()
    machine.connect()
    (machine.home / "a.txt").write_text("from vos\n")
    home = f"vos://{world.pair.authority.replace('~', '!')}/home/vera"
    assert world.ask(token, "/nodes/home/vera")[0] == 200  # makes her a user
    machine.vos("vmkdir", f"{home}/data")
    machine.vos("vcp", "a.txt", f"{home}/data/a.txt")
    machine.vos("vcp", f"{home}/data/a.txt", "back.txt")
    assert (machine.home / "back.txt").read_text() == "from vos\n"
    assert "a.txt" in machine.vos("vls", f"{home}/data").out
    replace(machine, token=token[:-8] + "AAAAAAAA").vos("vls", f"{home}/data", code=13)


def test_groups_of_a_token_count_at_storage_servers(real: tuple[World, Provider], tmp_path: Path) -> None:
    world, provider = real
    provider.know("wim", preferred_username="wim", groups=["team"])
    member = Machine(tmp_path / "home", world.pair.url, world.pair.authority, provider.person("wim")["access_token"])
    member.home.mkdir()
    member.connect()
    (member.home / "a.txt").write_text("for the team\n")
    home = f"vos://{world.pair.authority.replace('~', '!')}/home/alice"
    replace(member, token=world.pair.token).vos("vcp", "a.txt", f"{home}/a.txt")
    for path in ("", "/a.txt"):
        uri, kind = f"vos://localhost~space/home/alice{path}", "DataNode" if path else "ContainerNode"
        body = node_document("", kind, uri=uri, properties={GROUP_READ: f"{GROUPS}team"}).encode()
        assert world.ask(world.pair.token, f"/nodes/home/alice{path}", "POST", body)[0] == 200
    member.vos("vcp", f"{home}/a.txt", "b.txt")
    assert (member.home / "b.txt").read_text() == "for the team\n"


def test_keys_of_the_real_provider_rotate_and_outlive_it(real: tuple[World, Provider]) -> None:
    world, provider = real
    old = provider.robot()
    assert world.ask(old, "/nodes")[0] == 200
    provider.stop()
    provider.keys = [new_key("second", "ES256"), *provider.keys]
    provider.start()
    new = provider.robot()
    assert world.ask(new, "/nodes")[0] == 200
    assert world.ask(old, "/nodes")[0] == 200
    provider.stop()
    time.sleep(0.6)
    # It is away, its keys are old: they serve on, also for tokens that nobody has shown yet.
    signed = sign(provider.keys[0], claims(provider.url, "robot"))
    assert world.ask(signed, "/nodes")[0] == 200
    assert world.ask(sign(new_key("third"), claims(provider.url, "robot")), "/nodes")[0] == 401
    assert world.ask("opaque", "/nodes")[0] == 503
    gone = sign(provider.keys.pop(), claims(provider.url, "robot"))
    provider.start()
    world.ask(sign(provider.keys[0], claims(provider.url, "robot", jti="1")), "/nodes")
    time.sleep(0.6)
    assert world.ask(sign(provider.keys[0], claims(provider.url, "robot", jti="2")), "/nodes")[0] == 200
    assert world.ask(gone, "/nodes")[0] == 401
