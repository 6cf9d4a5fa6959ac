"""What the commands login and logout do."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import typer

from pyvospace.cli.session import complain, printable
from pyvospace.client.http import Http
from pyvospace.client.logins import Login, StoredLogin, keep
from pyvospace.client.oidc import Enter, Offer, TokenSource, read_offers
from pyvospace.model.faults import InvalidArgument, NotAuthenticated, OperationNotSupported

if TYPE_CHECKING:
    from pyvospace.client import Access


_SCREENS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables of which one is set where a browser can be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How somebody wants to log in at a provider."""

    issuer: str | None = None
    client: str | None = None
    browser: bool | None = None
    """With a browser of this machine, or by a code on any other; None: as it seems best."""


async def offers(access: Access) -> list[Offer]:
    """Ask a service which providers it believes."""
    http = Http(_url(access), ca_file=access.ca_file)
    try:
        answer = await http.ask("GET", f"{access.url}/capabilities")
    finally:
        await http.close()
    return read_offers([value for name, value in answer.headers.items() if name.lower() == "www-authenticate"])


async def by_provider(access: Access, way: Way) -> None:
    """Log in at a provider of the service, and keep the login."""
    url = _url(access)
    offer = _chosen(access, await offers(access), way.issuer)
    client = way.client or offer.client_id
    if client is None:
        raise InvalidArgument(f"the service names no client for {offer.issuer}: give --client")
    source = TokenSource(client, ca_file=access.ca_file, plain=urlsplit(url).scheme == "http")
    document = await source.discover(offer)
    if way.browser if way.browser is not None else _has_browser():
        from pyvospace.client.browsers import by_browser

        tokens = await by_browser(source, document, offer.scope, _open)
    else:
        tokens = await source.by_device(document, offer.scope, _show)
    kept = await keep(url, Login.of(tokens, endpoint=str(document["token_endpoint"]), client=client))
    try:
        who = await _who(access)
    except NotAuthenticated:
        await keep(url, None)
        raise
    _say(access, who, kept)


def _has_browser() -> bool:
    """Say whether a browser of this machine is likely to be where the user is."""
    screen = sys.platform == "darwin" or any(os.environ.get(name) for name in _SCREENS)
    return screen and "SSH_CONNECTION" not in os.environ


async def by_password(access: Access, name: str, password: str) -> None:
    """Get a token for a password, and keep that; the password is kept nowhere."""
    url = _url(access)
    http = Http(url, ca_file=access.ca_file)
    try:
        answer = await http.ask(
            "POST",
            f"{url}/login",
            body=urlencode({"username": name, "password": password}).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            repeatable=False,
        )
    finally:
        await http.close()
    kept = await keep(url, Login(answer.headers["X-VO-Bearer"]))
    _say(access, answer.headers.get("X-VO-Authenticated", name), kept)


def _say(access: Access, who: str, kept: str | None) -> None:
    typer.echo(f"logged in at {access.url} as {printable(who)}; {kept} keeps it", err=True)
    if access.authorization() is not None:
        before = "token" if access.token is not None else "password"
        complain(f"a {before} of the environment or of client.toml comes before it: take away VOSPACE_{before.upper()}")


async def log_out(access: Access) -> None:
    """Forget the login at the service; a token that the service gave for a password ends there too."""
    url = _url(access)
    login = StoredLogin.find(url, ca_file=access.ca_file)
    if login is None:
        complain(f"no login is kept for {url}")
    elif not login.by_provider:
        http = Http(url, authorization=login, ca_file=access.ca_file)
        try:
            await http.ask("DELETE", f"{url}/login")
        except NotAuthenticated:
            pass  # it has ended already
        finally:
            await http.close()
    await keep(url, None)


def _url(access: Access) -> str:
    return str(access.parameters()["url"])


def _chosen(access: Access, known: list[Offer], issuer: str | None) -> Offer:
    if not known:
        raise OperationNotSupported(f"{access.url} names no OpenID provider: log in with --user NAME")
    found = [one for one in known if issuer in {None, one.issuer}]
    if not found or (issuer is None and len(found) > 1):
        raise InvalidArgument(f"choose the provider with --issuer: {', '.join(one.issuer for one in known)}")
    return found[0]


async def _who(access: Access) -> str:
    """Ask the service who the login is."""
    http = Http(_url(access), authorization=StoredLogin(_url(access), ca_file=access.ca_file), ca_file=access.ca_file)
    try:
        answer = await http.ask("GET", f"{access.url}/capabilities")
    finally:
        await http.close()
    return str(answer.headers.get("X-VO-Authenticated", "nobody"))


def _open(url: str) -> None:
    """Show a page in the browser of the user; he may open it himself, also if nothing happens."""
    complain(f"log in with the browser that opens now, or open {url}")
    _opening.add(task := asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url))
    task.add_done_callback(_opening.discard)


_opening: set[asyncio.Future[Any]] = set()
"""So that what runs beside us is not forgotten."""


def _show(enter: Enter) -> None:
    if enter.complete_url:
        complain(f"open {enter.complete_url} in a browser, compare the code {enter.code} and log in")
    else:
        complain(f"open {enter.url} in a browser and enter the code {enter.code}")
