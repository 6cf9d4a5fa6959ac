"""The example documents that lie beside the official schemas, if they are there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pyvospace.wire import nodes, service, transfers, uws, vosi
from tests.support.documents import assert_schema, assert_valid, require_official

PARSERS: dict[str, Callable[[bytes], object]] = {
    "availability": vosi.parse_availability,
    "capabilities": vosi.parse_capabilities,
    "jobs": uws.parse_jobs,
    "job": uws.parse_job,
    "node-protocols": service.parse_protocols_request,
    "node": nodes.read_node,
    "parameters": uws.parse_parameters,
    "properties": service.parse_properties,
    "protocols-flat": service.parse_protocols_request,
    "protocols": service.parse_protocols,
    "results": uws.parse_results,
    "transfer": transfers.read_transfer,
    "views": service.parse_views,
}
"""By how the name of the file begins; the first that fits."""


def examples(pattern: str = "*.xml") -> list[Path]:
    found = sorted((require_official().parent / "spec" / "xml-examples").glob(pattern))
    if not found:
        pytest.skip("left out: there are no example documents beside the official schemas")
    return found


def test_every_example_is_read() -> None:
    for path in examples():
        parse = next(parse for start, parse in PARSERS.items() if path.name.startswith(start))
        parse(path.read_bytes())


def test_nodes() -> None:
    for path in examples("node-[!p]*.xml"):
        told = nodes.read_node(path.read_bytes())
        sent = nodes.parse_node(path.read_bytes())
        assert sent == replace(told, nodes=())
        assert_valid(nodes.render_node(told))
        assert nodes.read_node(nodes.render_node(told)) == told


def test_transfers() -> None:
    for path in examples("transfer-*.xml"):
        sent = transfers.parse_transfer(path.read_bytes())
        body = transfers.render_transfer(sent)
        assert_valid(body)
        assert transfers.read_transfer(body) == sent == transfers.read_transfer(path.read_bytes())


def test_jobs() -> None:
    for path in examples("job-*.xml"):
        job = uws.parse_job(path.read_bytes())
        assert_valid(uws.render_job(job))
        assert uws.parse_job(uws.render_job(job)) == job


def test_service() -> None:
    folder = examples()[0].parent
    for name in ("protocols", "views"):
        body = (folder / f"{name}.xml").read_bytes()
        accepts, provides = getattr(service, f"parse_{name}")(body)
        assert accepts
        written = getattr(service, f"render_{name}")(accepts, provides)
        assert_valid(written)
        assert getattr(service, f"parse_{name}")(written) == (accepts, provides)
    properties = service.parse_properties((folder / "properties.xml").read_bytes())
    assert len(properties["contains"]) == 3


def test_examples_are_valid_by_the_official_schemas() -> None:
    """If not, the other tests here would show little."""
    folder = require_official()
    for path in examples():
        official = "bundle.xsd"
        if path.name in {"protocols.xml", "views.xml", "properties.xml", "node-protocols-request.xml"}:
            official = "bundle-service.xsd"
        assert_schema(path.read_bytes(), folder / official)
