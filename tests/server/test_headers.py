"""The headers of every answer of both servers, and pages of other origins (T12 to T14)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pyvospace.config import Settings
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import Direction
from pyvospace.server.app import make_app
from pyvospace.service.headers import ALWAYS
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.server.conftest import Space
from tests.storage.serving import make_settings
from tests.storage.serving import serving as serving_storage
from tests.support.agents import Agent
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.raw import talk

PORTAL = "https://portal.example.org"
_GAPS = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")


def routes(app: web.Application) -> Iterator[tuple[str, str]]:
    """Give method and path of every route, with something in the place of what varies."""
    for route in app.router.routes():
        if route.resource is not None:
            yield route.method, _GAPS.sub("x", route.resource.canonical)


def assert_dressed(headers: Mapping[str, str], path: str) -> None:
    for name, value in ALWAYS.items():
        if name == "Cache-Control":
            assert headers[name] in {value, "private, no-cache"}, path
        elif name == "Content-Security-Policy":
            assert headers[name] in {value, "default-src 'none'; sandbox"}, path
        else:
            assert headers[name] == value, path
    assert headers["Server"] == "pyvospace"
    assert headers["X-Request-Id"]
    assert not [name for name in headers if name.lower() in {"x-powered-by", "access-control-allow-origin"}]
    if "Content-Disposition" not in headers:
        assert not headers.get("Content-Type", "").startswith("text/html")


@pytest.fixture(scope="module")
def passer_by(pair: Pair) -> str:
    """The token of somebody who asks for everything, the end of his token included."""
    return pair.add_user("passer-by")


@pytest.mark.parametrize("known", [True, False])
async def test_every_route_of_the_metadata_server(
    space: Space, database: Database, database_settings: Settings, passer_by: str, *, known: bool
) -> None:
    agent = Agent(space.session, space.pair, passer_by if known else None)
    asked = sorted(set(routes(make_app(database_settings, database))))
    assert len(asked) > 40
    for method, path in [*asked, ("GET", "/no/such"), ("PATCH", "/nodes"), ("OPTIONS", "/nodes")]:
        answer = await agent.send(method, path, checked=False)
        assert_dressed(answer.headers, f"{method} {path}")
        assert answer.headers["Vary"] == "Accept, Authorization"


async def test_every_way_to_bytes(alice: Agent, folder: str, pair: Pair) -> None:
    """Bytes are nobody's page: no script runs, and only what holds none is shown."""
    await alice.put(f"{folder}/page.html")
    await alice.push(f"{folder}/page.html", b"<script>alert(1)</script>", Content_Type="text/html")
    _, endpoint = await alice.negotiate(f"{folder}/page.html", Direction.PULL_FROM_VOSPACE)
    anybody = Agent(alice.session, pair, None)
    for method in ("GET", "HEAD"):
        answer = await anybody.send(method, endpoint, checked=False)
        assert answer.status == 200
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    storage = endpoint.split("/files/")[0]
    for method in ("GET", "HEAD", "PUT", "POST", "OPTIONS"):
        for url in (endpoint, f"{storage}/files/forged/x", f"{storage}/livez", f"{storage}/readyz", f"{storage}/x"):
            async with alice.session.request(method, url) as response:
                assert_dressed(response.headers, f"{method} {url}")


async def test_what_is_no_request(pair: Pair) -> None:
    for port in (pair.port, pair.storage_port):
        answer = await talk(port, b"this is no HTTP\r\n\r\n")
        assert answer.status == 400
        for name, value in ALWAYS.items():
            assert answer.headers[name.lower()] == value


@pytest.fixture(scope="module")
def open_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both servers, for pages of the portal."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_CORS__ORIGINS": PORTAL}
        folder = tmp_path_factory.mktemp("cors")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def preflight(origin: str, method: str, *headers: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": ", ".join(headers),
        "Access-Control-Request-Private-Network": "true",
    }


async def test_a_page_of_the_portal(open_pair: Pair, session: aiohttp.ClientSession) -> None:
    """It asks before it asks, sees what it needs of answers and faults, and brings bytes to the storage server."""
    agent = Agent(session, open_pair, open_pair.token)
    for path in ("/nodes/home", "/synctrans", "/nodes/home/somebody/secret"):
        asked = await agent.send(
            "OPTIONS", path, headers=preflight(PORTAL, "PUT", "authorization", "content-type"), checked=False
        )
        assert asked.status == 204
        assert asked.headers["Access-Control-Allow-Origin"] == PORTAL
        assert "PUT" in asked.headers["Access-Control-Allow-Methods"]
        assert {"authorization", "if-none-match"} <= set(
            asked.headers["Access-Control-Allow-Headers"].lower().split(", ")
        )
        assert asked.headers["Access-Control-Allow-Private-Network"] == "true"
        assert "X-VO-Authenticated" not in asked.headers
    for path, status in ((f"/nodes{open_pair.home}", 200), (f"/nodes{open_pair.home}/none", 404), ("/no/such", 404)):
        answer = await agent.send("GET", path, headers={"Origin": PORTAL}, checked=False)
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == PORTAL
        assert {"Location", "Digest", "X-Request-Id", "X-VO-Authenticated"} <= set(
            answer.headers["Access-Control-Expose-Headers"].split(", ")
        )
        assert "Origin" in answer.headers["Vary"].split(", ")
        assert "Access-Control-Allow-Credentials" not in answer.headers
    await agent.put(f"{open_pair.home}/x")
    _, endpoint = await agent.negotiate(f"{open_pair.home}/x", Direction.PUSH_TO_VOSPACE)
    for origin in (PORTAL, "null"):  # sent on from another origin, a browser keeps it to itself
        async with session.options(endpoint, headers=preflight(origin, "PUT", "content-type", "digest")) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "Digest" in response.headers["Access-Control-Allow-Headers"]
    async with session.put(endpoint, data=b"x", headers={"Origin": PORTAL}) as response:
        assert response.status == 201
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Digest" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", PORTAL + ".evil.example", PORTAL.upper(), ""])
async def test_other_pages(open_pair: Pair, session: aiohttp.ClientSession, origin: str) -> None:
    agent = Agent(session, open_pair, open_pair.token)
    for method, headers in (("OPTIONS", preflight(origin, "GET")), ("GET", {"Origin": origin})):
        answer = await agent.send(method, f"/nodes{open_pair.home}", headers=headers, checked=False)
        assert not [name for name in answer.headers if name.startswith("Access-Control-")]


async def test_no_page_may_unless_the_operator_says_so(alice: Agent, tmp_path: Path) -> None:
    answer = await alice.send("OPTIONS", "/nodes", headers=preflight(PORTAL, "GET"), checked=False)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("Access-Control-")]
    async with serving_storage(make_settings(tmp_path)) as server:
        assert "access-control-allow-origin" not in (await server.get(headers={"Origin": PORTAL})).headers
