"""A VOSpace from outside: `Space` for coroutines, `pyvospace.client.sync.Space` for everybody else."""

from pyvospace.client.access import Access, Spaces, find_spaces
from pyvospace.client.conditions import Condition
from pyvospace.client.failures import ContentChanged, JobAborted, ServiceUnreachable
from pyvospace.client.http import Timeouts
from pyvospace.client.jobs import Counts, JobList, JobReference
from pyvospace.client.reader import Reader
from pyvospace.client.retry import Retry
from pyvospace.client.shares import Share
from pyvospace.client.space import Space, connect
from pyvospace.client.upload import Stored

__all__ = [
    "Access",
    "Condition",
    "ContentChanged",
    "Counts",
    "JobAborted",
    "JobList",
    "JobReference",
    "Reader",
    "Retry",
    "ServiceUnreachable",
    "Share",
    "Space",
    "Spaces",
    "Stored",
    "Timeouts",
    "connect",
    "find_spaces",
]
