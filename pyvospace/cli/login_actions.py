"""What the commands login and logout do."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import typer

from pyvospace.cli.session import complain, printable
from pyvospace.client.http import Http
from pyvospace.client.logins import Login, StoredLogin, file, keep
from pyvospace.client.oidc import Enter, Offer, TokenSource, read_offers
from pyvospace.model.faults import InvalidArgument, NotAuthenticated, OperationNotSupported

if TYPE_CHECKING:
    from pyvospace.client import Access


async def by_provider(access: Access, *, issuer: str | None, client: str | None) -> None:
    """Log in at a provider of the service with a browser, and keep the login."""
    url = _url(access)
    offer = await _choose(access, issuer)
    client = client or offer.client_id
    if client is None:
        raise InvalidArgument(f"the service names no client for {offer.issuer}: give --client")
    source = TokenSource(client, ca_file=access.ca_file, plain=urlsplit(url).scheme == "http")
    document = await source.discover(offer)
    tokens = await source.by_device(document, offer.scope, _show)
    await keep(url, Login.of(tokens, endpoint=str(document["token_endpoint"]), client=client))
    try:
        who = await _who(access)
    except NotAuthenticated:
        await keep(url, None)
        raise
    _say(access, who)


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
    await keep(url, Login(answer.headers["X-VO-Bearer"]))
    _say(access, answer.headers.get("X-VO-Authenticated", name))


def _say(access: Access, who: str) -> None:
    typer.echo(f"logged in at {access.url} as {printable(who)}; {file()} keeps it", err=True)
    if access.authorization() is not None:
        before = "token" if access.token is not None else "password"
        complain(f"a {before} of the environment or of client.toml comes before it: take away VOSPACE_{before.upper()}")


async def log_out(access: Access) -> None:
    """Forget the login at the service; a token that the service gave for a password ends there too."""
    url = _url(access)
    login = StoredLogin.find(url, ca_file=access.ca_file)
    if login is not None and not login.by_provider:
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


async def _choose(access: Access, issuer: str | None) -> Offer:
    http = Http(_url(access), ca_file=access.ca_file)
    try:
        answer = await http.ask("GET", f"{access.url}/capabilities")
    finally:
        await http.close()
    offers = read_offers([value for name, value in answer.headers.items() if name.lower() == "www-authenticate"])
    if not offers:
        raise OperationNotSupported(f"{access.url} names no OpenID provider")
    found = [one for one in offers if issuer in {None, one.issuer}]
    if not found or (issuer is None and len(found) > 1):
        known = ", ".join(one.issuer for one in offers)
        raise InvalidArgument(f"choose the provider with --issuer: {known}")
    return found[0]


async def _who(access: Access) -> str:
    """Ask the service who the login is."""
    http = Http(_url(access), authorization=StoredLogin(_url(access), ca_file=access.ca_file), ca_file=access.ca_file)
    try:
        answer = await http.ask("GET", f"{access.url}/capabilities")
    finally:
        await http.close()
    return str(answer.headers.get("X-VO-Authenticated", "nobody"))


def _show(enter: Enter) -> None:
    if enter.complete_url:
        complain(f"open {enter.complete_url} in a browser, compare the code {enter.code} and log in")
    else:
        complain(f"open {enter.url} in a browser and enter the code {enter.code}")
