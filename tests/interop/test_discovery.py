"""How clients find the service (rows D1 to D10 of what they need)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import vosfs.capabilities
from cadcutils.net.wscapabilities import CapabilitiesReader
from lxml import etree
from pydantic import ValidationError

from pyvospace.config import Settings
from pyvospace.model.vocabulary import CORE, SSO_BASIC, SSO_TOKEN, Direction
from pyvospace.wire.xml import XSI
from tests.interop.machine import Folder, Machine
from tests.support.agents import Agent, children_of, node_document

NODES = "ivo://ivoa.net/std/VOSpace/v2.0#nodes"
TRANSFERS = "ivo://ivoa.net/std/VOSpace/v2.0#transfers"
SYNC = "ivo://ivoa.net/std/VOSpace#sync-2.1"
FILES = "ivo://ivoa.net/std/VOSpace#files-proto"
DELETE = "ivo://ivoa.net/std/VOSpace#recursive-delete-proto"
SET_PROPERTIES = "ivo://ivoa.net/std/VOSpace#recursive-nodeprops-proto"
NEEDED = (
    "ivo://ivoa.net/std/VOSI#capabilities",
    "ivo://ivoa.net/std/VOSI#availability",
    NODES,
    TRANSFERS,
    SYNC,
    FILES,
    DELETE,
    SET_PROPERTIES,
)


@pytest.fixture
async def capabilities(nobody: Agent) -> bytes:
    """The document, which nobody needs to log in for."""
    return (await nobody.send("GET", "/capabilities")).assert_status(200).body


@pytest.mark.clause("D1")
def test_elements_without_a_namespace_and_xsi_on_the_root(capabilities: bytes) -> None:
    root = etree.fromstring(capabilities)
    assert root.nsmap["xsi"] == XSI
    below = [element for element in root.iter() if element is not root]
    assert {element.tag for element in below} == {"capability", "interface", "accessURL", "securityMethod"}


@pytest.mark.clause("D2")
def test_every_capability_can_be_read(capabilities: bytes) -> None:
    for one in etree.fromstring(capabilities):
        standard = urlsplit(one.get("standardID") or "")
        assert standard.scheme
        assert standard.netloc
        assert standard.path
        urls = [url.text for url in one.iterfind("interface/accessURL")]
        assert urls
        assert all((url or "").startswith("http") for url in urls)


@pytest.mark.clause("D3")
def test_what_clients_look_for_is_listed(capabilities: bytes) -> None:
    listed = {one.get("standardID") for one in etree.fromstring(capabilities)}
    assert listed.issuperset(NEEDED)


@pytest.mark.clause("D4")
def test_interfaces_of_the_right_kind(capabilities: bytes) -> None:
    uses = {}
    for one in etree.fromstring(capabilities):
        for interface in one.iterfind("interface"):
            assert interface.get(f"{{{XSI}}}type") == "vs:ParamHTTP"
            assert interface.get("role") == "std"
        uses[one.get("standardID")] = {url.get("use") for url in one.iterfind("interface/accessURL")}
    assert uses[NODES] == uses[FILES] == uses[TRANSFERS] == {"base"}
    assert uses[SYNC] == {"full"}


@pytest.mark.clause("D5")
@pytest.mark.parametrize("method", [None, SSO_TOKEN, SSO_BASIC])
def test_vos_finds_every_service(capabilities: bytes, alice: Agent, method: str | None) -> None:
    found = CapabilitiesReader().parsexml(capabilities)
    methods = [] if method is None else [method]
    for standard, path in (
        (NODES, "nodes"),
        (SYNC, "synctrans"),
        (TRANSFERS, "transfers"),
        (FILES, "files"),
        (DELETE, "async-delete"),
        (SET_PROPERTIES, "async-setprops"),
    ):
        assert found.get_access_url(standard, methods) == f"{alice.pair.url}/{path}"


@pytest.mark.clause("D5")
@pytest.mark.parametrize("method", [vosfs.capabilities.ANONYMOUS_METHOD, vosfs.capabilities.TOKEN_METHOD])
def test_vosfs_finds_every_service(capabilities: bytes, alice: Agent, method: str) -> None:
    found = vosfs.capabilities.parse_bindings(capabilities, security_method=method)
    assert found.require_nodes() == f"{alice.pair.url}/nodes"
    assert found.require_sync() == f"{alice.pair.url}/synctrans"
    assert found.transfers_url == f"{alice.pair.url}/transfers"


@pytest.mark.clause("D6")
async def test_one_origin(capabilities: bytes, alice: Agent, folder: Folder) -> None:
    """Only bytes are elsewhere."""
    urls = [url.text or "" for url in etree.fromstring(capabilities).iterfind("capability/interface/accessURL")]
    job, endpoint = await alice.negotiate(folder.node_path("a"), Direction.PUSH_TO_VOSPACE)
    assert {urlsplit(url)[:2] for url in [*urls, job]} == {urlsplit(alice.pair.url)[:2]}
    assert endpoint.startswith(alice.pair.storage_url)


@pytest.mark.clause("D7")
@pytest.mark.parametrize("authority", ["localhost~space", "localhost!space", "LocalHost!Space"])
async def test_spellings_of_the_authority(alice: Agent, folder: Folder, authority: str) -> None:
    path = folder.node_path("a")
    made = await alice.send("PUT", f"/nodes{path}", node_document(path, uri=f"vos://{authority}{path}"))
    assert made.assert_status(201).xml.get("uri") == f"vos://localhost~space{path}"
    listed = await alice.get(folder.path, uri=f"vos://{authority}{path}", limit=1)
    assert children_of(listed.xml) == ["a"]
    asked = f"TARGET=vos%3A//{authority}{path}&DIRECTION=pushToVoSpace&PROTOCOL={quote(CORE)}httpsput"
    (await alice.send("POST", f"{alice.pair.url}/synctrans?{asked}")).assert_status(200)


@pytest.mark.clause("D7")
@pytest.mark.parametrize("authority", ["localhost!space", "localhost~space"])
def test_spellings_that_users_of_vos_type(machine: Machine, folder: Folder, authority: str) -> None:
    machine.vos("vmkdir", f"vos://{authority}{folder.path}/sub")
    assert machine.vos("vls", f"vos://{authority}{folder.path}").lines == ["sub"]


@pytest.mark.clause("D8")
@pytest.mark.clause("D10")
@pytest.mark.parametrize("path", ["vospace", "vospace/v1", "a/vospace", "files", "a/files/b"])
def test_paths_that_would_lead_clients_astray_are_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="public_url"):
        Settings.model_validate({"metadata": {"public_url": f"https://example.org/{path}"}})
    Settings.model_validate({"metadata": {"public_url": "https://example.org/my-vospace/myfiles"}})


@pytest.mark.clause("D8")
def test_vos_over_tls_below_a_path_in_a_space_named_vault(
    secure_machine: Machine, secure_folder: Folder, fits_file: Path, tmp_path: Path
) -> None:
    """In such a space vos wants a redirect from /files; it trusts no authority of one's own, hence -k."""
    empty = tmp_path / "empty"
    empty.touch()
    for source in (fits_file, empty):
        secure_machine.vos("vcp", "-k", source, secure_folder.vos("a"))
        secure_machine.vos("vcp", "-k", secure_folder.vos("a"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.clause("D9")
async def test_name_of_the_server(alice: Agent) -> None:
    for url in ("/capabilities", f"{alice.pair.storage_url}/livez"):
        assert (await alice.send("GET", url)).headers["Server"] == "pyvospace"


@pytest.mark.clause("D10")
async def test_job_urls_are_no_urls_of_bytes(alice: Agent, folder: Folder) -> None:
    job, endpoint = await alice.negotiate(folder.node_path("a"), Direction.PUSH_TO_VOSPACE)
    assert "files" not in urlsplit(job).path.split("/")
    assert "files" in urlsplit(endpoint).path.split("/")
