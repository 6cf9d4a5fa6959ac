"""Phases of a job (UWS 1.1, section 2.1.3)."""

from __future__ import annotations

from pyvospace.model.vocabulary import Phase
from tests.uws.conftest import Jobs


def test_words_of_the_standard() -> None:
    words = "PENDING QUEUED EXECUTING COMPLETED ERROR ABORTED UNKNOWN HELD SUSPENDED ARCHIVED"
    assert {str(phase) for phase in Phase} == set(words.split())
    assert {str(phase) for phase in Phase if phase.final} == {"COMPLETED", "ERROR", "ABORTED", "ARCHIVED"}


async def test_no_results_before_it_executes(jobs: Jobs) -> None:
    for phase in (Phase.PENDING, Phase.QUEUED):
        row = await jobs.row(await jobs.add(phase))
        assert (row.phase, list(row.results)) == (phase, [])
        assert (row.started, row.ended) == (None, None)
