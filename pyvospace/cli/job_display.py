"""Bars for jobs of the service, on a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pyvospace.cli.defaults import shows_progress
from pyvospace.cli.session import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from pyvospace.client.jobs import Watch
    from pyvospace.model.jobs import Job


class JobDisplay:
    """Shows how far jobs are if standard error is a terminal; else nobody asks for it."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._bars = _make_bars() if shows_progress(quiet=quiet) else None

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the bars away."""
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def job(self, name: str) -> Iterator[Watch | None]:
        """Show one job, if it takes longer than a look."""
        if self._bars is None:
            yield None
            return
        bar = _Bar(self._bars, printable(name))
        try:
            yield bar.show
        finally:
            bar.remove()


class _Bar:
    """The bar of one job."""

    def __init__(self, bars: RichProgress, name: str) -> None:
        self._bars = bars
        self._name = name
        self._task: TaskID | None = None
        self._looks = 0

    def show(self, job: Job) -> None:
        self._looks += 1
        if self._looks == 1 or job.phase.final:
            return
        if self._task is None:
            self._task = self._bars.add_task(self._name, total=None, told="")
        done, total = extent(job)
        self._bars.update(self._task, total=total, completed=done, told=progress_words(job))

    def remove(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)


def extent(job: Job) -> tuple[int, int | None]:
    """Say how much of how much is done, in bytes if they are counted, else in nodes."""
    progress = job.progress
    if progress is None:
        return 0, None
    if progress.bytes_total is not None or progress.files_total is None:
        return progress.bytes_done or 0, progress.bytes_total
    return progress.files_done or 0, progress.files_total


def progress_words(job: Job) -> str:
    """Put into words how far a job is; without progress its phase."""
    from rich.filesize import decimal

    progress = job.progress
    if progress is None:
        return str(job.phase)
    told = []
    if progress.files_done is not None:
        told.append(f"{_of(str(progress.files_done), progress.files_total)} nodes")
    if progress.bytes_done is not None:
        told.append(_of(decimal(progress.bytes_done), progress.bytes_total and decimal(progress.bytes_total)))
    if job.rate is not None:
        told.append(f"{decimal(round(job.rate))}/s")
    return ", ".join(told) or str(job.phase)


def _of(done: str, total: object | None) -> str:
    return done if total is None else f"{done} of {total}"


def _make_bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        # Results that go to a file or another program stay what they are.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
