"""No secret that comes in anywhere leaves by a log, at the most talkative level (T8, T22)."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import node_document, transfer_document
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.strategies import examples

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
XML = {"Content-Type": "text/xml"}


@pytest.fixture(scope="module", params=["text", "json"])
def talkative(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Both servers, which log all that they can."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_LOG__LEVEL": "debug", "PYVOSPACE_LOG__FORMAT": request.param}
        folder = tmp_path_factory.mktemp("talkative")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


def basic(password: str) -> str:
    return base64.b64encode(f"alice:{password}".encode()).decode()


def jwt(secret: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    claims = base64.urlsafe_b64encode(json.dumps({"sub": secret}).encode()).decode().rstrip("=")
    return f"{head}.{claims}.{secret}"


Request = tuple[str, str, str | None, dict[str, str]]
Channel = Callable[[Pair, str], Request]
PASSWORDS: dict[str, Channel] = {
    "basic": lambda _, s: ("GET", "/nodes", None, {"Authorization": f"Basic {basic(s)}"}),
    "bearer": lambda _, s: ("GET", "/nodes", None, {"Authorization": f"Bearer {quote(s, safe='')}"}),
    "unknown scheme": lambda _, s: ("GET", "/nodes", None, {"Authorization": f"Negotiate {quote(s, safe='')}"}),
    "cookie": lambda _, s: ("GET", "/nodes", None, {"Cookie": f"session={quote(s, safe='')}"}),
    "delegation": lambda _, s: ("GET", "/nodes", None, {"X-CADC-DelegationToken": quote(s, safe="")}),
    "bearer of sso": lambda _, s: ("GET", "/nodes", None, {"X-VO-Bearer": quote(s, safe="")}),
    "proxy": lambda _, s: ("GET", "/nodes", None, {"X-Proxy-Secret": quote(s, safe="")}),
    "query": lambda _, s: ("GET", f"/nodes?password={quote_plus(s)}&access_token={quote(s, safe='')}", None, {}),
    "query without name": lambda _, s: ("GET", f"/nodes?{quote(s, safe='')}", None, {}),
    "url in a query": lambda _, s: ("GET", f"/synctrans?TARGET=x&VIEW={quote_plus(far(s))}", None, {}),
    "url in a form": lambda _, s: ("POST", "/synctrans", f"TARGET={quote_plus(far(s))}&DIRECTION=x", FORM),
    "login": lambda _, s: ("POST", "/login", f"username=alice&password={quote_plus(s)}", FORM),
    "property": lambda p, s: (
        "PUT", f"/nodes{p.home}/x", node_document(f"{p.home}/x", properties={"ivo://x/y#z": far(s)}), XML,
    ),
    "endpoint of a transfer": lambda p, s: (
        "POST", "/transfers", with_endpoint(transfer_document(f"{p.home}/y", "pullToVoSpace", ["x"]), far(s)), XML,
    ),
    "target of a transfer": lambda _, s: ("POST", "/synctrans", transfer_document("", "x", ["y"], target=far(s)), XML),
    "no document": lambda _, s: ("POST", "/synctrans", f"<password>{quote(s)}", XML),
    "method": lambda _, s: ("DELETE", f"/transfers/{'0' * 40}?secret={quote(s, safe='')}", None, {}),
}  # fmt: skip
TOKENS: dict[str, Channel] = {
    "bearer": lambda _, s: ("GET", "/nodes", None, {"Authorization": f"Bearer {s}"}),
    "name": lambda p, s: ("GET", f"/nodes{p.home}/{s}", None, {}),
    "endpoint": lambda _, s: ("GET", f"/files/{s}/x", None, {}),
    "endpoint for writing": lambda _, s: ("PUT", f"/files/{s}/x", "bytes", {}),
    "encoded endpoint": lambda _, s: ("GET", f"/files/{s.replace('.', '%2E')}/x", None, {}),
    "query": lambda _, s: ("GET", f"/nodes?uri={s}&{s}", None, {}),
}


def far(secret: str) -> str:
    return f"https://user:{quote(secret, safe='')}@elsewhere.example/x"


def with_endpoint(document: str, url: str) -> str:
    return document.replace('<protocol uri="x">', f'<protocol uri="x"><endpoint>{url}</endpoint>')


def send(pair: Pair, request: Request) -> None:
    """Send it to both servers, with the token of the user if it has no credential of its own."""
    method, path, body, headers = request
    for port in (pair.port, pair.storage_port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, body, {"Authorization": f"Bearer {pair.token}", **headers})
        response = connection.getresponse()
        response.read()
        assert response.status != 500, request
        connection.close()


def forms(secret: str) -> set[str]:
    """Give what would tell a secret to whoever reads a log."""
    return {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), basic(secret), json.dumps(secret)[1:-1]}


CHARACTERS = st.characters(min_codepoint=33, max_codepoint=126)


def test_no_secret_is_logged(talkative: Pair) -> None:
    given_away: set[str] = {talkative.token}

    @given(st.sampled_from(sorted(PASSWORDS)), st.text(CHARACTERS, min_size=1, max_size=20))
    @settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
    def passwords(channel: str, text: str) -> None:
        secret = f"{secrets.token_hex(4)}{text}{secrets.token_hex(4)}"
        given_away.update(forms(secret))
        send(talkative, PASSWORDS[channel](talkative, secret))

    @given(st.sampled_from(sorted(TOKENS)), st.booleans())
    @settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
    def tokens(channel: str, signed: Any) -> None:
        secret = jwt(secrets.token_hex(8)) if signed else secrets.token_hex(32)
        given_away.update({secret, secret.rpartition(".")[2]})
        send(talkative, TOKENS[channel](talkative, secret))

    passwords()
    tokens()
    time.sleep(1)  # lines of the access log gather for a while
    for server in ("metadata", "storage"):
        log = talkative.log(server)
        assert log.count("\n") > 100
        for secret in given_away:
            place = log.find(secret)
            assert place < 0, log[max(place - 300, 0) : place + 100]
        assert "Traceback" not in log
