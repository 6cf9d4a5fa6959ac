"""Views that a storage server computes: headers, faults, cut connections, bounded memory and time."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
from aiohttp import ClientSession
from astropy.io import fits

from pyvospace.config import Settings
from pyvospace.model.nodes import Param
from pyvospace.storage.backend import ByteRange, Download, DownloadJob, FileBytes, Redirect, StreamBytes
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.structures import Bytes, Rendering, StructuredType, StructuredView
from pyvospace.structures.fits import HEADERS, HEADERS_JSON, NUMBER, SINGLE, Fits
from pyvospace.structures.votable import CSV, VOTable
from tests.storage.serving import Server, make_settings, serving, stored
from tests.structures.test_fits import FILE
from tests.structures.test_votable import DOCUMENT

FITS_VIEW = Fits.import_view


class Streaming(PosixBackend):
    """Gives bytes in pieces, as an object store does."""

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        found = await super().download(job, byte_range)
        assert isinstance(found, FileBytes)
        span = byte_range or ByteRange(0, job.size)
        with found.file as file:
            file.seek(found.offset + span.start)
            data = file.read(span.length)

        async def pieces() -> AsyncIterator[bytes]:
            for place in range(0, len(data), 1000):
                await asyncio.sleep(0)
                yield data[place : place + 1000]

        return StreamBytes(pieces())


class Elsewhere(PosixBackend):
    """Sends readers away."""

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        del job, byte_range
        return Redirect("http://127.0.0.1:9/")


async def view(
    server: Server, one: StructuredView, method: str = "GET", **params: str
) -> tuple[int, dict[str, str], bytes]:
    """Ask for a view of node 1, as a client of HTTP."""
    server.catalogue.view = one.uri
    known = {param.uri.rpartition("#")[2]: param.uri for param in one.params}
    server.catalogue.params = tuple(Param(known[name], value) for name, value in params.items())
    async with ClientSession() as session, session.request(method, f"{server.url}/files/render-1/x") as response:
        return response.status, {name.lower(): text for name, text in response.headers.items()}, await response.read()


async def bring(server: Server, data: bytes, import_view: str | None = None) -> int:
    server.catalogue.structured = True
    server.catalogue.import_view = import_view
    return (await server.put(data)).status


async def test_headers_of_the_answer(storage_server: Server) -> None:
    assert await bring(storage_server, FILE) == 201
    status, headers, body = await view(storage_server, HEADERS)
    assert (status, body[:7]) == (200, b"# HDU 0")
    assert headers["content-type"] == "text/plain"
    assert 'filename="data.headers.txt"' in headers["content-disposition"]
    assert headers["accept-ranges"] == "none"
    assert "digest" not in headers
    _, headers, body = await view(storage_server, SINGLE, hdu="1")
    assert (headers["content-type"], int(headers["content-length"])) == ("application/fits", len(body))
    assert 'filename="data.hdu1.fits"' in headers["content-disposition"]
    with fits.open(io.BytesIO(body)) as hdus:
        assert np.array_equal(hdus["SCI"].data, np.ones((5, 5)))
    status, headers, body = await view(storage_server, HEADERS_JSON, "HEAD")
    assert (status, headers["content-type"], body) == (200, "application/json", b"")


async def test_no_ranges(storage_server: Server) -> None:
    await bring(storage_server, FILE)
    storage_server.catalogue.view = HEADERS.uri
    connection = await storage_server.connect()
    await connection.send(connection.head("GET", "/files/render-1/x", {"Range": "bytes=0-9", "Connection": "close"}))
    head = (await connection.reader.read()).split(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Content-Range" not in head


async def test_bytes_stay_as_they_are(storage_server: Server) -> None:
    for data in (FILE, DOCUMENT, FILE[:-2000], b"no structure"):
        assert await bring(storage_server, data) == 201
        assert (await storage_server.get()).body == data


@pytest.mark.parametrize(("data", "structure"), [(FILE, "fits"), (DOCUMENT, "votable"), (b"x", None), (b"", None)])
async def test_structure_is_found_out(storage_server: Server, data: bytes, structure: str | None) -> None:
    await bring(storage_server, data)
    found = storage_server.catalogue.node(1).stored
    assert found is not None
    assert found.structure == structure
    storage_server.catalogue.structured = False
    await storage_server.put(FILE)
    found = storage_server.catalogue.node(1).stored
    assert found is not None
    assert found.structure is None


@pytest.mark.parametrize("data", [FILE[: 4 * 2880 - 2700], DOCUMENT, b"x", b""])
async def test_bytes_of_another_structure_are_refused(
    storage_server: Server, storage_settings: Settings, data: bytes
) -> None:
    assert await bring(storage_server, FILE, FITS_VIEW) == 201
    assert await bring(storage_server, data, FITS_VIEW) == 400
    assert (await storage_server.get()).body == FILE
    assert len(stored(storage_settings)) == 1
    assert await bring(storage_server, data, "urn:x:unknown") == 400


async def test_large_uploads_are_checked_too(storage_server: Server) -> None:
    out = io.BytesIO()
    fits.PrimaryHDU(np.zeros((1000, 1000))).writeto(out)
    data = out.getvalue()
    assert await bring(storage_server, data, FITS_VIEW) == 201
    answer = await storage_server.put(data[:-3000])
    assert (answer.status, answer.body[:11]) == (400, b"InvalidData")
    assert (await storage_server.get()).body == data


async def test_faults(storage_server: Server) -> None:
    await bring(storage_server, FILE)
    status, _, body = await view(storage_server, CSV)
    assert (status, body[:16]) == (400, b"ViewNotSupported")
    status, _, body = await view(storage_server, SINGLE, hdu="99")
    assert (status, body[:15]) == (400, b"InvalidArgument")
    status, _, body = await view(storage_server, SINGLE, hdu="one")
    assert (status, body[:15]) == (400, b"InvalidArgument")
    await bring(storage_server, FILE[:1000])
    status, _, body = await view(storage_server, HEADERS)
    assert (status, body[:11]) == (400, b"InvalidData")
    await bring(storage_server, b"")
    assert (await view(storage_server, HEADERS))[0] == 400


async def test_damage_behind_the_first_piece_cuts_the_connection(storage_server: Server) -> None:
    await bring(storage_server, FILE + b"XTENSION=")
    await bring(storage_server, FILE.replace(b"NAXIS1  =                    5", b"NAXIS1  =                   -5"))
    with pytest.raises(Exception, match=r"(?i)payload|disconnect|not enough data"):
        await view(storage_server, HEADERS)


async def test_backend_without_files(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with serving(settings, backend=Streaming(settings.storage.path)) as server:
        await bring(server, FILE)
        status, _, body = await view(server, HEADERS_JSON)
        assert (status, len(json.loads(body))) == (200, 5)
        _, _, body = await view(server, SINGLE, hdu="3")
        with fits.open(io.BytesIO(body)) as hdus:
            assert list(hdus[1].data["a"]) == [1, 2]


async def test_backend_that_redirects(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with serving(settings, backend=Elsewhere(settings.storage.path)) as server:
        await bring(server, FILE)
        assert (await view(server, HEADERS))[0] == 400


async def test_large_image_in_bounded_memory(storage_server: Server, tmp_path: Path) -> None:
    megabytes = 200
    header = fits.ImageHDU().header
    header["BITPIX"], header["NAXIS"] = 8, 2
    header.insert("NAXIS", ("NAXIS1", 1 << 20), after=True)
    header.insert("NAXIS1", ("NAXIS2", megabytes), after=True)
    path = tmp_path / "big.fits"
    with path.open("wb") as file:
        file.write(FILE[: 2 * 2880] + header.tostring().encode())
        for number in range(megabytes):
            file.write(bytes([number]) * (1 << 20))
        file.write(b"\0" * (-megabytes * (1 << 20) % 2880))
    storage_server.catalogue.structured = True
    async with ClientSession() as session:
        with path.open("rb") as file:
            async with session.put(f"{storage_server.url}/files/put-1/x", data=file) as response:
                assert response.status == 201
        storage_server.catalogue.view, storage_server.catalogue.params = SINGLE.uri, (Param(NUMBER.uri, "1"),)
        before, most, received = psutil.Process().memory_info().rss, 0, 0
        async with session.get(f"{storage_server.url}/files/render-1/x") as response:
            async for piece in response.content.iter_any():
                received += len(piece)
                most = max(most, psutil.Process().memory_info().rss)
    assert received == path.stat().st_size - 2880
    assert most - before < 50 << 20


class Endless(StructuredType):
    """A type that never ends, or fails, as its view says."""

    name = "endless"
    description = "nothing"
    import_view = "urn:x:endless"
    content_types = ("x/endless",)
    views = tuple(StructuredView(f"urn:x:{name}", "text/plain", "", ".txt") for name in ("slow", "bug", "late"))

    def render(self, view: StructuredView, params: Mapping[str, str], source: Bytes) -> Rendering:
        del params
        return Rendering(self._pieces(view.uri, source))

    def _pieces(self, name: str, source: Bytes) -> Iterator[bytes]:
        if name == "urn:x:bug":
            raise ZeroDivisionError
        if name == "urn:x:late":
            yield source.read(0, 3)
            raise ZeroDivisionError
        while True:
            yield b""


async def test_foreign_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"endless": Endless(), "fits": Fits(), "votable": VOTable()}
    for module in ("inspection", "rendering"):
        monkeypatch.setattr(f"pyvospace.storage.{module}.structured_types", lambda: known)
    monkeypatch.setattr("pyvospace.structures.installed.structured_types", lambda: known)
    slow, bug, late = Endless.views
    async with serving(make_settings(tmp_path, render_time=0.05)) as server:
        server.catalogue.structured = True
        await server.put(b"abc", Content_Type="X/endless; a=b")
        status, _, body = await view(server, slow)
        assert (status, body[:16]) == (400, b"ViewNotSupported")
        status, _, body = await view(server, bug)
        assert (status, body[:11]) == (400, b"InvalidData")
        with pytest.raises(Exception, match=r"(?i)payload|disconnect|not enough data"):
            await view(server, late)
