"""Requests to where users say: the one client that goes to addresses which we did not choose.

A user who names a URL borrows the network position of the server: it reaches what he cannot. So a request goes to
public addresses only, or to what the operator allows (``[outgoing]``). A name is asked for once for each connection,
all of its addresses must be fit, and the connection goes to one of these; redirects are looked at in the same way.
Nothing that is ours travels along: no cookie, no proxy of the environment, no credential but that of the URL itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import psutil
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pyvospace import __version__
from pyvospace.config.kinds import network_of, port_range
from pyvospace.model.faults import InvalidArgument, TransferFailed
from pyvospace.service.once import HiddenError, send_once

if TYPE_CHECKING:
    from pyvospace.config import Settings
    from pyvospace.config.settings import OutgoingSettings

log = logging.getLogger(__name__)

IPAddress = IPv4Address | IPv6Address
Body = Callable[[], AsyncIterable[bytes]]
"""What is sent; made anew after a redirect."""

_SCHEMES: Final = frozenset({"http", "https"})
_HOPS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 307, 308})
_LONGEST_URL: Final = 8000
_OWN_FOR: Final = 60.0
"""Seconds for which our own addresses are remembered."""
_RESOLVERS: Final = 8
_WITH_ZONE: Final = 4
"""Length of an address of IPv6 as the system gives it."""
_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo and other special purposes
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)
"""What Python (3.11) takes for public among `_UNICAST`; mapped and translated addresses lie outside of that."""
_RELAYS: Final = IPv4Network("192.88.99.0/24")
"""From IPv4 to 6to4."""


def parse_url(text: str) -> URL:
    """Read a URL that a user names, exactly as he wrote it.

    Raises
    ------
    InvalidArgument
        It is no URL for HTTP. The text is not repeated: it may hold a password.
    """
    if len(text) > _LONGEST_URL or "\\" in text or not text.isprintable() or " " in text:
        raise InvalidArgument("an endpoint is no URL: it is too long, or has characters that no URL has")
    try:
        url = URL(text, encoded=text.isascii())
        port = url.port
    except ValueError:
        raise InvalidArgument("an endpoint is no URL") from None
    if url.scheme not in _SCHEMES or not url.raw_host or not port:
        raise InvalidArgument("an endpoint is no URL that begins with http:// or https:// and names a host")
    return url.with_fragment(None)


def shown(url: URL) -> str:
    """Write a URL for messages: only where it leads, since path, query and user may be secrets."""
    return str(url.origin())


def is_public(address: IPAddress) -> bool:
    """Say whether anybody may reach an address: none that is mapped, translated, or of a special purpose."""
    if isinstance(address, IPv6Address):
        special = address not in _UNICAST or any(address in one for one in _NOT_PUBLIC)
    else:
        special = address in _RELAYS
    return address.is_global and not (special or address.is_multicast or address.is_reserved)


def check_port(url: URL, ports: Iterable[str]) -> None:
    """Refuse a URL whose port is none of those that the operator allows.

    Raises
    ------
    InvalidArgument
        It is not.
    """
    if not any(first <= (url.port or 0) <= last for first, last in map(port_range, ports)):
        raise InvalidArgument(f"{shown(url)}: this service sends no requests to port {url.port}")


class Rules:
    """What the operator says about the hosts to which requests may go.

    Parameters
    ----------
    own
        Gives the addresses that are ours.
    """

    def __init__(self, settings: OutgoingSettings, own: Callable[[], Awaitable[frozenset[IPAddress]]]) -> None:
        self._networks = [network for text in settings.allow if (network := network_of(text))]
        self._hosts = {text.lower() for text in settings.allow if network_of(text) is None}
        self._own = own

    async def check(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a host unless every one of its addresses is fit.

        Raises
        ------
        TransferFailed
            One is not. Which, and what it is, stays untold: it would draw a map of our network.
        """
        if host.rstrip(".").lower() in self._hosts:
            return
        for text in addresses:
            address = ip_address(text)
            if any(address in network for network in self._networks):
                continue
            if not is_public(address) or address in await self._own():
                log.warning("refused a request of a user to %s at %s", host, address)
                raise TransferFailed(f"{host} is not at a public address; the operator does not allow it")


class OwnAddresses:
    """The addresses of this machine and of the public URLs of the service.

    A request to these would come from within, and services that trust the machine they run on would believe it.
    """

    def __init__(self, urls: Iterable[str], resolver: AbstractResolver) -> None:
        self._hosts = {host for url in urls if (host := URL(url).raw_host)}
        self._resolver = resolver
        self._known: frozenset[IPAddress] = frozenset()
        self._asked = float("-inf")

    async def __call__(self) -> frozenset[IPAddress]:
        """Give them as they were a minute ago at the most."""
        if time.monotonic() - self._asked > _OWN_FOR:
            found = [one.address for many in psutil.net_if_addrs().values() for one in many if one.family in _FAMILIES]
            for host in self._hosts:
                found += await self._resolve(host)
            self._known = frozenset(ip_address(text) for text in found)
            self._asked = time.monotonic()
        return self._known

    async def _resolve(self, host: str) -> list[str]:
        try:
            return [one["host"] for one in await self._resolver.resolve(host, 0, socket.AF_UNSPEC)]
        except OSError:
            return []


class SystemResolver(AbstractResolver):
    """Asks the system, in threads of its own: a name whose servers are slow keeps nobody else waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, "resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give all addresses of a host."""
        loop = asyncio.get_running_loop()
        flags = socket.AI_ADDRCONFIG
        try:
            found = await loop.run_in_executor(
                self._threads, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, flags
            )
        except UnicodeError:  # a part of the name is empty, or too long
            raise socket.gaierror(socket.EAI_NONAME, "this can be no name of a host") from None
        return [
            ResolveResult(
                hostname=host,
                host=_numeric(address),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _numeric(address: tuple[object, ...]) -> str:
    """Write an address of the system with its zone, if it has one."""
    host = str(address[0])
    return host if "%" in host or len(address) < _WITH_ZONE or not address[3] else f"{host}%{address[3]}"


class _Vetted(AbstractResolver):
    """Asks for the addresses of a name, and gives them if all are fit; aiohttp connects to nothing else."""

    def __init__(self, rules: Rules, inner: AbstractResolver) -> None:
        self._rules = rules
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        await self._rules.check(host, [one["host"] for one in found])
        return found

    async def close(self) -> None:
        await self._inner.close()


class Outgoing:
    """The client; one for a process, open while it is entered.

    Parameters
    ----------
    resolver
        Who answers for DNS; None: the system.
    """

    def __init__(self, settings: Settings, *, resolver: AbstractResolver | None = None) -> None:
        self._settings = settings.outgoing
        self._urls = (settings.metadata.public_url, settings.storage.public_url)
        self._resolver = resolver or SystemResolver()

    async def __aenter__(self) -> Self:
        """Open it; connections are made for each request and never kept."""
        self._rules = Rules(self._settings, OwnAddresses(self._urls, self._resolver))
        # Made here: aiohttp makes its own when it is imported, and so may not see SSL_CERT_FILE.
        trust = ssl.create_default_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ssl=trust,
                resolver=_Vetted(self._rules, self._resolver),
                use_dns_cache=False,
                force_close=True,
                socket_factory=self._make_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"pyvospace/{__version__}", "Accept-Encoding": "identity"},
            skip_auto_headers=("Content-Type",),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=256 << 10,
            middlewares=(send_once,),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it, with every connection."""
        await self._session.close()
        await self._resolver.close()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        body: Body | None = None,
        hops: int = _HOPS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, follow up to `hops` redirects, and give the answer with its body still to be read.

        Without any hops a redirect is an answer like any other.

        User and password of the URL are sent to its host, never to where that redirects to.

        Raises
        ------
        InvalidArgument, TransferFailed
            The URL leads to where no request goes, or nobody answered. Reading the answer is to be `translated`.
        """
        sent = {**headers, **_authorization(url)}
        target = url.with_user(None)
        for _ in range(hops + 1):
            response = await self._send(method, target, headers=sent, body=body)
            try:
                location = response.headers.get("Location")
                if not hops or response.status not in _redirects(method) or location is None:
                    yield response
                    return
            finally:
                response.close()
            target, sent = _joined(target, location), dict(headers)
        raise TransferFailed(f"{shown(url)}: more than {hops} redirects")

    async def _send(
        self, method: str, url: URL, *, headers: Mapping[str, str], body: Body | None
    ) -> aiohttp.ClientResponse:
        check_port(url, self._settings.ports)
        host = url.raw_host or ""
        if _is_literal(host):  # aiohttp would ask no resolver
            await self._rules.check(host, [host])
        log.debug("%s %s", method, shown(url))
        settings = self._settings
        # A head that comes byte by byte never makes sock_read wait; a body of ours takes its time before.
        patience = settings.connect_timeout + settings.idle_timeout if body is None else None
        with translated(url):
            async with asyncio.timeout(patience):
                return await self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body() if body is not None else None,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=settings.transfer_time,
                        connect=settings.connect_timeout,
                        sock_read=settings.idle_timeout,
                    ),
                )

    def _make_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Make a socket whose far side has to take our bytes in time: aiohttp waits for ever."""
        family, kind, protocol, _, _ = info
        made = socket.socket(family, kind, protocol)
        with suppress(AttributeError, OSError):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._settings.idle_timeout * 1000))
        return made


class BrokenOffError(TransferFailed):
    """The connection ended, or fell silent, in the middle."""


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn what aiohttp and the network raise into faults, in words that tell nothing of our network."""
    where = shown(url)
    try:
        yield
    except aiohttp.ClientConnectorDNSError as error:
        raise TransferFailed(f"{where}: the name is not known") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise TransferFailed(f"{where}: its certificate is not trusted") from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise TransferFailed(f"{where}: no connection") from error
    except aiohttp.InvalidURL as error:
        raise TransferFailed(f"{where}: no URL that can be asked for") from error
    except TimeoutError as error:
        raise BrokenOffError(f"{where}: nothing came for too long") from error
    except (HiddenError, aiohttp.ClientError, OSError) as error:
        raise BrokenOffError(f"{where}: the connection broke off") from error


def _redirects(method: str) -> frozenset[int]:
    """Give the statuses that send a request elsewhere; 303 asks for a GET, and so is no place for bytes."""
    return _REDIRECTS | {HTTPStatus.SEE_OTHER} if method == "GET" else _REDIRECTS


def _authorization(url: URL) -> dict[str, str]:
    if url.user is None:
        return {}
    credential = f"{url.user}:{url.password or ''}".encode()
    return {"Authorization": f"Basic {b64encode(credential).decode()}"}


def _joined(base: URL, location: str) -> URL:
    try:
        target = parse_url(str(base.join(URL(location, encoded=location.isascii()))))
    except (InvalidArgument, ValueError):
        raise TransferFailed(f"{shown(base)}: it redirects to what is no URL") from None
    if base.scheme == "https" and target.scheme != "https":
        raise TransferFailed(f"{shown(base)}: it redirects from https to http")
    return target.with_user(None)


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
