"""The command ``pyvospace``: its parts, and the only place that knows exit codes.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage or wrong
settings, 130 interrupted; a fault has the code of its class (`pyvospace.model.faults`).
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

import pyvospace
from pyvospace.cli.completing import VARIABLE, complete
from pyvospace.cli.lazy import Commands
from pyvospace.model.faults import Fault
from pyvospace.supervisor import SupervisorError

FAILED = 1
WRONG_SETTINGS = 2
INTERRUPTED = 130


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pyvospace {pyvospace.__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """VOSpace 2.1: keep files in a space, and serve one."""


def make_app() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
    app.callback()(_root)
    return app


def main() -> None:
    """Run a command and leave with its exit code; or say to a shell how a line may go on."""
    sys.exit(complete(run) if VARIABLE in os.environ else run())


def run(arguments: list[str] | None = None) -> int:
    """Run a command and give its exit code."""
    try:
        return make_app()(arguments, prog_name="pyvospace", standalone_mode=False) or 0
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Fault, OSError, SupervisorError, TyperException) as error:
        from pyvospace.cli.hints import hint, shown

        lines = [*_words(error), *shown([hint(error)])]
        return _complain(lines, error.exit_code if isinstance(error, Fault | TyperException) else FAILED)
    except Exception as error:
        # Imported only now: settings take long to load, and the commands of users have none.
        from pyvospace.config import ConfigError

        if not isinstance(error, ConfigError):
            raise
        return _complain([str(problem) for problem in error.problems], WRONG_SETTINGS)


def _complain(lines: list[str], code: int) -> int:
    for line in lines:
        typer.echo(f"pyvospace: {line}", err=True)
    return code


def _words(error: Exception) -> list[str]:
    if not isinstance(error, TyperException):
        return [str(error)]
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message:  # the help has been shown instead
        return []
    # The parser names the wrong one of several missing arguments, so let the whole line be seen.
    return [message] if context is None else [message, f"{context.get_usage()} (--help tells more)"]
