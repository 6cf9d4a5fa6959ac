"""Every route asks the policy or is on the list of those that need not; who forgets to ask gets no answer out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pyvospace.config import Settings
from pyvospace.config.settings import LogSettings
from pyvospace.db import identities
from pyvospace.db.bootstrap import add_user, set_up
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.server.administration.table import ROUTES
from pyvospace.server.app import make_app
from pyvospace.server.handlers.requests import CONTEXT
from pyvospace.server.policy import Policy
from tests.support.agents import node_document, transfer_document, uri_of

SECRET = "/home/alice/secret"
JOB = "JOB"
USERS = ("alice", "bea", "nobody")

PUBLIC = {
    # What the service tells of itself is the same for everybody.
    ("GET", "/capabilities"),
    ("GET", "/availability"),
    ("GET", "/protocols"),
    ("GET", "/views"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
}
"""Routes whose answer does not depend on who asks."""

TELLS_EACH_HIS_OWN = {("GET", "/properties")}
"""Routes that ask, and give to each what he may know."""

TELLS_EACH_OF_HIMSELF = {("GET", "/permissions")}
"""Routes that say to each what he may: that he may not is no refusal."""

LISTS = {
    "transfers": transfer_document(SECRET, "pullFromVoSpace", [CORE + "httpsget"]),
    "searches": f"target={uri_of('/home/alice')}",
    "async-delete": f"target={uri_of(SECRET)}",
    "async-setprops": node_document(SECRET, properties={}),
    "recalls": f"target={uri_of(SECRET)}",
}
"""Lists of jobs, with a request that makes one."""

ABOUT_GROUPS = {("GET", "/gms/search"), ("GET", "/gms/search/{group}")}
"""Routes that tell whoever is logged in what groups he is in."""

LOGINS = {("GET", "/login"), ("POST", "/login"), ("DELETE", "/login")}
"""Routes that make whoever shows a password somebody, or nobody again."""

OF_TOKENS = {
    ("GET", "/profile/tokens"): None,
    ("POST", "/profile/tokens"): '{"name": "x"}',
    ("DELETE", "/profile/tokens/{token}"): None,
}
"""Routes about the tokens of whoever is logged in, with a body."""

OF_JSON = {(route.method, route.path) for route in ROUTES}
"""Routes of administration, of groups and of the profile: what each needs stands in their own table (test_admin.py)."""

AUDIT = {("GET", "/audit")}
"""Routes that tell whoever is logged in who has done what to his nodes."""

JOB_LISTS = {("GET", f"/{name}") for name in LISTS}
"""Routes that show to each who is logged in what is his."""

JOB_MAKERS = {("POST", f"/{name}") for name in LISTS} | {("POST", "/pkg")}
"""Routes that only note what somebody wants: whether he may is seen when it is done."""

AT_THE_ROOT = {("GET", "/nodes"): 200, ("GET", "/entries"): 200, ("GET", "/files"): 400, ("GET", "/versions"): 400}
"""The root is public, and holds no bytes."""

DOCUMENT = node_document(SECRET, properties={})
PULL = transfer_document(SECRET, "pullFromVoSpace", [CORE + "httpsget"])
QUERY = f"TARGET={uri_of(SECRET)}&DIRECTION=pullFromVoSpace&PROTOCOL={CORE.replace('#', '%23')}httpsget"

# Route: path and body of a request about what is alice's.
REQUESTS: dict[tuple[str, str], tuple[str, str | None]] = {
    ("GET", "/nodes"): ("", None),
    ("PUT", "/nodes"): ("", node_document("", "ContainerNode")),
    ("POST", "/nodes"): ("", node_document("", "ContainerNode", properties={"urn:x": "y"})),
    ("DELETE", "/nodes"): ("", None),
    ("GET", "/nodes/{path}"): (SECRET, None),
    ("PUT", "/nodes/{path}"): (SECRET, DOCUMENT),
    ("POST", "/nodes/{path}"): (SECRET, DOCUMENT),
    ("DELETE", "/nodes/{path}"): (SECRET, None),
    ("GET", "/files"): ("", None),
    ("PUT", "/files"): ("", ""),
    ("GET", "/files/{path}"): (SECRET, None),
    ("PUT", "/files/{path}"): (SECRET, "x"),
    ("GET", "/entries"): ("", None),
    ("GET", "/entries/{path}"): (SECRET, None),
    ("GET", "/versions"): ("", None),
    ("POST", "/versions"): ("", "number=1"),
    ("DELETE", "/versions"): ("?number=1", None),
    ("GET", "/versions/{path}"): (SECRET, None),
    ("POST", "/versions/{path}"): (SECRET, "number=1"),
    ("DELETE", "/versions/{path}"): (f"{SECRET}?number=1", None),
    ("GET", "/synctrans"): (f"?{QUERY}", None),
    ("POST", "/synctrans"): ("", PULL),
    ("GET", "/search"): (f"?target={uri_of('/home/alice')}", None),
    ("POST", "/availability"): ("", "state=Offline"),
    ("GET", "/pkg/{job}/run"): (JOB, None),
    ("GET", "/transfers/{job}/results/transferDetails"): (JOB, None),
    ("GET", "/searches/{job}/results/searchDetails"): (JOB, None),
    **{
        (method, f"/{name}/{{job}}{more}"): (JOB, body)
        for name in LISTS
        for method, more, body in (
            ("GET", "", None),
            ("POST", "", "PHASE=ABORT"),
            ("DELETE", "", None),
            ("GET", "/{part}", None),
            ("POST", "/{part}", "PHASE=ABORT"),
        )
    },
}


@dataclass
class Asked:
    """What a request asked the policy."""

    epochs: int = 0
    exempted: int = 0


@dataclass
class World:
    """The application in this process, with somebody's secret in it."""

    app: web.Application
    database: Database
    tokens: dict[str, str]
    client: TestClient[web.Request, web.Application]
    asked: Asked = field(default_factory=Asked)
    location: str = ""
    """Where the last answer led."""

    async def send(
        self, user: str, method: str, path: str, body: str | None = None, content_type: str = "text/xml"
    ) -> tuple[int, str, Asked]:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"} if user in self.tokens else {}
        if body is not None:
            headers["Content-Type"] = content_type
        self.asked = Asked()
        async with self.client.request(method, path, data=body, headers=headers, allow_redirects=False) as response:
            self.location = response.headers.get("Location", "")
            return response.status, await response.text(), self.asked

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        check_epoch, exempt = Policy.check_epoch, Policy.exempt

        def watched_check(policy: Policy, epoch: int) -> None:
            self.asked.epochs += 1
            check_epoch(policy, epoch)

        def watched_exempt(policy: Policy) -> None:
            self.asked.exempted += 1
            exempt(policy)

        patch.setattr(Policy, "check_epoch", watched_check)
        patch.setattr(Policy, "exempt", watched_exempt)


async def _forgetful_text(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"secret of {request[CONTEXT].caller.name}")


async def _forgetful_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"secret")
    return response


async def _forgetful_redirect(_: web.Request) -> web.StreamResponse:
    return web.Response(status=303, headers={"Location": "http://localhost/secret"})


@pytest.fixture
async def world(
    database: Database, database_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    await set_up(database, authority="localhost~space", group_prefixes=["ivo://localhost/space/gms?"])
    tokens = {}
    for name in ("alice", "bea"):
        await add_user(database, name)
        tokens[name] = f"token-of-{name}"
        await identities.add_token(database, name, "test", hashlib.sha256(tokens[name].encode()).digest(), None)
    app = make_app(database_settings.model_copy(update={"log": LogSettings(level="error")}), database)
    for handler in (_forgetful_text, _forgetful_stream, _forgetful_redirect):
        app.router.add_get(f"/{handler.__name__}", handler)
    async with TestClient(TestServer(app)) as client:
        made = World(app, database, tokens, client)
        status, text, _ = await made.send("alice", "PUT", f"/nodes{SECRET}", DOCUMENT)
        assert status == 201, text
        made.watch(monkeypatch)
        yield made


def routes(app: web.Application) -> set[tuple[str, str]]:
    """Give method and path of every route; HEAD has the handler of GET."""
    found = set()
    for route in app.router.routes():
        assert route.resource is not None
        if route.method != "HEAD" and not route.resource.canonical.startswith("/_forgetful"):
            found.add((route.method, route.resource.canonical))
    return found


async def test_every_route_is_known_here(world: World) -> None:
    """A new route is to be added to one of the tables above, and so is tested below."""
    assert (
        routes(world.app)
        == REQUESTS.keys()
        | PUBLIC
        | TELLS_EACH_HIS_OWN
        | JOB_LISTS
        | JOB_MAKERS
        | ABOUT_GROUPS
        | TELLS_EACH_OF_HIMSELF
        | LOGINS
        | OF_TOKENS.keys()
        | OF_JSON
        | AUDIT
    )


async def test_administration_is_for_administrators(world: World) -> None:
    """Of the audit log and of groups each sees what is his own."""
    for method, path in sorted(OF_JSON | AUDIT):
        url = re.sub(r"\{\w+\}", "1", path)
        for user in ("nobody", "bea"):
            status, text, asked = await world.send(user, method, url, "{}", "application/json")
            expected = {401} if user == "nobody" else {403} if path.startswith("/admin/") else {200, 400, 403, 404}
            assert status in expected, (user, method, path, text)
            assert asked.epochs or user == "nobody" or status == 400, (method, path)
            assert "secret" not in text


async def new_job(world: World, name: str) -> str:
    """Make a job of alice in a list; give its id."""
    body = LISTS[name]
    status, text, _ = await world.send("alice", "POST", f"/{name}", body, type_of(body))
    assert status == 303, text
    return world.location.rpartition("/")[2]


def type_of(body: str | None) -> str:
    """Say what a body is."""
    return "text/xml" if body is None or body.startswith("<") else "application/x-www-form-urlencoded"


def url_of(route: tuple[str, str], job: str) -> str:
    """Fill in the path of a route."""
    where, _ = REQUESTS[route]
    path = route[1].replace("/{path}", where if route[1].endswith("{path}") else "")
    path = path.replace("{job}", job).replace("{part}", "results" if route[0] == "GET" else "phase")
    return path + where if where.startswith("?") else path


async def test_routes_ask(world: World) -> None:
    jobs = {name: await new_job(world, name) for name in LISTS}
    for route, (_, body) in REQUESTS.items():
        job = jobs.get(route[1].split("/")[1], jobs["transfers"])
        for user in ("bea", "nobody"):
            status, text, asked = await world.send(user, route[0], url_of(route, job), body, type_of(body))
            # A denied transfer by document is a job that says so.
            denied_job = (user, *route) == ("bea", "POST", "/synctrans")
            assert asked.epochs or "{job}" in route[1], f"{route}: nobody was asked"
            assert not asked.exempted or denied_job, route
            expected = {"nobody": 401, "bea": 303 if denied_job else 403}[user]
            assert status == AT_THE_ROOT.get(route, expected), (route, text)
            assert "secret" not in text.replace(SECRET, "")


async def test_lists_show_to_each_his_own_jobs(world: World) -> None:
    for name in LISTS:
        job = await new_job(world, name)
        for user, expected in (("alice", 200), ("bea", 200), ("nobody", 401)):
            status, text, _ = await world.send(user, "GET", f"/{name}")
            assert (status, job in text) == (expected, user == "alice"), text


async def test_groups_are_told_to_whoever_is_logged_in(world: World) -> None:
    for _, path in ABOUT_GROUPS:
        for user, expected in (("bea", {200, 404}), ("nobody", {401})):
            status, _, asked = await world.send(user, "GET", path.replace("{group}", "staff"))
            assert status in expected
            assert asked.epochs or user == "nobody"


async def test_logins_want_a_password_and_tokens_belong_to_somebody(world: World) -> None:
    for route in LOGINS:
        assert {(await world.send(user, *route))[0] for user in ("alice", "nobody")} <= {204, 400, 401}
    for (method, path), body in OF_TOKENS.items():
        where = path.replace("{token}", "1")  # of alice, who has logged out by now
        statuses = [(await world.send(user, method, where, body))[0] for user in ("alice", "bea", "nobody")]
        assert statuses == [401, {"GET": 200, "POST": 201, "DELETE": 404}[method], 401]


async def test_public_routes_say_so(world: World) -> None:
    for route in PUBLIC | TELLS_EACH_HIS_OWN:
        answers = set()
        for user in USERS:
            status, text, asked = await world.send(user, *route)
            assert status == 200
            assert bool(asked.exempted) == (route in PUBLIC)
            assert asked.epochs or user == "nobody", f"{route}: he may have changed meanwhile"
            answers.add(text)
        assert len(answers) == 1, "the secret node has no properties yet"


async def test_everybody_is_told_of_himself(world: World) -> None:
    for route in TELLS_EACH_OF_HIMSELF:
        for user in USERS:
            status, text, asked = await world.send(user, route[0], f"{route[1]}?target={uri_of(SECRET)}")
            assert status == 200
            assert asked.epochs
            assert not asked.exempted
            assert ('"rule": "owner"' in text) == (user == "alice")


async def test_who_forgets_to_ask_gets_no_answer_out(world: World) -> None:
    for handler in (_forgetful_text, _forgetful_stream, _forgetful_redirect):
        for user in USERS:
            headers = {"Authorization": f"Bearer {world.tokens[user]}"} if user in world.tokens else {}
            url = f"/{handler.__name__}"
            async with world.client.get(url, headers=headers, allow_redirects=False) as response:
                text = await response.text()
                assert response.status == 500
                assert text.startswith("InternalFault")
                assert "secret" not in text
                assert "Location" not in response.headers


async def test_properties_tells_each_his_own(world: World) -> None:
    await world.send("alice", "POST", f"/nodes{SECRET}", node_document(SECRET, properties={"urn:secret:x": "1"}))
    for user in USERS:
        _, text, _ = await world.send(user, "GET", "/properties")
        assert ("urn:secret:x" in text) == (user == "alice")


async def test_rules_are_asked_in_the_database_too(world: World) -> None:
    """Between the question and the change somebody takes the right away: the statement itself finds out."""
    taken = False

    async def take(*_: object) -> None:
        nonlocal taken
        if not taken:
            taken = True
            await world.database.fetch("update nodes set owner_id = 1 where name = 'secret'")

    original = Policy.require

    def require(policy: Policy, *args: object, **options: object) -> object:
        found = original(policy, *args, **options)  # type: ignore[arg-type]
        pending.append(take)
        return found

    pending: list[Callable[..., object]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "require", require)
        fetchrow = Database.fetchrow

        async def late(database: Database, *args: object, **options: object) -> object:
            while pending:
                await pending.pop()()  # type: ignore[misc]
            return await fetchrow(database, *args, **options)  # type: ignore[arg-type]

        patch.setattr(Database, "fetchrow", late)
        document = node_document(SECRET, properties={"urn:x": "late"})
        status, _, _ = await world.send("alice", "POST", f"/nodes{SECRET}", document)
    assert taken
    assert status == 403
    rows = await world.database.fetch("select properties from nodes where name = 'secret'")
    assert rows[0]["properties"] == "{}"
