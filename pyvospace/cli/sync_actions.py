"""What the command sync does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyvospace.cli.display import Display
from pyvospace.cli.node_actions import write_json, write_line
from pyvospace.cli.quantities import write_size
from pyvospace.cli.session import Session, printable, words
from pyvospace.client.locations import is_uri
from pyvospace.client.mirror import Act, Event, LocalSide, Mirror, Options, Patterns, Rule, Side, SpaceSide, Summary
from pyvospace.model.faults import Fault, InvalidArgument

if TYPE_CHECKING:
    from pyvospace.client.progress import Progress

_WORDS: Final = {Act.DATE: "set time of", Act.FOLDER: "make"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be done."""

    rules: tuple[tuple[bool, str], ...] = ()
    """Whether what fits is wanted, and the pattern."""
    delete: bool = False
    force: bool = False
    checksum: bool = False
    dry_run: bool = False
    parallel: int = 8

    def options(self) -> Options:
        """Give it to a mirror.

        Raises
        ------
        InvalidArgument
            A pattern is none.
        """
        return Options(
            checksum=self.checksum,
            delete=self.delete,
            force=self.force,
            dry_run=self.dry_run,
            patterns=Patterns.of(Rule(pattern, wanted) for wanted, pattern in self.rules),
            parallel=self.parallel,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is told of it."""

    verbose: bool = False
    quiet: bool = False
    as_json: bool = False


async def sync(session: Session, source: str, destination: str, wanted: Wanted, shown: Shown) -> None:
    """Make one folder hold what another one holds.

    Raises
    ------
    InvalidArgument
        No side is in a space, or a name is empty.
    """
    options = wanted.options()
    here, there = await _side(session, source), await _side(session, destination)
    with Display(session, quiet=shown.quiet or shown.as_json) as display:
        teller = _Teller(session, display, shown, dry_run=wanted.dry_run)
        mirror = Mirror(here, there, options, teller)
        try:
            await mirror.run()
        finally:
            teller.end(mirror.summary)


async def _side(session: Session, text: str) -> Side:
    if not text:
        # An empty variable of the shell: as a path it would mean the whole current directory.
        raise InvalidArgument("an empty name is given as source or destination")
    if not is_uri(text):
        return LocalSide(Path(text))
    place = await session.place(text)
    return SpaceSide(place.space, place.uri)


class _Teller:
    """Tells what a mirror does."""

    def __init__(self, session: Session, display: Display, shown: Shown, *, dry_run: bool) -> None:
        self._session = session
        self._display = display
        self._shown = shown
        self._dry_run = dry_run

    def file(self, name: str) -> AbstractContextManager[Progress]:
        """Show one file."""
        return self._display.file(name)

    def done(self, event: Event) -> None:
        """Tell what was done."""
        if self._shown.as_json:
            told = {"action": event.act, "path": event.path, "bytes": event.size, "reason": event.reason}
            write_json({name: value for name, value in told.items() if value is not None})
        elif event.act is Act.LEAVE_OUT:
            self._display.skipped(event.path, event.reason or "")
        elif self._shown.verbose or (self._dry_run and not self._shown.quiet):
            size = "" if event.size is None else f" ({write_size(event.size)})"
            write_line(f"{_WORDS.get(event.act, event.act)} {printable(event.path)}{size}")

    def failed(self, what: str, path: str, error: Fault | OSError) -> None:
        """Tell what failed."""
        self._display.failed(what, error)
        if self._shown.as_json:
            write_json({"action": Act.FAIL, "path": path, "reason": words(error)})

    def end(self, summary: Summary) -> None:
        """Tell what came of it."""
        if self._shown.as_json:
            write_json({"action": "summary", **asdict(summary), "seconds": round(summary.seconds, 3)})
        elif not self._shown.quiet:
            write_line(_sentence(summary, dry_run=self._dry_run))


def _sentence(summary: Summary, *, dry_run: bool) -> str:
    files = "1 file" if summary.files == 1 else f"{summary.files} files"
    parts = [f"{files} ({write_size(summary.bytes)}) {'to copy' if dry_run else 'copied'}"]
    parts.append(f"{summary.unchanged} unchanged")
    further = {
        "to be given another time" if dry_run else "given another time": summary.dated,
        f"folder{'s' * (summary.folders != 1)} {'to make' if dry_run else 'made'}": summary.folders,
        "to delete" if dry_run else "deleted": summary.deleted,
        "left out": summary.left_out,
        "failed": summary.failed,
    }
    parts += [f"{count} {name}" for name, count in further.items() if count]
    return ", ".join(parts) + f"; {summary.seconds:.1f} s"
