"""The command that makes one folder hold what another one holds."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from pyvospace.cli.completing import nodes
from pyvospace.cli.space_commands import (
    CaOption,
    JobsOption,
    JsonOption,
    QuietOption,
    TokenOption,
    UrlOption,
    run_on_spaces,
)

_ORDERED: Final = ("include", "exclude")
_ORDER: Final = "pyvospace.order"


class InOrder(TyperCommand):
    """Remembers in which order the options for patterns were given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[_ORDER] = [one.name for one in given if one.name in _ORDERED]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(cls=InOrder, rich_help_panel="Use a space")(sync)


PatternOption = list[str] | None


def sync(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", autocompletion=nodes, help="The folder: a local path, or the URI of a container."
        ),
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", autocompletion=nodes, help="The folder to hold the same afterwards.")
    ],
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete from DESTINATION what SOURCE has not.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --delete: also if SOURCE is empty or not there.")
    ] = False,
    checksum: Annotated[
        bool, typer.Option("-c", "--checksum", help="Compare checksums of files, not their times and sizes.")
    ] = False,
    include: Annotated[
        PatternOption, typer.Option(metavar="PATTERN", help="Take what fits, though a later --exclude fits too.")
    ] = None,
    exclude: Annotated[
        PatternOption, typer.Option(metavar="PATTERN", help="Leave alone what fits, on both sides.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Change nothing; name what would be copied and deleted.")
    ] = False,
    jobs: JobsOption = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Name each file that is copied or deleted.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaOption = None,
) -> None:
    """Make DESTINATION hold what is in SOURCE: into a space, out of it, or within it.

    Files of the same size and time are left alone. What is in SOURCE goes into
    DESTINATION itself, which is made if it is not there; times of files are kept.
    Symbolic links are left out, and said so. A run that broke off is simply run
    again: what has arrived is not copied twice.

    Patterns are those of rsync; the first one that fits decides, in the order given.
    """
    from pyvospace.cli import sync_actions
    from pyvospace.cli.defaults import defaults

    wanted = sync_actions.Wanted(
        rules=_rules(ctx.meta.get(_ORDER, ()), include, exclude),
        delete=delete,
        force=force,
        checksum=checksum,
        dry_run=dry_run,
        parallel=jobs or defaults().jobs,
    )
    shown = sync_actions.Shown(verbose=verbose, quiet=quiet, as_json=as_json)
    run_on_spaces(url, token, ca_file, lambda session: sync_actions.sync(session, source, destination, wanted, shown))


def _rules(order: list[str], include: PatternOption, exclude: PatternOption) -> tuple[tuple[bool, str], ...]:
    """Put the patterns back into the order in which they were given."""
    given = {"include": iter(include or ()), "exclude": iter(exclude or ())}
    return tuple((name == "include", next(given[name])) for name in order)
