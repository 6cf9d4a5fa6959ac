"""pyvo and vo-models, which read what any service of the Virtual Observatory says of itself and of its jobs."""

from __future__ import annotations

from io import BytesIO

import pytest
from pyvo.io import uws, vosi
from vo_models.uws import Jobs as JobsModel
from vo_models.uws import JobSummary, Parameter, Parameters
from vo_models.vosi.availability import Availability
from vo_models.vosi.capabilities import VOSICapabilities

from pyvospace.model.vocabulary import CORE
from tests.interop.machine import Folder
from tests.support.agents import Agent, transfer_document, uri_of
from tests.support.jobs import FORM, make_job, run_job, transfer

NODES = "ivo://ivoa.net/std/VOSpace/v2.0#nodes"


class TargetParameter(Parameters):
    """What a job that deletes a tree was made of."""

    target: Parameter


async def bytes_of(agent: Agent, path: str) -> bytes:
    return (await agent.send("GET", path)).assert_status(200).body


@pytest.mark.clause("D1")
async def test_service(nobody: Agent) -> None:
    document = await bytes_of(nobody, "/capabilities")
    found = {one.standardid: one for one in vosi.parse_capabilities(BytesIO(document))}
    assert [url.content for url in found[NODES].interfaces[0].accessurls] == [f"{nobody.pair.url}/nodes"]
    modelled = VOSICapabilities.from_xml(document)
    assert {str(one.standard_id) for one in modelled.capability} == found.keys()
    document = await bytes_of(nobody, "/availability")
    assert vosi.parse_availability(BytesIO(document)).available
    assert Availability.from_xml(document).available


@pytest.mark.clause("J7")
@pytest.mark.clause("J8")
async def test_jobs(alice: Agent, folder: Folder) -> None:
    for name in ("a", "b"):
        await alice.push(folder.node_path(name), b"bytes")
    source, goal = folder.node_path("a"), folder.node_path("c")
    pending = await make_job(alice, "transfers?RUNID=tonight", transfer(source, goal, keep=True))
    documents = {"PENDING": pending}
    documents["COMPLETED"] = (await run_job(alice, "transfers", transfer(source, goal, keep=False))).url
    documents["ERROR"] = (await run_job(alice, "transfers", transfer(source, goal, keep=False))).url
    push = transfer_document(folder.node_path("d"), "pushToVoSpace", [CORE + "httpsput"])
    documents["EXECUTING"] = await make_job(alice, "transfers?PHASE=RUN", push)
    for phase, url in documents.items():
        body = await bytes_of(alice, url)
        job = uws.parse_job(BytesIO(body))
        assert (job.jobid, job.phase, job.ownerid) == (url.rsplit("/", 1)[1], phase, "alice")
        modelled = JobSummary[Parameters].from_xml(body)
        assert (modelled.job_id, modelled.phase.value, modelled.owner_id) == (job.jobid, phase, "alice")
        assert (modelled.error_summary is not None) == (phase == "ERROR") == (job.errorsummary is not None)
        assert modelled.results is not None
        assert [one.href for one in modelled.results.results or ()] == [one.href for one in job.results]
    listed = await bytes_of(alice, "/transfers?LAST=4")
    names = [url.rsplit("/", 1)[1] for url in reversed(documents.values())]
    assert sorted(one.jobid for one in uws.parse_job_list(BytesIO(listed))) == sorted(names)
    references = JobsModel.from_xml(listed).jobref or []
    assert sorted(one.job_id for one in references) == sorted(names)
    assert {one.run_id for one in references} == {None, "tonight"}
    assert all(one.creation_time and one.href == f"{alice.pair.url}/transfers/{one.job_id}" for one in references)


async def test_parameters(alice: Agent, folder: Folder) -> None:
    job = await make_job(alice, "async-delete", f"target={uri_of(folder.path)}", headers=FORM)
    body = await bytes_of(alice, job)
    modelled = JobSummary[TargetParameter].from_xml(body).parameters
    assert modelled is not None
    assert modelled.target.value == uri_of(folder.path)
    (parsed,) = uws.parse_job(BytesIO(body)).parameters
    assert (parsed.id_, parsed.content) == ("target", uri_of(folder.path))
