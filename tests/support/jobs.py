"""Jobs as clients run them: made, run, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from pyvospace.wire.xml import UWS, VOSPACE
from tests.support.agents import Agent, node_document, uri_of

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

U = f"{{{UWS}}}"
HREF = "{http://www.w3.org/1999/xlink}href"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_PATIENCE = 30.0


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    url: str
    phase: str
    results: Mapping[str, str]
    summary: str
    error: str
    """Name of the fault; empty: none."""

    def assert_moved(self, path: str) -> None:
        """Fail unless the node is at this encoded path now."""
        assert (self.phase, self.results) == ("COMPLETED", {"destination": uri_of(path)}), self

    def assert_error(self, fault: str, *words: str) -> None:
        """Fail unless it is this fault, with these words."""
        assert (self.phase, self.error, self.results) == ("ERROR", fault, {}), self
        assert not [word for word in words if word not in self.summary], self

    def assert_counts(self, phase: str, done: int, refused: int = 0) -> None:
        """Fail unless so many nodes were done with."""
        expected = {"successcount": f"final:{done}"} | ({"errorcount": f"final:{refused}"} if refused else {})
        assert (self.phase, self.results) == (phase, expected), self


async def make_job(agent: Agent, list_: str, body: str, *, headers: Mapping[str, str] | None = None) -> str:
    """Make a job that waits to be run; give its URL."""
    return (await agent.send("POST", f"/{list_}", body, headers=headers)).assert_status(303).location


async def run(agent: Agent, job: str) -> None:
    """Run a job, as vos does."""
    (await agent.send("POST", f"{job}/phase", "phase=RUN", headers=FORM)).assert_status(303)


async def document(agent: Agent, job: str, wait: int | None = None) -> Element:
    """Give the document of a job."""
    return (await agent.send("GET", job if wait is None else f"{job}?WAIT={wait}")).assert_status(200).xml


async def ended(agent: Agent, job: str) -> Ended:
    """Wait for the end of a job that was run."""
    async with asyncio.timeout(_PATIENCE):
        while (root := await document(agent, job, 6)).findtext(U + "phase") in {"QUEUED", "EXECUTING"}:
            pass
    answer = await agent.send("GET", f"{job}/error")
    return Ended(
        url=job,
        phase=root.findtext(U + "phase") or "",
        results={one.get("id") or "": one.get(HREF) or "" for one in root.iterfind(f"{U}results/{U}result")},
        summary=root.findtext(f"{U}errorSummary/{U}message") or "",
        error=answer.text if answer.status == 200 else "",
    )


async def run_job(agent: Agent, list_: str, body: str, *, headers: Mapping[str, str] | None = None) -> Ended:
    """Make a job, run it and wait for its end."""
    job = await make_job(agent, list_, body, headers=headers)
    await run(agent, job)
    return await ended(agent, job)


def transfer(path: str, direction: str, *, keep: bool | None) -> str:
    """Write the document of a move or copy; `path` and `direction` are encoded paths, or URIs."""
    target, goal = (one if one.startswith("vos:") else uri_of(one) for one in (path, direction))
    kept = "" if keep is None else f"<keepBytes>{str(keep).lower()}</keepBytes>"
    return (
        f'<transfer xmlns="{VOSPACE}" version="2.1"><target>{escape(target)}</target>'
        f"<direction>{escape(goal)}</direction>{kept}</transfer>"
    )


async def move(agent: Agent, path: str, direction: str) -> Ended:
    """Move a node."""
    return await run_job(agent, "transfers", transfer(path, direction, keep=False))


async def copy(agent: Agent, path: str, direction: str, *, keep: bool | None = True) -> Ended:
    """Copy a node."""
    return await run_job(agent, "transfers", transfer(path, direction, keep=keep))


async def delete_tree(agent: Agent, path: str) -> Ended:
    """Delete what may be deleted of a tree."""
    return await run_job(agent, "async-delete", urlencode({"target": uri_of(path)}), headers=FORM)


async def set_tree(agent: Agent, path: str, properties: Mapping[str, str | None], kind: str = "ContainerNode") -> Ended:
    """Set properties of a whole tree."""
    return await run_job(agent, "async-setprops", node_document(path, kind, properties=properties))
