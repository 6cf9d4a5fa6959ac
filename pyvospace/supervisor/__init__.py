"""Starting and watching processes: an embedded PostgreSQL, the two servers, their workers."""

from pyvospace.supervisor.errors import SupervisorError

__all__ = ["SupervisorError"]
