"""Failures on the way to a service, besides the faults that the service itself reports."""

from __future__ import annotations

import errno

from pyvospace.model.faults import Fault, ServiceBusy, TransferFailed


class ServiceUnreachable(ServiceBusy):
    """The service gave no answer, or not all of it: network, name, certificate, proxy.

    Parameters
    ----------
    sent
        Whether the request may have reached the service, and so may have had its effect.
    permanent
        Whether trying again cannot help.
    """

    code = "ServiceUnreachable"
    errno = errno.EHOSTUNREACH

    def __init__(self, detail: object = "", *, sent: bool = True, permanent: bool = False) -> None:
        super().__init__(detail, retry_after=0)
        self.sent = sent
        self.permanent = permanent


class ContentChanged(TransferFailed):
    """The bytes became others while they were transferred."""

    code = "ContentChanged"


class JobAborted(Fault):
    """A job of the service was ended before its time: by its owner, or because its time was over."""

    code = "JobAborted"
    errno = errno.ECANCELED
