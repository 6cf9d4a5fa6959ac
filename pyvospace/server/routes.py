"""Every resource of the metadata server, in one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.server.handlers import (
    administration,
    entries,
    files,
    gms,
    logins,
    nodes,
    permissions,
    recalls,
    recursive,
    search,
    service,
    transfers,
    versions,
)
from pyvospace.server.handlers import audit as audit_log
from pyvospace.server.handlers.jobs import CHANGED_PARTS, PARTS, JobList
from pyvospace.server.handlers.requests import expect
from pyvospace.server.operations.jobs import TRANSFERS
from pyvospace.server.operations.search import SEARCHES
from pyvospace.service.challenges import LOGIN

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    _Route = tuple[str, str, Handler]
    _Expect = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

_PATH: Final = "{path:(?s:.*)}"
"""Also with a line end in it, so that we are asked and refuse it ourselves."""
_LISTS: Final = (
    JobList(TRANSFERS, transfers.create),
    JobList(SEARCHES, search.create),
    JobList(recursive.DELETIONS, recursive.create_deletion),
    JobList(recursive.SETTINGS, recursive.create_setting),
    JobList(recalls.RECALLS, recalls.create),
)
"""Every list of jobs."""
_OF_NODES: Final[tuple[_Route, ...]] = (
    ("GET HEAD", "/nodes", nodes.get),
    ("PUT", "/nodes", nodes.put),
    ("POST", "/nodes", nodes.post),
    ("DELETE", "/nodes", nodes.delete),
    ("GET HEAD", "/files", files.get),
    ("PUT", "/files", files.put),
    ("GET HEAD", f"/{entries.ENTRIES}", entries.get),
    ("GET HEAD", "/versions", versions.get),
    ("POST", "/versions", versions.post),
    ("DELETE", "/versions", versions.delete),
)
"""Those with the path of a node behind them."""
_OTHERS: Final[tuple[_Route, ...]] = (
    ("GET", "/synctrans", transfers.get_sync),
    ("POST", "/synctrans", transfers.post_sync),
    ("POST", f"/{transfers.PACKAGES}", transfers.post_package),
    ("GET HEAD", f"/{transfers.PACKAGES}/{{job}}/run", transfers.get_package),
    ("GET HEAD", "/transfers/{job}/results/transferDetails", transfers.get_details),
    ("GET HEAD", "/permissions", permissions.get),
    ("GET HEAD", "/audit", audit_log.get),
    ("GET HEAD", "/search", search.get),
    ("GET HEAD", f"/{SEARCHES}/{{job}}/results/searchDetails", search.get_details),
    ("GET POST", f"/{LOGIN}", logins.log_in),
    ("DELETE", f"/{LOGIN}", logins.log_out),
    ("GET HEAD", "/profile/tokens", logins.tokens),
    ("POST", "/profile/tokens", logins.create_token),
    ("DELETE", "/profile/tokens/{token:[0-9]{1,18}}", logins.revoke_token),
    ("GET HEAD", "/capabilities", service.capabilities),
    ("GET HEAD", "/availability", service.availability),
    ("POST", "/availability", service.set_state),
    ("GET HEAD", "/protocols", service.protocols),
    ("GET HEAD", "/views", service.views),
    ("GET HEAD", "/properties", service.properties),
    ("GET HEAD", f"/{gms.GMS}", gms.search),
    ("GET HEAD", f"/{gms.GMS}/{{group}}", gms.member),
    ("GET HEAD", "/livez", service.live),
    ("GET HEAD", "/readyz", service.ready),
)
_EXPECTED: Final[Mapping[Handler, _Expect]] = {files.put: files.leave_body}
"""Handlers that do not want the body."""


def add_routes(app: web.Application, base: str) -> None:
    """Add every resource, below the path `base`."""
    for methods, path, handler in _routes():
        for method in methods.split():
            app.router.add_route(method, base + path, handler, expect_handler=_EXPECTED.get(handler, expect))


def _routes() -> Iterator[_Route]:
    for methods, path, handler in _OF_NODES:
        yield methods, path, handler
        yield methods, f"{path}/{_PATH}", handler
    yield from _OTHERS
    for jobs in _LISTS:
        yield from _of_jobs(jobs)
    for route, handler in administration.HANDLERS.items():
        yield "GET HEAD" if route.method == "GET" else route.method, route.path, handler


def _of_jobs(jobs: JobList) -> Iterator[_Route]:
    """Give the resources of a list (UWS 1.1, section 2.2)."""
    yield "GET HEAD", f"/{jobs.name}", jobs.get
    yield "POST", f"/{jobs.name}", jobs.post
    yield "GET HEAD", f"/{jobs.name}/{{job}}", jobs.job
    yield "POST", f"/{jobs.name}/{{job}}", jobs.post_job
    yield "DELETE", f"/{jobs.name}/{{job}}", jobs.delete
    yield "GET HEAD", f"/{jobs.name}/{{job}}/{{part:{PARTS}}}", jobs.part
    yield "POST", f"/{jobs.name}/{{job}}/{{part:{CHANGED_PARTS}}}", jobs.post_part
