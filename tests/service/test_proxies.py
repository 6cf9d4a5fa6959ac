"""Whose word about a client is believed (T7)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.config.credentials import ProxySettings
from pyvospace.service.proxies import Proxies, client_address, proxy_header

SECRET = "a secret between us and the proxy"
NOBODY: dict[str, object] = {}
TRUSTED: dict[str, object] = {"trusted": ("10.0.0.0/8", "fd00::/8")}


def asked(peer: str, *headers: tuple[str, str], proxies: Mapping[str, object] | None = None) -> web.Request:
    app = web.Application()
    if proxies is not None:
        Proxies.install(app, ProxySettings.model_validate(proxies))
    request = make_mocked_request("GET", "/", headers=None, app=app)
    return request.clone(headers=headers, remote=peer) if headers else request.clone(remote=peer)


@pytest.mark.parametrize(
    ("peer", "chain", "expected"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # anybody may send the header
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.1.2.3", ["198.51.100.7"], "198.51.100.7"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.7, 10.9.9.9"], "198.51.100.7"),  # the client itself said 1.1.1.1
        ("10.1.2.3", ["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
        ("10.1.2.3", ["198.51.100.7:4711"], "198.51.100.7"),
        ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.1.2.3", ["1.1.1.1, unknown, 10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", ["1.1.1.1, "], "10.1.2.3"),
        ("10.1.2.3", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_address(peer: str, chain: list[str], expected: str) -> None:
    headers = [("X-Forwarded-For", one) for one in chain]
    assert client_address(asked(peer, *headers, proxies=TRUSTED)) == expected


def test_nobody_is_believed_unless_named() -> None:
    for proxies in (NOBODY, None):
        request = asked("10.1.2.3", ("X-Forwarded-For", "198.51.100.7"), proxies=proxies)
        assert client_address(request) == "10.1.2.3"
        assert proxy_header(request, "X-Forwarded-For") is None


def test_a_proxy_without_the_secret_is_not_believed() -> None:
    chain = ("X-Forwarded-For", "198.51.100.7")
    settings = {**TRUSTED, "secret": SECRET}
    for headers in ([], [("X-Proxy-Secret", "a guess")], [("X-Proxy-Secret", "é")]):
        request = asked("10.1.2.3", chain, *headers, proxies=settings)
        assert client_address(request) == "10.1.2.3"
        assert proxy_header(request, "X-Forwarded-For") is None
    request = asked("10.1.2.3", chain, ("X-Proxy-Secret", SECRET), proxies=settings)
    assert client_address(request) == "198.51.100.7"


def test_who_a_client_is_says_only_a_proxy_with_the_secret_and_once() -> None:
    name, secret = ("X-Name", "CN=alice"), ("X-Proxy-Secret", SECRET)
    known = {**TRUSTED, "secret": SECRET}
    assert proxy_header(asked("10.1.2.3", name, secret, proxies=known), "X-Name") == "CN=alice"
    assert proxy_header(asked("10.1.2.3", name, name, secret, proxies=known), "X-Name") is None
    assert proxy_header(asked("10.1.2.3", name, proxies=known), "X-Name") is None
    assert proxy_header(asked("192.0.2.1", name, secret, proxies=known), "X-Name") is None
    assert proxy_header(asked("10.1.2.3", name, secret, proxies=TRUSTED), "X-Name") is None


@given(st.lists(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=200), max_size=5))
def test_any_chain_is_an_address(chain: list[str]) -> None:
    headers = [("X-Forwarded-For", one) for one in chain]
    address = client_address(asked("10.1.2.3", *headers, proxies=TRUSTED))
    assert set(address) <= set("0123456789abcdef:.")
