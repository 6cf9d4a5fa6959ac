"""STILTS, which knows the official schemas of everything but VOSpace itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.interop.machine import Folder, Machine
from tests.support.agents import Agent
from tests.support.jobs import make_job, run_job, transfer

pytestmark = pytest.mark.skipif(
    shutil.which("stilts") is None, reason="STILTS is not installed (apt-get install stilts)"
)


def test_taplint(stranger: Machine) -> None:
    """Its stages that concern any service: capabilities and availability against their schemas."""
    told = stranger.run("stilts", "taplint", "stages=CPV AVV", "interface=tap1.1", f"tapurl={stranger.url}").out
    assert told.count("SAX report: warnings 0, errors 0, fatal 0") == 2
    assert "Totals: Errors: 0; Warnings: 0;" in told
    assert told.rstrip().endswith("Failures: 0")


async def test_xsdvalidate(stranger: Machine, alice: Agent, folder: Folder, tmp_path: Path) -> None:
    """Documents of the service and of jobs in several phases; it ends with 1 if one is not valid."""
    source, goal = folder.node_path("a"), folder.node_path("b")
    pending = await make_job(alice, "transfers?RUNID=a%26b", transfer(source, goal, keep=True))
    failed = (await run_job(alice, "transfers", transfer(source, goal, keep=True))).url
    paths = [
        "/capabilities",
        "/availability",
        "/transfers",
        pending,
        failed,
        f"{pending}/results",
        f"{pending}/parameters",
    ]
    documents = [tmp_path / f"{number}.xml" for number in range(len(paths))]
    for path, file in zip(paths, documents, strict=True):
        file.write_bytes((await alice.send("GET", path)).assert_status(200).body)
    script = 'for file; do stilts xsdvalidate uselocals=true doc="$file" || exit 1; done'
    assert stranger.run("sh", "-c", script, "sh", *documents).out == ""
    documents[0].write_text(documents[0].read_text().replace("</capability>", "<odd/></capability>"))
    assert "odd" in stranger.run("stilts", "xsdvalidate", "uselocals=true", f"doc={documents[0]}", code=1).out
