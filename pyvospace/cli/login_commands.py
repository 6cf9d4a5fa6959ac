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
    oidc: Annotated[bool, typer.Option("--oidc", help="Log in at an OpenID provider, with a browser.")] = False,
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
    """Log in at a service, by password or --oidc, and stay so until you log out or the service ends it.

    The token is kept in logins.json beside client.toml. A token of the environment or of an option comes before it.
    """
    from pyvospace.cli import login_actions
    from pyvospace.model.faults import InvalidArgument

    access = _access(url, ca_file)
    name = user or access.user
    if user is not None if oidc else name is None:
        raise InvalidArgument("say how to log in: --user NAME, or --oidc")
    if oidc:
        asyncio.run(login_actions.by_provider(access, issuer=issuer, client=client))
    else:
        password = _password(str(name), given=password_stdin)
        asyncio.run(login_actions.by_password(access, str(name), password))


def _password(name: str, *, given: bool) -> str:
    if given:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt(f"Password of {name}", hide_input=True, err=True))


def logout(*, url: UrlOption = None, ca_file: CaOption = None) -> None:
    """Forget the login at a service; the token of a password is revoked."""
    from pyvospace.cli import login_actions

    asyncio.run(login_actions.log_out(_access(url, ca_file)))
