"""StructuredDataNode: what it accepts and provides, and computed views (R-NODE-013, R-VIEW-009, R-VIEW-012)."""

from __future__ import annotations

import io
import json
import zipfile
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from astropy.io import fits

from pyvospace.model.vocabulary import CORE, ZIP_VIEW
from pyvospace.structures.fits import EXTNAME, EXTVER, HEADERS, HEADERS_JSON, NUMBER, SINGLE, Fits
from pyvospace.structures.votable import CSV, TABLE, VOTable
from pyvospace.wire.xml import V
from tests.server.conftest import READERS
from tests.structures.test_fits import FILE
from tests.structures.test_votable import DOCUMENT
from tests.support.agents import Agent, Answer, endpoints_of, properties_of, transfer_document, type_of, uri_of

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
GET, PUT = CORE + "httpsget", CORE + "httpsput"
BYTES = [CORE + "anyview", CORE + "binaryview"]
IMPORTS = [Fits.import_view, VOTable.import_view]


async def views(agent: Agent, path: str) -> tuple[list[str], list[str]]:
    """Give what a node accepts and provides."""
    node = await agent.node(path)
    accepts, provides = (
        [one.get("uri") or "" for one in node.iterfind(f"{V}{name}/{V}view")] for name in ("accepts", "provides")
    )
    return accepts, provides


async def bring(agent: Agent, path: str, data: bytes, view: str | None = None) -> Answer:
    """Push bytes, in a view."""
    answer = (await agent.sync(path, PUSH, PUT, view=view)).assert_status(303)
    (endpoint,) = endpoints_of((await agent.send("GET", answer.location)).xml)
    return await agent.send("PUT", endpoint, data)


async def ask(agent: Agent, path: str, view: str, **params: str) -> Answer:
    """Negotiate a view by document."""
    given = {param.uri: params[name] for name, param in PARAMS.items() if name in params}
    return await agent.send("POST", "/synctrans", transfer_document(path, PULL, [GET], view=view, view_params=given))


PARAMS = {"hdu": NUMBER, "extname": EXTNAME, "extver": EXTVER, "table": TABLE}


async def fetch(agent: Agent, path: str, view: str, **params: str) -> Answer:
    """Fetch a view."""
    details = await agent.send("GET", (await ask(agent, path, view, **params)).assert_status(303).location)
    (endpoint,) = endpoints_of(details.xml)
    return await agent.send("GET", endpoint)


async def refused(agent: Agent, answer: Answer) -> str:
    """Give the fault of a job that was refused."""
    return await agent.error(answer.assert_status(303).location.removesuffix("/results/transferDetails"))


@pytest.fixture
async def image(alice: Agent, folder: str) -> str:
    """Path of a StructuredDataNode with a FITS file."""
    path = await alice.make(f"{folder}/image.fits", "StructuredDataNode")
    await alice.push(path, FILE)
    return path


async def test_accepts_and_provides(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a", "StructuredDataNode")
    assert await views(alice, path) == (BYTES + IMPORTS, [])
    for data, kind in ((FILE, Fits), (DOCUMENT, VOTable)):
        await alice.push(path, data)
        computed = [view.uri for view in kind.views]
        assert await views(alice, path) == (BYTES + IMPORTS, [CORE + "defaultview", CORE + "binaryview", *computed])
        assert await alice.pull(path) == data
    await alice.push(path, b"of no structure")
    assert await views(alice, path) == (BYTES + IMPORTS, [CORE + "defaultview", CORE + "binaryview"])
    node = await alice.node(path)
    assert type_of(node) == "StructuredDataNode"


async def test_computed_views_are_no_originals(alice: Agent, image: str) -> None:
    node = await alice.node(image)
    found = {one.get("uri"): one.get("original") for one in node.iterfind(f"{V}provides/{V}view")}
    assert {found[view.uri] for view in Fits.views} == {"false"}
    assert found[CORE + "binaryview"] != "false"


@pytest.mark.parametrize("kind", ["DataNode", "UnstructuredDataNode"])
async def test_other_data_nodes_have_views_of_bytes_only(alice: Agent, folder: str, kind: str) -> None:
    path = await alice.make(f"{folder}/a", kind)
    await alice.push(path, FILE)
    assert await views(alice, path) == (BYTES, [CORE + "defaultview", CORE + "binaryview"])
    assert await refused(alice, await ask(alice, path, HEADERS.uri)) == "ViewNotSupported"
    assert await refused(alice, await alice.sync(path, PUSH, PUT, view=Fits.import_view)) == "ViewNotSupported"


async def test_views_of_a_fits_file(alice: Agent, image: str) -> None:
    answer = (await fetch(alice, image, HEADERS.uri)).assert_status(200)
    assert answer.headers["Content-Type"] == HEADERS.media_type
    assert 'filename="image.headers.txt"' in answer.headers["Content-Disposition"]
    assert answer.text.startswith("# HDU 0\nSIMPLE  =")
    assert len(json.loads((await fetch(alice, image, HEADERS_JSON.uri)).text)) == 5
    for params in ({"hdu": "2"}, {"extname": "sci", "extver": "2"}):
        with fits.open(io.BytesIO((await fetch(alice, image, SINGLE.uri, **params)).body)) as hdus:
            assert np.array_equal(hdus[1].data, np.zeros((5, 5)))


async def test_parameter_form(alice: Agent, image: str) -> None:
    asked = {"TARGET": uri_of(image), "DIRECTION": PULL, "PROTOCOL": GET, "VIEW": HEADERS.uri}
    answer = await alice.send("GET", f"/synctrans?{urlencode(asked, quote_via=quote)}")
    assert (await alice.send("GET", answer.assert_status(303).location)).text.startswith("# HDU 0")
    asked |= {"VIEW": SINGLE.uri, "ExtName": "sci", "EXTVER": "2"}
    answer = await alice.send("GET", f"/synctrans?{urlencode(asked, quote_via=quote)}")
    with fits.open(io.BytesIO((await alice.send("GET", answer.assert_status(303).location)).body)) as hdus:
        assert hdus[1].ver == 2
    asked["EXTVER"] = "two"
    (await alice.send("GET", f"/synctrans?{urlencode(asked, quote_via=quote)}")).assert_fault(400, "InvalidArgument")
    asked["VIEW"] = CSV.uri
    (await alice.send("GET", f"/synctrans?{urlencode(asked, quote_via=quote)}")).assert_fault(400, "ViewNotSupported")


async def test_job_of_a_view(alice: Agent, image: str) -> None:
    """The job completes with the first delivery, and its endpoint dies with it."""
    answer = await ask(alice, image, HEADERS.uri)
    job = answer.location.removesuffix("/results/transferDetails")
    details = (await alice.send("GET", answer.location)).xml
    (view,) = details.iterfind(V + "view")
    assert view.get("uri") == HEADERS.uri
    (endpoint,) = endpoints_of(details)
    assert await alice.phase(job) == "EXECUTING"
    (await alice.send("GET", endpoint)).assert_status(200)
    while await alice.phase(job) != "COMPLETED":  # it is recorded behind the last byte
        pass
    (await alice.send("PUT", endpoint, b"x")).assert_fault(403, "PermissionDenied")


async def test_asynchronous_transfer(alice: Agent, image: str) -> None:
    document = transfer_document(image, PULL, [GET], view=SINGLE.uri, view_params={NUMBER.uri: "1"})
    job = (await alice.send("POST", "/transfers", document)).assert_status(303).location
    (await alice.send("POST", f"{job}/phase", "PHASE=RUN", headers=FORM)).assert_status(303)
    (endpoint,) = endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml)
    with fits.open(io.BytesIO((await alice.send("GET", endpoint)).assert_status(200).body)) as hdus:
        assert hdus[1].name == "SCI"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("params", [{"hdu": "one"}, {"table": "1"}, {"hdu": "-1"}])
async def test_bad_parameters_of_views(alice: Agent, image: str, params: dict[str, str]) -> None:
    assert await refused(alice, await ask(alice, image, SINGLE.uri, **params)) == "InvalidArgument"


async def test_what_only_the_bytes_can_tell(alice: Agent, image: str) -> None:
    (await fetch(alice, image, SINGLE.uri, hdu="7")).assert_fault(400, "InvalidArgument")
    _, endpoint = await alice.negotiate(image, PULL)
    answer = (await ask(alice, image, HEADERS.uri)).assert_status(303)
    (endpoint,) = endpoints_of((await alice.send("GET", answer.location)).xml)
    await alice.push(image, DOCUMENT)
    (await alice.send("GET", endpoint)).assert_fault(400, "ViewNotSupported")
    await alice.push(image, FILE[:2000])
    (await fetch(alice, image, HEADERS.uri)).assert_fault(400, "InvalidData")


async def test_import_view_makes_a_structured_node(alice: Agent, folder: str) -> None:
    (await bring(alice, f"{folder}/new", FILE, Fits.import_view)).assert_status(201)
    node = await alice.node(f"{folder}/new")
    assert type_of(node) == "StructuredDataNode"
    assert (await fetch(alice, f"{folder}/new", HEADERS.uri)).text.startswith("# HDU 0")


async def test_import_view_is_a_promise(alice: Agent, folder: str, image: str) -> None:
    for data in (DOCUMENT, FILE[:8700], b""):
        (await bring(alice, image, data, Fits.import_view)).assert_fault(400, "InvalidData")
        (await bring(alice, f"{folder}/new", data, Fits.import_view)).assert_fault(400, "InvalidData")
    assert await alice.pull(image) == FILE
    assert (await fetch(alice, image, HEADERS.uri)).text.startswith("# HDU 0")
    (await alice.get(f"{folder}/new")).assert_fault(404, "NodeNotFound")
    assert await refused(alice, await alice.sync(image, PUSH, PUT, view=HEADERS.uri)) == "ViewNotSupported"


async def test_node_made_meanwhile_keeps_its_type(alice: Agent, folder: str) -> None:
    answer = (await alice.sync(f"{folder}/new", PUSH, PUT, view=Fits.import_view)).assert_status(303)
    (endpoint,) = endpoints_of((await alice.send("GET", answer.location)).xml)
    await alice.make(f"{folder}/new")
    (await alice.send("PUT", endpoint, FILE)).assert_fault(400, "ViewNotSupported")
    node = await alice.node(f"{folder}/new")
    assert (type_of(node), properties_of(node)[CORE + "length"]) == ("DataNode", "0")


async def test_rights(alice: Agent, carl: Agent, nobody: Agent, shared: str) -> None:
    path = await alice.make(f"{shared}/a.fits", "StructuredDataNode", properties={CORE + "groupread": READERS})
    await alice.push(path, FILE)
    answer = (await ask(carl, path, HEADERS.uri)).assert_status(303)
    (endpoint,) = endpoints_of((await carl.send("GET", answer.location)).xml)
    (await carl.send("GET", endpoint)).assert_status(200)
    (await ask(nobody, path, HEADERS.uri)).assert_fault(401, "NotAuthenticated")
    (await alice.post(path, "StructuredDataNode", properties={CORE + "groupread": ""})).assert_status(200)
    (await carl.send("GET", endpoint)).assert_fault(403, "PermissionDenied")
    assert await refused(carl, await ask(carl, path, HEADERS.uri)) == "PermissionDenied"


async def test_views_of_the_service(alice: Agent) -> None:
    answer = (await alice.send("GET", "/views")).assert_status(200).xml
    told = {name: {one.get("uri") for one in answer.iterfind(f"{V}{name}/{V}view")} for name in ("accepts", "provides")}
    assert set(IMPORTS) <= told["accepts"]
    assert {view.uri for kind in (Fits, VOTable) for view in kind.views} <= told["provides"]


async def test_structure_of_bytes_out_of_an_archive(alice: Agent, folder: str, image: str) -> None:
    for data, kind in ((DOCUMENT, VOTable), (b"of no structure", None)):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("image.fits", data)
        (await bring(alice, folder, archive.getvalue(), ZIP_VIEW)).assert_status(201)
        computed = [view.uri for view in kind.views] if kind else []
        assert await views(alice, image) == (BYTES + IMPORTS, [CORE + "defaultview", CORE + "binaryview", *computed])
        assert await alice.pull(image) == data


async def test_copy_and_move_keep_the_structure(alice: Agent, folder: str, image: str) -> None:
    for name, keep in (("copy", "true"), ("moved", "false")):
        document = transfer_document(image, uri_of(f"{folder}/{name}"), []).replace(
            "</direction>", f"</direction><keepBytes>{keep}</keepBytes>"
        )
        (await alice.send("POST", "/synctrans", document)).assert_status(303)
        assert (await fetch(alice, f"{folder}/{name}", HEADERS.uri)).text.startswith("# HDU 0")
