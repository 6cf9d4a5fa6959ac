"""Job documents."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings

from pyvospace.model.faults import InvalidData
from pyvospace.model.jobs import Job, Result
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.vocabulary import HTTP_PUT, Direction, Phase
from pyvospace.wire import uws as wire
from pyvospace.wire.xml import XSI_NIL
from tests.support.documents import assert_valid
from tests.support.strategies import jobs

NOW = datetime(2026, 3, 1, 9, 0, 2, 125_000, tzinfo=UTC)
JOB = Job("7c1f", Phase.PENDING, None, NOW)
U = "{http://www.ivoa.net/xml/UWS/v1.0}"


def render_jobs(jobs: list[Job], base: str) -> bytes:
    return wire.jobs_head() + wire.render_references(jobs, base) + wire.jobs_tail()


@given(jobs)
def test_round_trip(job: Job) -> None:
    assert wire.parse_job(wire.render_job(job)) == replace(job, fault=None)


@settings(max_examples=25)
@given(jobs)
def test_answers_are_valid(job: Job) -> None:
    assert_valid(wire.render_job(job))
    assert_valid(render_jobs([job], "https://example.org/transfers"))
    assert_valid(wire.render_results(job.results))
    assert_valid(wire.render_parameters(job.parameters))


def test_what_uws_client_needs() -> None:
    """J7: all these elements even if there is nothing to say."""
    root = assert_valid(wire.render_job(JOB))
    assert [child.tag.removeprefix(U) for child in root] == [
        "jobId", "ownerId", "phase", "quote", "creationTime", "startTime", "endTime", "executionDuration",
        "destruction", "parameters", "results",
    ]  # fmt: skip
    for name in ("ownerId", "quote", "startTime", "endTime", "destruction"):
        element = root.find(U + name)
        assert element is not None
        assert element.get(XSI_NIL) == "true"
    assert root.findtext(U + "creationTime") == "2026-03-01T09:00:02.125Z"
    assert root.get("version") == "1.1"


def test_job_with_everything() -> None:
    transfer = Transfer("vos://x~y/a", Direction.PUSH_TO_VOSPACE, protocols=(Protocol(HTTP_PUT),), version="2.1")
    job = Job(
        id="7c1f",
        phase=Phase.ERROR,
        owner="alice",
        created=NOW,
        execution_duration=3600,
        destruction=NOW,
        started=NOW,
        ended=NOW,
        quote=NOW,
        run_id="night <42>",
        fault="NodeNotFound",
        message="Node Not Found: vos://x~y/a",
        results=(Result("transferDetails", "https://h/transfers/7c1f/results/transferDetails"),),
        transfer=transfer,
        parameters=(("TARGET", "vos://x~y/a"),),
    )
    root = assert_valid(wire.render_job(job))
    assert [child.tag.removeprefix(U) for child in root] == [
        "jobId", "runId", "ownerId", "phase", "quote", "creationTime", "startTime", "endTime", "executionDuration",
        "destruction", "parameters", "results", "errorSummary", "jobInfo",
    ]  # fmt: skip
    summary = root.find(U + "errorSummary")
    assert summary is not None
    assert (summary.get("type"), summary.get("hasDetail")) == ("fatal", "true")
    assert wire.parse_job(wire.render_job(job)) == replace(job, fault=None)


@pytest.mark.parametrize(
    ("fault", "message", "words", "kind", "detail"),
    [
        ("NodeNotFound", None, "Node Not Found", "fatal", "true"),
        ("InvalidURI", None, "Invalid URI", "fatal", "true"),
        ("ServiceBusy", "later", "later", "transient", "true"),
        ("OddFault", None, "OddFault", "fatal", "true"),
        (None, "aborted", "aborted", "fatal", "false"),
    ],
)
def test_error_summary(fault: str | None, message: str | None, words: str, kind: str, detail: str) -> None:
    root = assert_valid(wire.render_job(replace(JOB, phase=Phase.ERROR, fault=fault, message=message)))
    summary = root.find(U + "errorSummary")
    assert summary is not None
    assert summary.findtext(U + "message") == words
    assert (summary.get("type"), summary.get("hasDetail")) == (kind, detail)


def test_list_of_jobs() -> None:
    body = render_jobs([JOB, replace(JOB, id="2", owner="bob", run_id="r")], "https://h/transfers")
    root = assert_valid(body)
    assert [one.get("{http://www.w3.org/1999/xlink}href") for one in root] == [
        "https://h/transfers/7c1f",
        "https://h/transfers/2",
    ]
    assert wire.parse_jobs(body) == (JOB, replace(JOB, id="2", owner="bob", run_id="r"))
    assert wire.parse_jobs(render_jobs([], "https://h/transfers")) == ()


def test_results_and_parameters() -> None:
    results = (Result("successcount", "final:4"), Result("a&b", "https://h/?a&b"))
    assert wire.parse_results(wire.render_results(results)) == results
    parameters = (("TARGET", " vos://x~y/a\r\n"), ("b", ""))
    assert wire.parse_parameters(wire.render_parameters(parameters)) == parameters


def test_jobs_of_other_services() -> None:
    """OpenCADC writes no time zone; a new phase is unknown to us."""
    body = wire.render_job(JOB).replace(b".125Z", b".125").replace(b"PENDING", b"DREAMING")
    assert wire.parse_job(body) == replace(JOB, phase=Phase.UNKNOWN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"2026-03-01T09:00:02.125Z", b"yesterday"),
        (b"<uws:creationTime>2026-03-01T09:00:02.125Z</uws:creationTime>", b""),
        (b"<uws:executionDuration>0<", b"<uws:executionDuration>-1<"),
        (b"<uws:job ", b"<uws:jab "),
        (b"</uws:job>", b""),
    ],
)
def test_jobs_that_are_none(old: bytes, new: bytes) -> None:
    body = wire.render_job(JOB)
    assert old in body
    with pytest.raises(InvalidData):
        wire.parse_job(body.replace(old, new))
