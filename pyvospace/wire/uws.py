"""Job documents (UWS 1.1, section 2.2.2 and appendix B)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvospace.model.faults import FAULTS, InvalidArgument, InvalidData
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.model.jobs import Job, Progress, Result
from pyvospace.model.vocabulary import Phase
from pyvospace.wire import xml
from pyvospace.wire.markup import DECLARATION, attribute, text
from pyvospace.wire.nodes import is_true
from pyvospace.wire.transfers import transfer_element, transfer_of
from pyvospace.wire.xml import UWS, V

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from lxml.etree import _Element as Element

# uws-client reads both prefixes from the root element.
_SPACES = f'xmlns:uws="{UWS}" xmlns:xlink="{xml.XLINK}" xmlns:xsi="{xml.XSI}"'
_U = f"{{{UWS}}}"
PROGRESS = "urn:pyvospace:progress"
"""Namespace of what no standard has a name for."""
_COUNTED = ("bytesDone", "bytesTotal", "filesDone", "filesTotal")
_HREF = f"{{{xml.XLINK}}}href"
_PHASES = {str(one): one for one in Phase}
_TRANSIENT = frozenset({"ServiceBusy", "NodeBusy", "InternalFault"})
"""Faults after which the same job may succeed later."""


def render_job(job: Job) -> bytes:
    """Write a job; ``parameters`` and ``results`` stand there even if they are empty, since uws-client wants them."""
    run_id = f"<uws:runId>{text(job.run_id)}</uws:runId>" if job.run_id is not None else ""
    info = "" if job.transfer is None else transfer_element(job.transfer)
    info += "" if job.progress is None else _progress(job)
    info = f"<uws:jobInfo>{info}</uws:jobInfo>" if info else ""
    return (
        f'{DECLARATION}<uws:job {_SPACES} version="1.1">'
        f"<uws:jobId>{text(job.id)}</uws:jobId>{run_id}{_owner(job)}<uws:phase>{job.phase}</uws:phase>"
        f"{_instant('quote', job.quote)}<uws:creationTime>{write_instant(job.created)}</uws:creationTime>"
        f"{_instant('startTime', job.started)}{_instant('endTime', job.ended)}"
        f"<uws:executionDuration>{job.execution_duration}</uws:executionDuration>"
        f"{_instant('destruction', job.destruction)}"
        f"<uws:parameters>{_parameters(job.parameters)}</uws:parameters>"
        f"<uws:results>{_results(job.results)}</uws:results>"
        f"{_error(job)}{info}</uws:job>\n"
    ).encode()


def _progress(job: Job) -> str:
    """Write how far a job is, in an element of our own: the schema has no place for it but jobInfo."""
    progress = job.progress or Progress()
    counted = {
        "bytesDone": progress.bytes_done,
        "bytesTotal": progress.bytes_total,
        "filesDone": progress.files_done,
        "filesTotal": progress.files_total,
        "bytesPerSecond": None if job.rate is None else round(job.rate),
    }
    told = "".join([f' {name}="{number}"' for name, number in counted.items() if number is not None])
    return f'<pv:progress xmlns:pv="{PROGRESS}"{told}/>'


def jobs_head() -> bytes:
    """Write the beginning of a list of jobs."""
    return f'{DECLARATION}<uws:jobs {_SPACES} version="1.1">'.encode()


def render_references(jobs: Iterable[Job], base: str) -> bytes:
    """Write jobs of a list, in the order given; `base` is the URL of the list, without a slash at its end."""
    return "".join(
        [
            f'\n<uws:jobref id="{attribute(job.id)}" xlink:href="{attribute(f"{base}/{job.id}")}">'
            f"<uws:phase>{job.phase}</uws:phase>"
            f"{f'<uws:runId>{text(job.run_id)}</uws:runId>' if job.run_id is not None else ''}{_owner(job)}"
            f"<uws:creationTime>{write_instant(job.created)}</uws:creationTime></uws:jobref>"
            for job in jobs
        ]
    ).encode()


def jobs_tail() -> bytes:
    """Write the end of a list of jobs."""
    return b"\n</uws:jobs>\n"


def render_results(results: Iterable[Result]) -> bytes:
    """Write the results of a job."""
    return f"{DECLARATION}<uws:results {_SPACES}>{_results(results)}</uws:results>\n".encode()


def render_parameters(parameters: Iterable[tuple[str, str]]) -> bytes:
    """Write the parameters of a job."""
    return f"{DECLARATION}<uws:parameters {_SPACES}>{_parameters(parameters)}</uws:parameters>\n".encode()


def _owner(job: Job) -> str:
    return '<uws:ownerId xsi:nil="true"/>' if job.owner is None else f"<uws:ownerId>{text(job.owner)}</uws:ownerId>"


def _instant(name: str, instant: datetime | None) -> str:
    if instant is None:
        return f'<uws:{name} xsi:nil="true"/>'
    return f"<uws:{name}>{write_instant(instant)}</uws:{name}>"


def _parameters(parameters: Iterable[tuple[str, str]]) -> str:
    return "".join(
        [f'<uws:parameter id="{attribute(name)}">{text(value)}</uws:parameter>' for name, value in parameters]
    )


def _results(results: Iterable[Result]) -> str:
    return "".join([f'<uws:result id="{attribute(one.id)}" xlink:href="{attribute(one.href)}"/>' for one in results])


def _error(job: Job) -> str:
    if job.fault is None and job.message is None:
        return ""
    fault = FAULTS.get(job.fault or "")
    message = job.message if job.message is not None else fault.summary() if fault is not None else job.fault or ""
    kind = "transient" if job.fault in _TRANSIENT else "fatal"
    detail = "true" if job.fault is not None else "false"
    return (
        f'<uws:errorSummary type="{kind}" hasDetail="{detail}"><uws:message>{text(message)}</uws:message>'
        f"</uws:errorSummary>"
    )


def parse_job(body: bytes) -> Job:
    """Read a job that a service sent.

    The name of the fault is not in the document: `Job.fault` stays None, the words are in `Job.message`.

    Raises
    ------
    InvalidData
        It is no job document.
    """
    root = xml.read_answer(body, _U + "job")
    transfer = root.find(f"{_U}jobInfo/{V}transfer")
    progress = root.find(f"{_U}jobInfo/{{{PROGRESS}}}progress")
    results = root.find(_U + "results")
    parameters = root.find(_U + "parameters")
    return Job(
        id=_word(root, "jobId") or "",
        phase=_phase(root),
        owner=_word(root, "ownerId"),
        created=_required(root, "creationTime"),
        execution_duration=_seconds(root),
        destruction=_moment(root, "destruction"),
        started=_moment(root, "startTime"),
        ended=_moment(root, "endTime"),
        quote=_moment(root, "quote"),
        run_id=root.findtext(_U + "runId"),
        message=root.findtext(f"{_U}errorSummary/{_U}message"),
        results=() if results is None else _read_results(results),
        transfer=None if transfer is None else transfer_of(transfer),
        parameters=() if parameters is None else _read_parameters(parameters),
        progress=None if progress is None else Progress(*(_counted(progress, name) for name in _COUNTED)),
        rate=None if progress is None else _counted(progress, "bytesPerSecond"),
    )


def _counted(progress: Element, name: str) -> int | None:
    word = progress.get(name) or ""
    return int(word[:18]) if word.isdecimal() else None


def parse_jobs(body: bytes) -> tuple[Job, ...]:
    """Read a list of jobs that a service sent, as far as it tells of them.

    Raises
    ------
    InvalidData
        It is no list of jobs.
    """
    root = xml.read_answer(body, _U + "jobs")
    return tuple(
        Job(
            id=one.get("id") or "",
            phase=_phase(one),
            owner=_word(one, "ownerId"),
            created=_required(one, "creationTime"),
            run_id=one.findtext(_U + "runId"),
        )
        for one in root.iterfind(_U + "jobref")
    )


def parse_results(body: bytes) -> tuple[Result, ...]:
    """Read the results of a job; InvalidData if it is none."""
    return _read_results(xml.read_answer(body, _U + "results"))


def parse_parameters(body: bytes) -> tuple[tuple[str, str], ...]:
    """Read the parameters of a job; InvalidData if it is none."""
    return _read_parameters(xml.read_answer(body, _U + "parameters"))


def _read_results(element: Element) -> tuple[Result, ...]:
    return tuple(Result(one.get("id") or "", one.get(_HREF) or "") for one in element.iterfind(_U + "result"))


def _read_parameters(element: Element) -> tuple[tuple[str, str], ...]:
    return tuple((one.get("id") or "", one.text or "") for one in element.iterfind(_U + "parameter"))


def _word(element: Element, name: str) -> str | None:
    found = element.find(_U + name)
    if found is None or is_true(found.get(xml.XSI_NIL)):
        return None
    return (found.text or "").strip() or None


def _phase(element: Element) -> Phase:
    word = _word(element, "phase")
    return _PHASES.get(word or "", Phase.UNKNOWN)


def _moment(element: Element, name: str) -> datetime | None:
    word = _word(element, name)
    if word is None:
        return None
    try:
        return read_instant(word)
    except InvalidArgument as fault:
        raise InvalidData(f"{name}: {fault.detail}") from None


def _required(element: Element, name: str) -> datetime:
    moment = _moment(element, name)
    if moment is None:
        raise InvalidData(f"the job has no {name}")
    return moment


def _seconds(element: Element) -> int:
    word = _word(element, "executionDuration") or "0"
    if not word.isdecimal():
        raise InvalidData(f"executionDuration: {word[:100]!r}")
    return int(word[:18])
