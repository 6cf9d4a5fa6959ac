"""Commands that run a space: up, metadata, storage, worker, migrate, config."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyvospace.cli.space_commands import JsonOption
from pyvospace.supervisor import SupervisorError

if TYPE_CHECKING:
    from pyvospace.supervisor.data import Access
    from pyvospace.supervisor.workers import Server

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings (TOML). Default: PYVOSPACE_CONFIG, ~/.config/pyvospace/pyvospace.toml, /etc/pyvospace.toml.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Directory of the data. Default: PYVOSPACE_DATA, ~/.local/share/pyvospace.",
    ),
]
BesideOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Work beside the `pyvospace up` of this directory, at its database."),
]
HostOption = Annotated[str | None, typer.Option(help="Address to listen at.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen at.")]
WorkersOption = Annotated[int | None, typer.Option(help="Number of processes that share the port.")]
PublicUrlOption = Annotated[str | None, typer.Option(help="URL at which clients reach the server.")]
CertOption = Annotated[Path | None, typer.Option(help="Certificate chain (PEM) for TLS.")]
KeyOption = Annotated[Path | None, typer.Option(help="Private key (PEM) of the certificate.")]

_config = typer.Typer(no_args_is_help=True, help="Look at the settings.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Serve a space"
    for command in (up, metadata, storage, worker, sftp, migrate):
        app.command(rich_help_panel=panel)(command)
    app.add_typer(_config, name="config", rich_help_panel=panel)


def up(
    *,
    data: DataOption = None,
    port: Annotated[int | None, typer.Option(help="Port of the metadata server; storage listens at the next.")] = None,
    host: HostOption = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes of each server.")] = None,
    config: ConfigOption = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    user: Annotated[str | None, typer.Option(help="Ordinary user of access.env; made if there is none.")] = None,
) -> None:
    """Run a whole space with a database of its own, until Ctrl-C."""
    from pyvospace.supervisor.data import directory_of
    from pyvospace.supervisor.pair import Options
    from pyvospace.supervisor.pair import up as run

    directory = directory_of(data)
    options = Options(
        data=directory,
        config=config,
        host=host,
        port=port,
        workers=workers,
        tls_cert=tls_cert,
        tls_key=tls_key,
        user=user,
    )
    with _explained():
        run(options, say=_say, announce=lambda access: _announce(access, directory / "access.env"))


def metadata(
    *,
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    public_url: PublicUrlOption = None,
    workers: WorkersOption = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
) -> None:
    """Run the metadata server, against the database that database.dsn names."""
    given = {
        "host": host,
        "port": port,
        "public_url": public_url,
        "workers": workers,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
    }
    _serve("metadata", config, given)


def storage(
    *,
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    public_url: PublicUrlOption = None,
    workers: WorkersOption = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    path: Annotated[Path | None, typer.Option(help="Directory of the bytes.")] = None,
    data: BesideOption = None,
) -> None:
    """Run a storage server, against the database that database.storage_dsn names."""
    given = {
        "host": host,
        "port": port,
        "public_url": public_url,
        "workers": workers,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "path": path,
    }
    _serve("storage", config, given, data)


def worker(
    *,
    config: ConfigOption = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Number of jobs at the same time.")] = None,
    data: BesideOption = None,
) -> None:
    """Run jobs (moves, copies, searches and the like) beside the metadata servers; start as many as are wanted."""
    from pyvospace.config import load
    from pyvospace.supervisor.data import settings_beside
    from pyvospace.supervisor.workers import work

    given = {"jobs": {"at_once": at_once}} if at_once else {}
    settings = load(config, {**settings_beside(data), **given})
    with _explained():
        work(settings)


def sftp(
    *, config: ConfigOption = None, host: HostOption = None, port: PortOption = None, data: BesideOption = None
) -> None:
    """Run the SFTP door to the space, for users with SSH keys; it needs asyncssh (the extra `sftp`)."""
    from pyvospace.config import load
    from pyvospace.supervisor.data import settings_beside
    from pyvospace.supervisor.workers import open_door

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = load(config, {**settings_beside(data), "sftp": given})
    with _explained():
        open_door(settings)


def migrate(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """Bring the database up to this release; make the space if there is none yet."""
    from pyvospace.config import load
    from pyvospace.db.bootstrap import bootstrap
    from pyvospace.db.migrations import migrate as apply
    from pyvospace.supervisor.data import find_dsn

    settings = load(config)
    with _explained():
        dsn = find_dsn(settings, data)
        for name in asyncio.run(apply(dsn)):
            typer.echo(json.dumps({"applied": name}) if as_json else f"applied {name}")
        asyncio.run(
            bootstrap(
                dsn,
                settings=settings.database,
                authority=settings.authority,
                group_prefixes=settings.group_prefixes,
                user=None,
            )
        )


@_config.command("check")
def check_config(
    file: Annotated[Path | None, typer.Argument(help="Settings (TOML). Default: as for --config.")] = None,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Name each wrong or unknown setting of file and environment, one a line."""
    from pyvospace.config import ConfigError, check

    problems = check(file or config)
    if as_json:
        for one in problems:
            typer.echo(json.dumps({"where": one.where, "what": one.what}))
        raise typer.Exit(2 if problems else 0)
    if problems:
        raise ConfigError(problems)


@_config.command("show")
def show_config(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Write the settings in effect as TOML, secrets masked."""
    from pyvospace.config import load
    from pyvospace.config.reference import show

    written = show(load(config))
    typer.echo(json.dumps(tomllib.loads(written)) if as_json else written)


@_config.command("client")
def show_client(*, as_json: JsonOption = False) -> None:
    """Show what commands know of spaces and users, and from which files; without secrets."""
    from pyvospace.cli.client_settings import facts

    found = facts()
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name + ':':<12} {'-' if value is None else value}")


def _serve(server: Server, config: Path | None, given: dict[str, Any], data: Path | None = None) -> None:
    from pyvospace.config.load import environment_of, load
    from pyvospace.supervisor.data import settings_beside
    from pyvospace.supervisor.workers import serve

    said = {name: value for name, value in given.items() if value is not None}
    overrides = {**settings_beside(data), str(server): said}
    settings = load(config, overrides)
    with _explained():
        serve(server, settings, environment_of(config, overrides))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what keeps a server from starting into one line."""
    from pyvospace.db.bootstrap import WrongSpaceError
    from pyvospace.db.migrations import MigrationError
    from pyvospace.db.pool import UnsafeDatabaseError

    try:
        yield
    except (MigrationError, UnsafeDatabaseError, WrongSpaceError) as error:
        raise SupervisorError(str(error)) from error


def _say(text: str) -> None:
    typer.echo(f"pyvospace: {text}", err=True)


def _announce(access: Access, file: Path) -> None:
    command = "pyvospace" if shutil.which("pyvospace") else shlex.quote(str(Path(sys.argv[0]).absolute()))
    typer.echo(
        f"""
A VOSpace is ready; Ctrl-C stops it.

  URL        {access.url}
  authority  {access.authority}
  user       {access.user}
  token      {access.token}

In another terminal, after `. {shlex.quote(str(file))}`, try:

  {command} cp /etc/os-release "vos://$VOSPACE_AUTHORITY$VOSPACE_HOME/hello.txt"
  {command} ls "vos://$VOSPACE_AUTHORITY$VOSPACE_HOME"
  curl -L -H "Authorization: Bearer $VOSPACE_TOKEN" "$VOSPACE_URL/files$VOSPACE_HOME/hello.txt"
"""
    )
