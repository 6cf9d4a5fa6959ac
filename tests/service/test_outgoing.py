"""The guarded client: where it goes, where it does not, and what travels along."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import ValidationError
from yarl import URL

from pyvospace.config import Settings
from pyvospace.model.faults import InvalidArgument, TransferFailed
from pyvospace.service.outgoing import BrokenOffError, Outgoing, is_public, parse_url, shown, translated
from tests.support.remote import LOOPBACK, remote


class Names(AbstractResolver):
    """A DNS that says what a test wants; each question gets the next answer, the last one for ever."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): [given.split() for given in many] for name, many in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        self.asked.append(host)
        many = self.answers.get(host.lower())
        if not many:
            raise OSError(f"no {host}")
        addresses = many.pop(0) if len(many) > 1 else many[0]
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in addresses
        ]

    async def close(self) -> None:
        pass


def settings(*allow: str, **outgoing: Any) -> Settings:
    return Settings.model_validate({"outgoing": {"ports": ("1-65535",), "allow": allow, **outgoing}})


async def get(client: Outgoing, url: str) -> tuple[int, bytes]:
    parsed = parse_url(url)
    async with client.request("GET", parsed, headers={}) as response:
        with translated(parsed):
            return response.status, await response.read()


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path_qs, **request.headers})


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1",
        "192.0.0.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "2001:0:1::1", "2001:db8::1",
        "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_of_a_special_purpose_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "193.2.1.1", "2606:4700::1111", "2a02:2f0::1"])
def test_other_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x", "file:///etc/passwd", "gopher://host:70/", "//host/x", "host/x", "http://", "http:///x",
        "http://host:99999/", "http://host:0/", "http://ho st/", "http://host\\@other/", "http://host/\r\nX: y",
        "http://[::1/x", "http://host/" + "x" * 9000,
    ],
)  # fmt: skip
def test_what_is_no_url_of_http_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_url(url)
    assert "host/" not in str(caught.value)


def test_a_url_stays_as_written_and_is_shown_without_its_secrets() -> None:
    text = "https://me:geheim@host/a%2Fb/%7Ec?sig=a%2Bb%3D&x=+"
    assert str(parse_url(text + "#part")) == text
    assert shown(parse_url(text)) == "https://host"


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
                                 "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://127.1:{port}/",
                                 "http://localhost:{port}/", "http://0:{port}/"])  # fmt: skip
async def test_no_spelling_of_this_machine_is_reached(url: str) -> None:
    async with remote(echo) as server, Outgoing(settings()) as client:
        with pytest.raises(TransferFailed):
            await get(client, url.format(port=server.port))


async def test_a_name_with_one_private_address_is_refused() -> None:
    names = Names(mixed_example=["8.8.8.8 10.0.0.1"])
    async with Outgoing(settings(), resolver=names) as client:
        with pytest.raises(TransferFailed, match=r"mixed\.example is not at a public address") as caught:
            await get(client, "http://mixed.example/")
    assert "10.0.0.1" not in str(caught.value)


async def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    # A name that means something else at each question (DNS rebinding) is asked for once for each connection.
    names = Names(rebound_example=["127.0.0.2", "169.254.169.254"])
    async with remote(echo) as server, Outgoing(settings(LOOPBACK), resolver=names) as client:
        with pytest.raises(TransferFailed, match="no connection"):
            await get(client, f"http://rebound.example:{server.port}/")
        assert names.asked.count("rebound.example") == 1
        with pytest.raises(TransferFailed, match="not at a public address"):
            await get(client, f"http://rebound.example:{server.port}/")


async def test_own_public_addresses_are_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", dict)
    ours = settings().model_copy(
        update={"metadata": settings().metadata.model_copy(update={"public_url": "https://space.example"})}
    )
    names = Names(space_example=["193.2.1.1"], alias_example=["193.2.1.1"])
    async with Outgoing(ours, resolver=names) as client:
        with pytest.raises(TransferFailed, match=r"alias\.example is not at a public address"):
            await get(client, "https://alias.example/")


async def test_what_the_operator_allows_is_reached_by_name_and_network() -> None:
    names = Names(inner_example=["127.0.0.1"], other_example=["127.0.0.1"])
    async with remote(echo) as server, Outgoing(settings("inner.example"), resolver=names) as client:
        status, _ = await get(client, f"http://INNER.example:{server.port}/x")
        assert status == 200
        with pytest.raises(TransferFailed, match="not at a public address"):
            await get(client, f"http://other.example:{server.port}/x")


async def test_names_that_the_system_knows() -> None:
    async with remote(echo) as server, Outgoing(settings("localhost")) as client:
        assert (await get(client, f"http://localhost:{server.port}/x"))[0] == 200
        with pytest.raises(TransferFailed, match="the name is not known"):
            await get(client, "http://nowhere.invalid/")


@pytest.mark.parametrize("host", ["a..b", "...", "x" * 64 + ".example"])
async def test_what_can_be_no_name_is_not_known(host: str) -> None:
    async with Outgoing(settings()) as client:
        with pytest.raises(TransferFailed, match="the name is not known"):
            await get(client, f"http://{host}/")


async def test_certificates_are_checked_and_tls_is_never_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def handler(request: web.Request) -> web.Response:
        down = {"Location": f"http://127.0.0.1:{request.url.port}/x"}
        return web.Response(status=302, headers=down) if request.path == "/down" else await echo(request)

    async with remote(handler, tls=context) as server:
        url = f"https://127.0.0.1:{server.port}/x"
        async with Outgoing(settings(LOOPBACK)) as client:
            with pytest.raises(TransferFailed, match="its certificate is not trusted"):
                await get(client, url)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with Outgoing(settings(LOOPBACK)) as client:
            assert (await get(client, url))[0] == 200
            with pytest.raises(TransferFailed, match="from https to http"):
                await get(client, url.replace("/x", "/down"))


async def test_ports_that_are_not_listed_are_refused() -> None:
    async with Outgoing(settings(LOOPBACK, ports=("80", "8000-8999"))) as client:
        with pytest.raises(InvalidArgument, match="no requests to port 22"):
            await get(client, "http://127.0.0.1:22/")


@pytest.mark.parametrize("wrong", [{"ports": "http"}, {"ports": "0"}, {"ports": "9-1"}, {"allow": "10.0.0.1/8"},
                                   {"allow": "http://host"}])  # fmt: skip
def test_settings_that_say_nothing_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"outgoing": wrong})


async def test_nothing_of_ours_travels_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with remote(echo) as server, Outgoing(settings(LOOPBACK)) as client:
        _, body = await get(client, f"http://127.0.0.1:{server.port}/a%2Fb?c=%2B")
    assert b"/a%2Fb?c=%2B" in body
    assert b"Authorization" not in body
    assert b"Cookie" not in body


async def test_redirects_are_looked_at_and_get_no_credential() -> None:
    seen: list[tuple[str, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        where = {
            "/near": "/end",
            "/private": "http://10.0.0.1/",
            "/scheme": "file:///etc/passwd",
            "/round": "/round",
            "/userinfo": f"http://a:b@127.0.0.1:{request.url.port}/end",
        }
        if request.path in where:
            return web.Response(status=302, headers={"Location": where[request.path], "Set-Cookie": "a=b"})
        return web.Response(text=request.headers.get("Cookie", "none"))

    async with remote(handler) as server, Outgoing(settings(LOOPBACK)) as client:
        base = f"http://me:geheim@127.0.0.1:{server.port}"
        assert await get(client, base + "/near") == (200, b"none")
        assert seen == [("/near", "Basic bWU6Z2VoZWlt"), ("/end", None)]
        assert (await get(client, base + "/userinfo"))[0] == 200
        assert seen[-1] == ("/end", None)
        for path, words in {"/private": "10.0.0.1 is not at", "/scheme": "no URL", "/round": "more than 3"}.items():
            with pytest.raises(TransferFailed, match=words) as caught:
                await get(client, base + path)
            assert "geheim" not in str(caught.value)
        assert [path for path, _ in seen].count("/round") == 4


async def test_failures_are_told_in_words_without_secrets() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        if request.path == "/cut":
            await response.write(b"some")
            assert request.transport is not None
            request.transport.abort()
        else:
            await asyncio.sleep(5)
        return response

    async with remote(handler) as server, Outgoing(settings(LOOPBACK, idle_timeout=0.3), resolver=Names()) as client:
        for path in ("/cut", "/silent"):
            with pytest.raises(BrokenOffError) as caught:
                await get(client, f"http://127.0.0.1:{server.port}{path}?token=geheim")
            assert "geheim" not in str(caught.value)
        with pytest.raises(TransferFailed, match="the name is not known"):
            await get(client, "http://nowhere.example/")


async def test_head_that_comes_byte_by_byte_is_given_up() -> None:
    async def drip(request: web.Request) -> web.Response:
        assert request.transport is not None
        for byte in b"HTTP/1.1 204 No Content\r\nX: " + b"x" * 100 + b"\r\n\r\n":
            request.transport.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return web.Response()

    slow = settings(LOOPBACK, connect_timeout=0.2, idle_timeout=0.5)
    async with remote(drip) as server, Outgoing(slow) as client:
        with pytest.raises(BrokenOffError, match="nothing came for too long"):
            await get(client, f"http://127.0.0.1:{server.port}/")


async def test_bytes_are_sent_again_to_where_a_redirect_leads() -> None:
    got: list[bytes] = []

    async def handler(request: web.Request) -> web.Response:
        got.append(await request.read())
        if request.path == "/door":
            return web.Response(status=307, headers={"Location": "/pool"})
        return web.Response(status=303 if request.path == "/see" else 201, headers={"Location": "/x"})

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async with remote(handler) as server, Outgoing(settings(LOOPBACK)) as client:
        for path, status in {"/door": 201, "/see": 303}.items():
            url = URL(f"http://127.0.0.1:{server.port}{path}")
            async with client.request("PUT", url, headers={"Content-Length": "6"}, body=body) as response:
                assert response.status == status
    assert got == [b"abcdef"] * 3
