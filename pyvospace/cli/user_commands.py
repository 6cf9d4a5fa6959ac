"""Commands on users, and on oneself."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from pyvospace.cli.desk import ask, place, reaching, write, write_list
from pyvospace.cli.quantities import write_size
from pyvospace.cli.reach import Reach
from pyvospace.cli.space_commands import CaOption, JsonOption, TokenOption, UrlOption
from pyvospace.model.faults import InvalidArgument

PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read a password from standard input, for Basic authentication.")
]
UserName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")]
OidcOption = Annotated[
    tuple[str, str] | None,
    typer.Option("--oidc", metavar="ISSUER SUBJECT", help="URL of an OpenID provider, and its word for the user."),
]
CertificateOption = Annotated[
    str | None, typer.Option("--x509", metavar="DN", help="Distinguished name of a certificate, in any form.")
]

_PANEL = "Administer a space"

_user = typer.Typer(no_args_is_help=True, help="Users.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Use a space")(whoami)
    app.add_typer(_user, name="user", rich_help_panel=_PANEL)


def _password() -> str:
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise InvalidArgument("no password came on standard input")
    return password


def _at(name: str, more: str = "") -> str:
    return f"/admin/users/{place(name)}{more}"


def _line(user: Any) -> str:
    marks = {"admin": user["admin"], "disabled": user["disabled"], "password": user["has_password"]}
    return " ".join([user["name"], *(mark for mark, true in marks.items() if true)])


@_user.command("add")
@reaching
def add_user(
    name: UserName,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    no_home: Annotated[bool, typer.Option("--no-home", help="Make no home.")] = False,
    password_stdin: PasswordOption = False,
    reach: Reach,
) -> None:
    """Add a user with a home that nobody else may read."""
    password = {"password": _password()} if password_stdin else {}
    ask(reach, "POST", "/admin/users", body={"name": name, "admin": admin, "home": not no_home, **password})


@_user.command("show")
@reaching
def show_user(name: UserName, *, as_json: JsonOption = False, reach: Reach) -> None:
    """Show a user, under which names others know him, and how much he owns."""
    found = ask(reach, "GET", _at(name))
    found["identities"] = ask(reach, "GET", _at(name, "/identities"))["items"]
    found["quota"] = ask(reach, "GET", "/admin/quota", query={"user": name})
    write(found, _shown, as_json=as_json)


def _shown(user: Any) -> str:
    lines = [_line(user), f"tokens\t{user['tokens']}", f"owns\t{quota_words(user['quota'])}"]
    return "\n".join(lines + [f"identity\t{identity_words(one)}" for one in user["identities"]])


def identity_words(identity: Any) -> str:
    """Write an identity."""
    return " ".join(filter(None, [str(identity["id"]), identity["kind"], identity["issuer"], identity["subject"]]))


def quota_words(quota: Any) -> str:
    """Write what is used, of how much."""
    used = quota["used"]
    most = f" of {write_size(quota['bytes'])}" if quota["bytes"] is not None else ""
    number = f" of {quota['nodes']}" if quota["nodes"] is not None else ""
    return f"{write_size(used['bytes'])}{most}, {used['nodes']}{number} nodes"


@_user.command("password")
@reaching
def set_password(name: UserName, *, reach: Reach) -> None:
    """Set the password of a user, read from standard input."""
    ask(reach, "PATCH", _at(name), body={"password": _password()})


@_user.command("disable")
@reaching
def disable_user(name: UserName, *, reach: Reach) -> None:
    """Refuse every credential and endpoint of a user, from now on."""
    ask(reach, "PATCH", _at(name), body={"disabled": True})


@_user.command("enable")
@reaching
def enable_user(name: UserName, *, reach: Reach) -> None:
    """Let a disabled user in again."""
    ask(reach, "PATCH", _at(name), body={"disabled": False})


@_user.command("promote")
@reaching
def promote_user(
    name: UserName,
    *,
    off: Annotated[bool, typer.Option("--off", help="Make him an ordinary user again.")] = False,
    reach: Reach,
) -> None:
    """Make a user an administrator."""
    ask(reach, "PATCH", _at(name), body={"admin": not off})


@_user.command("home")
@reaching
def make_home(name: UserName, *, as_json: JsonOption = False, reach: Reach) -> None:
    """Make the home of a user, unless there is one, and print its URI."""
    write(ask(reach, "PUT", _at(name, "/home")), lambda made: str(made["uri"]), as_json=as_json)


@_user.command("link")
@reaching
def link(name: UserName, *, oidc: OidcOption = None, x509: CertificateOption = None, reach: Reach) -> None:
    """Let a user be known by the subject of an OpenID provider, or by a certificate."""
    ask(reach, "POST", _at(name, "/identities"), body=_identity(oidc, x509))


@_user.command("unlink")
@reaching
def unlink(name: UserName, *, oidc: OidcOption = None, x509: CertificateOption = None, reach: Reach) -> None:
    """Take that away again: whoever shows it is refused from the next request on."""
    ask(reach, "DELETE", _at(name, "/identities"), query=_identity(oidc, x509))


def _identity(oidc: tuple[str, str] | None, x509: str | None) -> dict[str, str]:
    if (oidc is None) == (x509 is None):
        raise InvalidArgument("say what is linked: --oidc ISSUER SUBJECT, or --x509 DN")
    if oidc is not None:
        return {"kind": "oidc", "issuer": oidc[0], "subject": oidc[1]}
    return {"kind": "x509", "subject": x509 or ""}


@_user.command("list")
@reaching
def list_users(*, as_json: JsonOption = False, reach: Reach) -> None:
    """List the users."""
    write_list(reach, "/admin/users", _line, as_json=as_json)


def whoami(
    *, as_json: JsonOption = False, url: UrlOption = None, token: TokenOption = None, ca_file: CaOption = None
) -> None:
    """Show who you are for a service, and what you have there."""
    found = _whoami(url, token, ca_file)
    write(found, _profile, as_json=as_json)


def _whoami(url: str | None, token: str | None, ca_file: Any) -> Any:
    import asyncio

    from pyvospace.client.access import Access, find_spaces
    from pyvospace.client.administration import Administration

    async def work() -> Any:
        access = find_spaces(Access(url=url, token=token, ca_file=ca_file)).default
        async with Administration.of(access) as service:
            return await service.ask("GET", "/profile")

    return asyncio.run(work())


def _profile(profile: Any) -> str:
    credential = profile["credential"]
    lines = [f"name\t{profile['name']}", f"credential\t{credential['kind']}"]
    if credential["rights"] is not None:
        lines.append(f"may\t{' '.join(credential['rights'])} at {' '.join(credential['paths'])}")
    if profile["links"] is None:
        return "\n".join(lines)
    lines += ["admin\tyes"] if profile["admin"] else []
    lines += [f"home\t{profile['home'] or 'none'}", f"owns\t{quota_words(profile['quota'])}"]
    lines += [f"identity\t{identity_words(one)}" for one in profile["identities"]]
    lines += [f"group\t{one['uri']}\t{one['source']}" for one in profile["groups"]]
    return "\n".join([*lines, f"jobs\t{profile['jobs_waiting']} wait"])
