"""Faults: one class for each, and what follows from it."""

import errno
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model import faults
from pyvospace.model.faults import FAULTS, Fault, fault_of

TABLE = {
    "InternalFault": (500, "Internal Fault"),
    "PermissionDenied": (403, "Permission Denied"),
    "InvalidURI": (400, "Invalid URI"),
    "NodeNotFound": (404, "Node Not Found"),
    "ContainerNotFound": (404, "Container Not Found"),
    "LinkFound": (400, "Link Found"),
    "DuplicateNode": (409, "Duplicate Node"),
    "TypeNotSupported": (400, "Type Not Supported"),
    "InvalidArgument": (400, "Invalid Argument"),
    "ViewNotSupported": (400, "View Not Supported"),
    "ProtocolNotSupported": (400, "Protocol Not Supported"),
    "InvalidData": (400, "Invalid Data"),
    "OperationNotSupported": (400, "Operation Not Supported"),
    "OptionNotSupported": (400, "Option Not Supported"),
    "TransferFailed": (500, "Transfer Failed"),
    "NodeBusy": (409, "Node Busy"),
    "NotAuthenticated": (401, "Not Authenticated"),
    "UnreadableLinkTarget": (404, "Unreadable Link Target"),
    "RequestEntityTooLarge": (413, "Request Entity Too Large"),
    "NodeLocked": (423, "Node Locked"),
    "ServiceBusy": (503, "Service Busy"),
    "checksum mismatch": (412, "Checksum Mismatch"),
}
"""Status and words of errorSummary for the faults of the standard, and for those that its clients know besides."""


def test_table_of_the_standard() -> None:
    for code, (status, words) in TABLE.items():
        fault = FAULTS[code]
        assert (fault.code, fault.status, fault.summary()) == (code, status, words)


def test_every_fault_is_listed_once() -> None:
    classes = {one for one in vars(faults).values() if isinstance(one, type) and issubclass(one, Fault)}
    assert classes - {Fault} == set(FAULTS.values())
    assert all(FAULTS[code].code == code for code in FAULTS)
    assert FAULTS["InternalFault"] is faults.InternalFault


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_follows_from_a_fault(fault: type[Fault]) -> None:
    assert fault.status in HTTPStatus
    assert fault.status >= HTTPStatus.BAD_REQUEST
    assert fault.errno in errno.errorcode
    assert 0 < fault.exit_code < 64
    assert fault.__doc__
    assert fault.summary()[0].isupper()


def test_body() -> None:
    assert str(faults.NodeNotFound("vos://x~y/a")) == "NodeNotFound vos://x~y/a"
    assert str(faults.NodeNotFound()) == "NodeNotFound"
    assert faults.NodeNotFound(12).detail == "12"


def test_what_some_faults_carry() -> None:
    assert faults.LinkFound("a", link="b").link == "b"
    assert faults.NotAuthenticated("a", invalid=True).invalid
    assert faults.MethodNotAllowed("a", allowed=frozenset({"GET"})).allowed == {"GET"}
    assert faults.ServiceBusy("a", retry_after=9).retry_after == 9


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("separator", [" ", ": ", "\n"])
def test_answers_are_read(fault: type[Fault], separator: str) -> None:
    """The standard separates by white space, OpenCADC by a colon."""
    read = fault_of(f"{fault.code}{separator}vos://x~y/a\n", 418)
    assert type(read) is fault
    assert read.detail == "vos://x~y/a"
    assert type(fault_of(fault.code, fault.status)) is fault


@pytest.mark.parametrize(
    ("body", "status", "fault"),
    [
        ("", 404, faults.NotFound),
        ("gone", 409, faults.DuplicateNode),
        ("NodeNotFoundOddly", 403, faults.PermissionDenied),
        ("<html>", 401, faults.NotAuthenticated),
        ("", 423, faults.NodeLocked),
        ("", 503, faults.ServiceBusy),
        ("", 507, faults.InsufficientStorage),
        ("", 500, Fault),
        ("", 502, Fault),
        ("", 418, Fault),
    ],
)
def test_answers_that_name_no_fault(body: str, status: int, fault: type[Fault]) -> None:
    read = fault_of(body, status)
    assert type(read) is fault
    assert read.detail == (body or f"HTTP status {status}")


@given(st.text(), st.integers(100, 999))
def test_any_answer_is_a_fault(body: str, status: int) -> None:
    assert isinstance(fault_of(body, status), Fault)
