"""Progress bars on a terminal, and words about what is left out or fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from pyvospace.cli.defaults import shows_progress
from pyvospace.cli.node_actions import write_json
from pyvospace.cli.session import Session, complain, printable, words
from pyvospace.client.progress import SILENT
from pyvospace.model.faults import Fault

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from pyvospace.client.progress import Progress

_WORTH_A_BAR: Final = 1 << 20
"""Bytes; smaller files come and go faster than anybody can read their bars."""


class Display:
    """Shows how copies go: bars if standard error is a terminal, failures always."""

    def __init__(self, session: Session, *, quiet: bool = False, as_json: bool = False) -> None:
        self._session = session
        self._as_json = as_json
        self._bars = _make_bars() if shows_progress(quiet=quiet) else None
        self._all: TaskID | None = None
        self._files = 0

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bars is not None:
            self._bars.start()
            self._all = self._bars.add_task("all files", total=None, visible=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the bars away."""
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def file(self, name: str) -> Iterator[Progress]:
        """Show one file."""
        if self._bars is None or self._all is None:
            yield SILENT
            return
        self._files += 1
        self._bars.update(self._all, description=f"{self._files} files", visible=self._files > 1)
        bar = _Bar(self._bars, printable(name), self._all)
        try:
            yield bar
        finally:
            bar.remove()

    def copied(self, source: object, target: object) -> None:
        """Tell that a file is copied."""
        self._write("copy", source=source, target=target)

    def kept(self, target: object, why: str) -> None:
        """Tell that a file is not copied, since there is one already."""
        self._write("keep", target=target, reason=why)

    def _write(self, action: str, **told: object) -> None:
        if self._as_json:
            members = {name: str(value) for name, value in told.items()}
            write_json({"action": action, **members})

    def skipped(self, what: object, why: str) -> None:
        """Say that something is left out."""
        complain(f"{what} is left out: {why}")
        self._write("leave-out", source=what, reason=why)

    def failed(self, what: object, error: Fault | OSError) -> None:
        """Say that something could not be copied."""
        self._session.note(error, what)
        self._write("fail", source=what, reason=words(error))


class _Bar:
    """The bar of one file."""

    def __init__(self, bars: RichProgress, name: str, everything: TaskID) -> None:
        self._bars = bars
        self._name = name
        self._all = everything
        self._task: TaskID | None = None

    def expect(self, total: int | None) -> None:
        """Hear how many bytes there are."""
        if self._task is None and (total is None or total >= _WORTH_A_BAR):
            self._task = self._bars.add_task(self._name, total=total)

    def advance(self, count: int) -> None:
        """Hear that bytes have moved."""
        for task in (self._task, self._all):
            if task is not None:
                self._bars.advance(task, count)

    def remove(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._bars.remove_task(self._task)


def _make_bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # Results that go to a file or another program stay what they are.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
