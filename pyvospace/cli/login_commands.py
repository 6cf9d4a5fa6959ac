"""Commands to log in at a service."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pyvospace.cli.space_commands import CaOption, UrlOption

if TYPE_CHECKING:
    from pathlib import Path

    from pyvospace.client import Access


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (login, logout):
        app.command(rich_help_panel="Use a space")(command)


def _access(url: str | None, ca_file: Path | None) -> Access:
    from pyvospace.client import Access, find_spaces

    return find_spaces(Access(url=url, ca_file=ca_file)).default


def login(
    *,
    oidc: Annotated[bool, typer.Option("--oidc", help="Log in at an OpenID provider of the service.")] = False,
    browser: Annotated[
        bool, typer.Option("--browser", help="There with a browser of this machine. Default if one can be seen.")
    ] = False,
    device: Annotated[
        bool, typer.Option("--device", help="There with a browser anywhere, by a code to enter: for remote machines.")
    ] = False,
    issuer: Annotated[str | None, typer.Option(metavar="URL", help="Provider, if the service names several.")] = None,
    client: Annotated[
        str | None, typer.Option(metavar="ID", help="Client at the provider, if the service names none.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Log in by password. Default: VOSPACE_USER.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, in place of asking.")
    ] = False,
    url: UrlOption = None,
    ca_file: CaOption = None,
) -> None:
    """Log in at a service, and stay so until you log out or the service ends it.

    With --user by password; else, if the service names an OpenID provider, there.
    The keyring keeps the token (package keyring), or logins.json beside client.toml
    does, for you alone. A token of the environment or of an option comes before it.
    """
    from pyvospace.cli import login_actions
    from pyvospace.model.faults import InvalidArgument

    if browser and device:
        raise InvalidArgument("say one of --browser and --device")
    access, at_provider = _access(url, ca_file), oidc or browser or device
    if user is not None and at_provider:
        raise InvalidArgument("say how to log in: --user NAME, or --oidc")
    name = user or access.user
    if name is None or at_provider:
        way = login_actions.Way(issuer=issuer, client=client, browser=browser if browser or device else None)
        asyncio.run(login_actions.by_provider(access, way))
    else:
        password = _password(name, given=password_stdin)
        asyncio.run(login_actions.by_password(access, name, password))


def _password(name: str, *, given: bool) -> str:
    if given:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt(f"Password of {name}", hide_input=True, err=True))


def logout(*, url: UrlOption = None, ca_file: CaOption = None) -> None:
    """Forget the login at a service, in keyring and file; the token of a password is revoked."""
    from pyvospace.cli import login_actions

    asyncio.run(login_actions.log_out(_access(url, ca_file)))
