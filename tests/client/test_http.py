from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from yarl import URL

from pyvospace.client import ServiceUnreachable, Space
from pyvospace.client.http import shown
from pyvospace.model.faults import (
    Fault,
    InternalFault,
    NodeNotFound,
    NotAuthenticated,
    PermissionDenied,
    TransferFailed,
)
from pyvospace.model.nodes import Node
from pyvospace.model.vocabulary import NodeType
from tests.client.double import QUICK, ROOT, TOKEN, Double, answers, redirects


def credentials(double: Double) -> dict[str, set[str | None]]:
    """Give which credentials came to each of the two origins."""
    return {
        "service": {one.headers.get("Authorization") for one in double.service.seen},
        "storage": {one.headers.get("Authorization") for one in double.storage.seen},
    }


async def test_the_token_goes_to_the_service_and_endpoints_get_none(double: Double) -> None:
    async with double.space() as space:
        await space.push(b"bytes", "vos:x")
        assert b"".join([piece async for piece in space.read("vos:x")]) == b"bytes"
    assert credentials(double) == {"service": {f"Bearer {TOKEN}"}, "storage": {None}}


async def test_a_redirect_does_not_take_the_token_elsewhere(double: Double) -> None:
    double.storage.usual = answers(401, "NotAuthenticated who are you")
    async with double.space() as space:
        await space.authority()
        double.service.plan = [redirects(double.storage.url("/nodes/x"))]
        with pytest.raises(NotAuthenticated, match="is not sent to"):
            await space.get_node("vos:x")
    assert credentials(double)["storage"] == {None}


async def test_a_job_elsewhere_does_not_get_the_token(double: Double) -> None:
    double.storage.usual = answers(404, "NotFound")
    async with double.space() as space:
        await space.authority()
        double.service.plan = [redirects(double.storage.url("/transfers/1/results/transferDetails"), 303)]
        with pytest.raises(Fault):
            await space.push(b"bytes", "vos:x")
    assert credentials(double)["storage"] == {None}


async def test_nodes_on_another_origin_do_not_get_the_token(double: Double) -> None:
    async def elsewhere(request: object) -> object:
        return double.capabilities(double.storage.url())

    double.service.plan = [elsewhere]  # type: ignore[list-item]
    double.storage.usual = answers(401, "NotAuthenticated")
    async with double.space(authority=ROOT.authority) as space:
        with pytest.raises(NotAuthenticated, match="is not sent to"):
            await space.create_node(Node(ROOT.child("x"), NodeType.CONTAINER))
    assert credentials(double)["storage"] == {None}


async def test_a_redirect_within_the_service_keeps_the_token(double: Double) -> None:
    double.service.plan = [redirects("/capabilities")]
    async with double.space() as space:
        await space.authority()
    assert credentials(double)["service"] == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/", "gopher:x", "http://[::1"])
async def test_redirects_lead_to_the_web_alone(double: Double, location: str) -> None:
    double.service.plan = [redirects(location)]
    async with double.space() as space:
        with pytest.raises(TransferFailed):
            await space.authority()


async def test_redirects_end(double: Double) -> None:
    double.service.usual = redirects("/capabilities")
    async with double.space() as space:
        with pytest.raises(TransferFailed, match="redirects"):
            await space.authority()


async def test_basic_and_anonymous(double: Double) -> None:
    async with double.space(token=None, user="alice", password="secret") as space:
        await space.authority()
    assert credentials(double)["service"] == {"Basic YWxpY2U6c2VjcmV0"}
    double.service.seen.clear()
    async with double.space(token=None) as space:
        await space.authority()
    assert credentials(double)["service"] == {None}


@pytest.mark.parametrize(
    ("status", "text", "fault", "detail"),
    [
        (403, "PermissionDenied vos://x/y\n", PermissionDenied, "vos://x/y"),
        (403, "PermissionDenied: as OpenCADC writes it", PermissionDenied, "as OpenCADC writes it"),
        (401, "", NotAuthenticated, "HTTP status 401"),
        (500, "InternalFault\nTraceback of somebody", InternalFault, ""),
        (403, "PermissionDenied \x1b]0;owned\x07 \x1b[2J", PermissionDenied, "\ufffd]0;owned\ufffd \ufffd[2J"),
    ],
)
async def test_faults_come_back_as_the_classes_they_are(
    double: Double, status: int, text: str, fault: type[Fault], detail: str
) -> None:
    double.service.plan = [answers(status, text)]
    async with double.space() as space:
        with pytest.raises(fault) as failure:
            await space.authority()
    assert type(failure.value) is fault
    assert failure.value.detail == detail


async def test_the_page_of_a_proxy_says_nothing(double: Double) -> None:
    double.service.plan = [answers(403, "<html><body>blocked</body></html>", Content_Type="text/html")]
    async with double.space() as space:
        with pytest.raises(PermissionDenied, match="HTTP status 403"):
            await space.authority()


async def test_a_proxy_that_is_not_there_is_named(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with double.space() as space:
        with pytest.raises(ServiceUnreachable, match=r"through the proxy 127\.0\.0\.1:1 of the environment") as failure:
            await space.authority()
    assert "secret" not in str(failure.value)


def test_secrets_are_not_shown() -> None:
    assert shown(URL("http://host:81/base/files/eyJ.secret.token/a%20b")) == "http://host:81/…/a b"
    assert shown(URL("http://user:pw@host/nodes/x?token=secret")) == "http://host/nodes/x"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[Double]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    double = Double()
    await double.start(context)
    yield double
    await double.stop()


async def test_tls_with_a_certificate_of_ones_own(secure: Double, ca_file: Path) -> None:
    async with secure.space(ca_file=ca_file) as space:
        await space.push(b"bytes", "vos:x")
    assert secure.content == b"bytes"


async def test_tls_with_the_variable_of_openssl(secure: Double, ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    async with secure.space() as space:
        await space.authority()


async def test_a_stranger_is_not_trusted_nor_asked_again(secure: Double) -> None:
    async with secure.space() as space:
        with pytest.raises(ServiceUnreachable, match="certificate") as failure:
            await space.authority()
    assert failure.value.permanent
    assert secure.service.seen == []


async def test_certificates_that_are_none(double: Double, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    async with double.space(ca_file=tmp_path / "ca.pem") as space:
        with pytest.raises(ServiceUnreachable, match=r"ca\.pem"):
            await space.authority()


async def test_a_service_with_tls_is_not_given_bytes_without(secure: Double, ca_file: Path, double: Double) -> None:
    secure.endpoint = double.storage.url("/files/a-token/name")
    async with secure.space(ca_file=ca_file) as space:
        with pytest.raises(Fault):
            await space.push(b"bytes", "vos:x")
    assert double.storage.seen == []


async def test_a_name_that_is_nowhere() -> None:
    async with Space("http://no-such-host.invalid", retry=QUICK) as space:
        with pytest.raises(ServiceUnreachable) as failure:
            await space.authority()
    assert not failure.value.sent


async def test_connections_are_used_again(double: Double) -> None:
    double.service.plan = [redirects("/capabilities")]
    async with double.space() as space:
        for _ in range(3):
            await space.push(b"bytes", "vos:x")
            assert b"".join([piece async for piece in space.read("vos:x")]) == b"bytes"
            with pytest.raises(NodeNotFound):
                await space.get_node("vos:missing")
    for server in (double.service, double.storage):
        assert len({one.peer for one in server.seen}) == 1
