"""Proxies in front of the servers: whose word about a client is believed, and the address of the client.

A proxy is believed if it comes from an address that the operator names and, if there is a secret, brings that. What
anybody else says in a header of a proxy is read by nobody.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from pyvospace.config.credentials import ProxySettings

FORWARDED: Final = "X-Forwarded-For"
_MAPPED: Final = "::ffff:"
"""What an address of IPv4 begins with at a socket for both."""
_HOPS: Final = 20
"""Addresses of one chain that are looked at; longer ones are a client's invention."""


class Proxies:
    """The proxies that the operator trusts."""

    def __init__(self, settings: ProxySettings) -> None:
        self._networks = tuple(map(ip_network, settings.trusted))
        self._secret = settings.secret.get_secret_value().encode() if settings.secret else None
        self._secret_header = settings.secret_header

    @classmethod
    def install(cls, app: web.Application, settings: ProxySettings) -> None:
        """Make an application know its proxies."""
        app[PROXIES] = cls(settings)

    def has(self, peer: str) -> bool:
        """Say whether connections from an address are those of a proxy of ours."""
        address = _address(peer) if self._networks else None
        return address is not None and self._is_ours(address)

    def address(self, request: web.BaseRequest) -> str:
        """Give the address of the client: the last of the chain that is none of our proxies."""
        peer = _plain(request.remote or "")
        if not self._networks or not self._believed(request, peer):
            return peer
        chain = ",".join(request.headers.getall(FORWARDED, ())).split(",")
        client = peer
        for text in reversed(chain[-_HOPS:]):
            address = _address(text)
            if address is None:  # what stands before it is nobody's word
                break
            client = str(address)
            if not self._is_ours(address):
                break
        return client

    def header(self, request: web.BaseRequest, name: str) -> str | None:
        """Give a header in which a proxy says who the client is; None: nobody who may say so has.

        An address can be forged by whoever stands in the same network: here the proxy has to know the secret.
        """
        if self._secret is None or not self._believed(request, _plain(request.remote or "")):
            return None
        said = request.headers.getall(name, ())
        return said[0] if len(said) == 1 else None

    def carries(self, request: web.BaseRequest) -> bool:
        """Say whether a request comes through one of them, which may do something with the answer."""
        return bool(self._networks) and self._believed(request, _plain(request.remote or ""))

    def _believed(self, request: web.BaseRequest, peer: str) -> bool:
        address = _address(peer)
        if address is None or not self._is_ours(address):
            return False
        if self._secret is None:
            return True
        shown = request.headers.get(self._secret_header, "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(shown, self._secret)

    def _is_ours(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


_ADDRESS: Final = web.RequestKey("address", str)
PROXIES: Final[web.AppKey[Proxies]] = web.AppKey("proxies", Proxies)


def client_address(request: web.BaseRequest) -> str:
    """Give the address from which a request comes, seen through trusted proxies; empty if there is none."""
    try:
        return request[_ADDRESS]
    except KeyError:
        proxies = request.app.get(PROXIES) if isinstance(request, web.Request) else None
        found = proxies.address(request) if proxies is not None else _plain(request.remote or "")
        request[_ADDRESS] = found
        return found


@lru_cache(maxsize=10_000)
def client_network(address: str) -> str:
    """Give what stands for one client: an address of IPv4, or the network of 64 bits of one of IPv6."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, 64), strict=False))
    return address


def proxy_header(request: web.Request, name: str) -> str | None:
    """Give what a trusted proxy says about the client; None: nothing, or somebody else says it."""
    proxies = request.app.get(PROXIES)
    return proxies.header(request, name) if proxies is not None else None


def _plain(address: str) -> str:
    """Write an address of IPv4 the one way."""
    return address[len(_MAPPED) :] if address.startswith(_MAPPED) and "." in address else address


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address as proxies write it, also with a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ip_address(_plain(text.partition("%")[0]))
    except ValueError:
        return None
