"""Groups of an IVOA group membership service: one pair asks another, and one whose answers are made up (I29)."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import GROUP_READ
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import node_document
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.provider import AUDIENCE, MadeUpIssuer, claims, new_key, sign

KEY = new_key("one")
THEIRS, ODD = "ivo://there.example.org/gms?", "ivo://odd.example.org/gms?"
CACHE = 0.3


@dataclass
class Spaces:
    """A space that asks for groups, one that has them, and who makes tokens for both."""

    here: Pair
    there: Pair
    issuer: MadeUpIssuer
    odd: MadeUpIssuer

    def token(self, subject: str, **changes: Any) -> str:
        """Make a token that nobody has seen."""
        return sign(KEY, claims(self.issuer.url, subject, jti=str(time.monotonic_ns()), **changes))


def ask(pair: Pair, token: str | None, path: str, body: str | None = None) -> tuple[int, str]:
    headers = {"Content-Type": "text/xml"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else body.encode()
    try:
        answer: Any = urllib.request.urlopen(urllib.request.Request(pair.url + path, data, headers), timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read().decode()


def change(pair: Pair, *, link: str = "", user: str = "", group: str = "", add: bool = True) -> None:
    """Link a user, or change a group."""

    async def work() -> None:
        database = await Database.connect(pair.dsn, pair.database)
        try:
            if link:
                await identities.add_identity(database, user, "oidc", link, user)
            elif user:
                await identities.change_member(database, group, user, add=add)
            else:
                await identities.add_group(database, group)
        finally:
            await database.close()

    asyncio.run(work())


@pytest.fixture(scope="module")
def spaces(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spaces]:
    issuer, odd = MadeUpIssuer([KEY]), MadeUpIssuer([])
    trust = {"PYVOSPACE_OIDC": json.dumps([{"issuer": issuer.url, "audience": [AUDIENCE], "plain_http": True}])}
    with ExitStack() as stack:

        def run(name: str, environment: dict[str, str]) -> Pair:
            database = stack.enter_context(postgres_server.clone())
            dsn, storage_dsn = postgres_server.dsn(database), postgres_server.dsn(database, STORAGE_ROLE)
            directory = tmp_path_factory.mktemp(name)
            return stack.enter_context(
                running_pair(
                    dsn, directory, storage_dsn=storage_dsn, environment=environment, authority=f"{name}~space"
                )
            )

        there = run("there", trust)
        asked = ((f"{there.url}/gms/search", THEIRS), (f"{odd.url}/search", ODD))
        services = [
            {"url": url, "prefixes": [prefix], "issuers": [issuer.url], "cache": CACHE, "plain_http": True}
            for url, prefix in asked
        ]
        here = run("here", trust | {"PYVOSPACE_GMS": json.dumps(services)})
        for pair in (there, here):
            for name in ("ann", "ben"):
                pair.add_user(name)
                change(pair, link=issuer.url, user=name)
        for name in ("survey", "other"):
            change(there, group=name)
        change(there, group="survey", user="ann")
        uri, readers = "vos://here~space/home/alice", {GROUP_READ: f"{THEIRS}survey {ODD}team"}
        home = node_document("", "ContainerNode", uri=uri, properties=readers)
        assert ask(here, here.token, "/nodes/home/alice", home)[0] == HTTPStatus.OK
        yield Spaces(here, there, issuer, odd)
    issuer.close()
    odd.close()


def test_groups_are_told_to_their_members(spaces: Spaces) -> None:
    ann, ben = spaces.token("ann"), spaces.token("ben")
    assert ask(spaces.there, ann, "/gms/search") == (200, "survey\n")
    assert ask(spaces.there, ben, "/gms/search") == (200, "")
    assert ask(spaces.there, ann, "/gms/search?group=other&group=survey&group=nothing") == (200, "survey\n")
    assert ask(spaces.there, ann, "/gms/search?group=other") == (200, "")
    assert ask(spaces.there, ann, "/gms/search/survey") == (200, "survey\n")
    for missing in ("other", "nothing", "%00", "a%2Fb"):
        status, body = ask(spaces.there, ann, f"/gms/search/{missing}")
        assert (status, body) == (404, "NotFound you are in no such group\n")
    assert ask(spaces.there, None, "/gms/search")[0] == 401
    assert "ivo://ivoa.net/std/GMS#search-1.0" in ask(spaces.there, None, "/capabilities")[1]


def test_groups_of_another_space_count(spaces: Spaces) -> None:
    ann = spaces.token("ann")
    assert ask(spaces.here, ann, "/nodes/home/alice")[0] == 200
    assert ask(spaces.here, spaces.token("ben"), "/nodes/home/alice")[0] == 403
    assert ask(spaces.here, spaces.here.token_for("ann"), "/nodes/home/alice")[0] == 200  # while the answer holds
    change(spaces.there, group="survey", user="ann", add=False)
    time.sleep(CACHE)
    assert ask(spaces.here, ann, "/nodes/home/alice")[0] == 403
    change(spaces.there, group="survey", user="ann")
    time.sleep(CACHE)
    assert ask(spaces.here, ann, "/nodes/home/alice")[0] == 200


ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "no list": (200, b"<html>log in here</html>", {}),
    "one of them is none": (200, b"team\nnot a name\n", {}),
    "groups of others": (200, f"{ODD}team\n{THEIRS}survey\n".encode(), {}),
    "not UTF-8": (200, b"team\n\xff\xfe\n", {}),
    "too many": (200, b"".join(b"team%d\n" % number for number in range(1001)) + b"team\n", {}),
    "error": (500, b"team\n", {}),
    "not for you": (403, b"team\n", {}),
    "another place": (302, b"team\n", {"Location": "/elsewhere"}),
    "too large": (200, b"team\n" * 100_000, {}),
}


def test_what_is_no_list_of_groups_gives_nothing(spaces: Spaces) -> None:
    spaces.odd.answers["/elsewhere"] = (200, b"team\n", {})
    for good in (b"other\nteam\n", b"\r\nteam\r\n", f"{ODD}team".encode()):
        spaces.odd.answers["/search"] = (200, good, {})
        time.sleep(CACHE)
        assert ask(spaces.here, spaces.token("ben"), "/nodes/home/alice")[0] == 200, good
    for kind, answer in ANSWERS.items():
        spaces.odd.answers["/search"] = answer
        time.sleep(CACHE)
        ben = spaces.token("ben")
        assert ask(spaces.here, ben, "/nodes/home/alice")[0] == 403, kind
        assert ask(spaces.here, ben, "/nodes/home/ben")[0] == 200
    # What one user makes the service answer keeps no group from anybody.
    spaces.odd.answers["/search"] = (200, b"team\n", {})
    time.sleep(CACHE)
    assert ask(spaces.here, spaces.token("ben"), "/nodes/home/alice")[0] == 200


def test_a_service_that_is_away_gives_nothing(spaces: Spaces) -> None:
    ann = spaces.token("ann")
    spaces.odd.answers.pop("/search")
    spaces.there.kill("metadata")
    try:
        time.sleep(CACHE)
        assert ask(spaces.here, ann, "/nodes/home/alice")[0] == 403
        assert ask(spaces.here, ann, "/nodes/home/ann")[0] == 200
    finally:
        spaces.there.start("metadata")
