"""The edge: each failure becomes the right answer, and a defect tells nothing (R-FAULT, T23)."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pyvospace.config.settings import LogSettings, ServerSettings
from pyvospace.model.faults import FAULTS, Fault, LinkFound, NotAuthenticated, ServiceBusy
from pyvospace.service.faults import edge, render, render_unasked
from pyvospace.service.headers import dress, fixed
from pyvospace.service.logs import AccessLog


async def answer_to(error: BaseException) -> tuple[int, dict[str, list[str]], str]:
    """Give the answer to a request whose handler raises."""

    async def handler(_: web.Request) -> web.StreamResponse:
        raise error

    app = web.Application(
        middlewares=[
            edge(
                AccessLog(LogSettings(level="error")),
                challenges=lambda invalid: [f"Bearer {invalid}", "Basic"],
                describe=lambda fault: "\n<link/>" if isinstance(fault, LinkFound) else "",
            )
        ]
    )
    app.router.add_get("/", handler)
    dress(app, ServerSettings(), vary=(), cors=None)
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        headers = {name.lower(): response.headers.getall(name) for name in response.headers}
        return response.status, headers, await response.text()


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_every_fault(name: str) -> None:
    kind: type[Fault] = FAULTS[name]
    status, headers, text = await answer_to(kind("some details"))
    assert status == kind.status
    assert headers["content-type"] == ["text/plain"]
    assert text.startswith(f"{name} some details\n")
    assert headers["x-request-id"]
    assert headers["x-content-type-options"] == ["nosniff"]
    assert headers["server"] == ["pyvospace"]


async def test_headers_of_some() -> None:
    assert (await answer_to(ServiceBusy("x", retry_after=7)))[1]["retry-after"] == ["7"]
    for invalid in (True, False):
        _, headers, _ = await answer_to(NotAuthenticated("x", invalid=invalid))
        assert headers["www-authenticate"] == [f"Bearer {invalid}", "Basic"]
    assert (await answer_to(LinkFound("x")))[2] == "LinkFound x\n<link/>\n"


async def test_defect_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    status, headers, text = await answer_to(ValueError("secret in /var/lib"))
    assert status == 500
    assert text.startswith("InternalFault ")
    assert "secret" not in text
    assert headers["x-request-id"][0] in text
    assert "secret in /var/lib" in caplog.text


async def test_long_details_are_cut() -> None:
    _, _, text = await answer_to(Fault("x" * 100_000))
    assert len(text) < 5000


async def test_details_that_are_no_unicode() -> None:
    status, _, text = await answer_to(FAULTS["NodeNotFound"]("a\udcffb"))
    assert (status, text) == (404, "NodeNotFound a?b\n")


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (web.HTTPNotFound(), 404, "NotFound"),
        (web.HTTPBadRequest(reason="no"), 400, "InvalidArgument"),
        (web.HTTPRequestEntityTooLarge(1, 2), 413, "RequestEntityTooLarge"),
        (web.HTTPMethodNotAllowed("PUT", {"GET"}), 405, "MethodNotAllowed"),
        (web.HTTPTeapot() if hasattr(web, "HTTPTeapot") else web.HTTPGone(), 400, "InvalidArgument"),
    ],
)
async def test_what_aiohttp_raises(error: web.HTTPException, status: int, name: str) -> None:
    got, headers, text = await answer_to(error)
    assert (got, text.split()[0]) == (status, name)
    if status == 405:
        assert headers["allow"] == ["GET"]


def test_answers_without_a_request() -> None:
    response = render_unasked(FAULTS["InvalidArgument"]("x"), fixed(ServerSettings()))
    assert response.headers["X-Request-Id"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.keep_alive is False
    assert render(FAULTS["NodeNotFound"]("/x")).body == b"NodeNotFound /x\n"
