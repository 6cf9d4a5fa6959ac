"""Search a tree, and keep what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.db import search as rows
from pyvospace.model.crash import crash_point
from pyvospace.model.jobs import LostJobError
from pyvospace.model.searches import Position
from pyvospace.model.vocabulary import Phase
from pyvospace.server.operations import search
from pyvospace.server.operations.jobs import job_url
from pyvospace.server.operations.search import SEARCHES
from pyvospace.uws import jobs

if TYPE_CHECKING:
    from pyvospace.model.jobs import Claimed
    from pyvospace.server.context import Context

_NUMBER: Final = "final:{}"
"""How results of jobs say a number, as at OpenCADC."""


async def run(context: Context, claimed: Claimed) -> None:
    """Do the work of a job of the list ``searches``.

    What is found is kept page by page, so that nothing long is ever in memory or in a transaction; the job shows it
    when it is complete.
    """
    settings = context.service.settings
    wanted = search.read(context, claimed.request["parameters"], besides=())
    limit = min(wanted.limit or settings.jobs.found, settings.jobs.found)
    await rows.start(context.database, claimed.id)
    after: Position | None = Position()
    number = 0
    while after is not None and number < limit:
        page = await search.page(context, wanted, after, limit=min(settings.limits.page, limit - number))
        if page.hits and not await rows.keep(context.database, claimed, page.hits, behind=number):
            raise LostJobError(claimed.id)
        crash_point("search-mid")
        after = page.after
        number += len(page.hits)
        claimed.progress.files_done = number
    results = [("searchDetails", f"{job_url(context, SEARCHES, claimed.id)}/results/searchDetails")]
    results.append(("count", _NUMBER.format(number)))
    if after is not None:
        results.append(("incomplete", _NUMBER.format("true")))
    await jobs.end(context.database, claimed, Phase.COMPLETED, results=results)
