"""Jobs that do what they can, piece by piece, and count it (OpenCADC's async-delete and async-setprops)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from pyvospace.db import nodes, rehearsals
from pyvospace.model.callers import StaleCallerError
from pyvospace.model.faults import Fault, PermissionDenied, ServiceBusy
from pyvospace.model.vocabulary import Phase
from pyvospace.server.works.owner import owner_of
from pyvospace.server.works.persisting import persist
from pyvospace.uws import jobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyvospace.db.pool import Connection
    from pyvospace.db.recursive import Piece
    from pyvospace.model.callers import Caller
    from pyvospace.model.jobs import Claimed
    from pyvospace.server.context import Context
    from pyvospace.server.policy import Right

T = TypeVar("T")

PIECE: Final = 1000
"""Nodes that are changed in one transaction, about."""
_MOST_ERRORS: Final = 100
"""With more the job stops."""
_STAYS: Final = "something in it stays"
_ATTEMPTS: Final = 10
"""Starts of a piece while users and groups are changing."""


class TooManyErrorsError(Exception):
    """It is pointless to go on."""


class Tally:
    """What became of the nodes, each counted once.

    What was done is noted in the transaction that does it, so that a worker that takes over counts on; what could not
    be done it meets again.
    """

    def __init__(self, context: Context, claimed: Claimed) -> None:
        self._context = context
        self._caller = context.caller
        self._claimed = claimed
        self._errors = 0
        self._stay: list[int] = []
        if self.rehearsal:  # a worker that takes over has nothing done before it
            claimed.progress.files_done = 0

    @property
    def rehearsal(self) -> bool:
        """Say whether nothing is to be changed (DRYRUN)."""
        return bool(self._claimed.request.get("rehearsal"))

    @property
    def done(self) -> int:
        """How many nodes are done with."""
        return self._claimed.progress.files_done or 0

    async def count(self, connection: Connection, number: int) -> None:
        """Note, in a transaction, that so many more nodes will be done with."""
        await jobs.advance(connection, self._claimed, self.done + number)

    async def piece(self, work: Callable[[Caller], Awaitable[Piece]]) -> Piece:
        """Do a piece as the owner of the job, identified anew if that is necessary; count what was done."""
        for _ in range(_ATTEMPTS):
            try:
                found = await persist(partial(work, self._caller))
            except StaleCallerError:
                self._caller = await owner_of(self._context.service, self._claimed)
                continue
            self._claimed.progress.files_done = self.done + found.done
            return found
        raise ServiceBusy("users and groups are changing; try again")

    def refused(self, piece: Piece) -> None:
        """Count nodes with which it could not be done.

        Raises
        ------
        TooManyErrorsError
            There are more than a hundred by now.
        """
        self._errors += piece.refused
        self._stay += piece.stay
        if self._errors > _MOST_ERRORS:
            raise TooManyErrorsError

    async def settle(self, work: Awaitable[None], right: Right) -> None:
        """Do all there is to do, and end the job: COMPLETED, ABORTED if it was done in part, ERROR if nothing was.

        Parameters
        ----------
        right
            What it takes to do it to a node.

        Raises
        ------
        Fault
            It could not even begin.
        """
        trouble = ""
        try:
            await work
        except TooManyErrorsError:
            trouble = "that was too much"
        except Fault as fault:
            if not self.done:
                raise
            trouble = str(fault)
        await self._end(" ".join([trouble, *await self._reasons(right)]).strip())

    async def _reasons(self, right: Right) -> list[str]:
        """Say of the first nodes with which it could not be done why, as far as the owner of the job sees them."""
        if not self._stay:
            return []
        told = []
        policy = self._context.policy
        for names in await rehearsals.names(self._context.database, self._stay[: rehearsals.SHOWN]):
            decision = policy.explain(right, await nodes.resolve(self._context.database, self._context.caller, names))
            if decision.rule != "way":
                words = _STAYS if decision.allowed else f"{decision.rule}: {decision.words}"
                told.append(f"[{self._context.uri(names)} {words}]")
        return told

    async def _end(self, trouble: str) -> None:
        results, words = [("successcount", f"final:{self.done}")], [trouble] if trouble else []
        if self.rehearsal:
            results.append(("dryrun", "final:true"))
        if self._errors:
            results.append(("errorcount", f"final:{self._errors}"))
            words.insert(0, f"{self._errors} nodes are locked, or not the caller's to change")
        database, message = self._context.database, "; ".join(words)
        if not message:
            await jobs.end(database, self._claimed, Phase.COMPLETED, results=results)
        elif self.done:
            await jobs.end(database, self._claimed, Phase.ABORTED, results=results, message=message)
        else:
            await jobs.end(database, self._claimed, Phase.ERROR, results=results, fault=PermissionDenied(message))
