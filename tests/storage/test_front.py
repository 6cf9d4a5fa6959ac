"""Bytes that nginx sends in place of the service: what clients see is the same, and the files are behind us alone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from pyvospace.config.credentials import ProxySettings
from tests.storage.serving import Server, make_settings, serving
from tests.support.pair import free_ports

DATA = os.urandom(300_000)
SECRET = "a long secret that nginx knows too"
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "production.md"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")


@dataclass(frozen=True)
class Site:
    """A storage server, and the same behind nginx."""

    server: Server
    front: str
    store: Path


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = make_settings(tmp_path, x_accel_redirect="/bytes")
    proxies = ProxySettings(trusted=("127.0.0.1",), secret=SECRET)
    async with serving(settings.model_copy(update={"proxies": proxies})) as server:
        store = settings.storage.path
        async with nginx(tmp_path, server.port, store) as front:
            yield Site(server, front, store)


@asynccontextmanager
async def nginx(folder: Path, port: int, store: Path) -> AsyncIterator[str]:
    """Run nginx as the page says, but for TLS and for where things are."""
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    (listening,) = free_ports(1)
    text = re.sub(r" *ssl_certificate.*\n", "", found[1])
    for old, new in (
        ("user pyvospace;", f"pid {folder}/nginx.pid; daemon off;" + (" user root;" if os.geteuid() == 0 else "")),
        ("listen 443 ssl;", f"listen 127.0.0.1:{listening};"),
        ("server 127.0.0.1:8081;", f"server 127.0.0.1:{port};"),
        ("/data/pyvospace", str(store)),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    command = (str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await _listening(listening)
        yield f"http://127.0.0.1:{listening}"
    finally:
        process.terminate()
        await process.wait()


async def _listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise AssertionError("nginx does not listen")


async def ask(url: str, path: str, headers: dict[str, str], method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Give status, headers but for those that are of one answer or of nginx, and body."""
    passing = {"date", "x-request-id", "connection", "server"}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, url + path, headers=headers) as answer,
    ):
        told = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in passing}
        assert len({name.lower() for name in answer.headers}) == len(answer.headers), answer.headers
        return answer.status, told, await answer.read()


ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
REQUESTS: list[dict[str, str]] = [
    {},
    {"Range": "bytes=0-199999"},
    {"Range": "bytes=100000-"},
    {"Range": "bytes=-100000"},
    {"Range": "bytes=100-100"},
    {"Range": "bytes=100000-9999999"},
    {"Range": "bytes=-9999999"},
    {"Range": "bytes=300000-"},
    {"Range": "bytes=200000-100000"},
    {"Range": "lines=1-2"},
    {"Range": "bytes=0-99999", "If-Range": ETAG},
    {"Range": "bytes=0-99999", "If-Range": '"other"'},
    {"Range": "bytes=0-99999", "If-Match": ETAG},
    {"If-Match": '"other"'},
    {"If-None-Match": ETAG},
    {"If-Modified-Since": "Sat, 01 Jan 2050 00:00:00 GMT"},
    {"Accept-Encoding": "gzip"},
    {"Origin": "https://example.org"},
    {"X-Accel-Redirect": "/bytes/etc/passwd"},
]


async def test_clients_see_no_difference(site: Site) -> None:
    assert (await site.server.put(DATA, Content_Type="text/plain")).status == 201
    for headers in REQUESTS:
        for method in ("GET", "HEAD"):
            plain = await ask(site.server.url, "/files/get-1/x", headers, method)
            assert await ask(site.front, "/files/get-1/x", headers, method) == plain, headers
    for path in ("/files/get-2/x", "/files/rubbish/x"):
        assert (await ask(site.front, path, {}))[:1] == (await ask(site.server.url, path, {}))[:1]


async def test_nginx_sends_the_file(site: Site) -> None:
    """So that the test before has compared two things."""
    await site.server.put(DATA)
    (file,) = site.store.glob("data/*/*")
    through = {"X-Proxy-Secret": SECRET}
    told = (await ask(site.server.url, "/files/get-1/x", through))[1]
    assert told["x-accel-redirect"] == f"/bytes{file}"
    for headers in ({"Range": "bytes=0-9"}, {"If-Match": ETAG}, {"Range": "bytes=0-99999,150000-250000"}):
        assert "x-accel-redirect" not in (await ask(site.server.url, "/files/get-1/x", through | headers))[1]


async def test_several_ranges(site: Site) -> None:
    await site.server.put(DATA)
    status, headers, body = await ask(site.front, "/files/get-1/x", {"Range": "bytes=0-99999,150000-250000"})
    assert status == 206
    assert headers["content-type"].startswith("multipart/byteranges")
    assert DATA[150000:250001] in body


async def test_nobody_gets_at_the_files_by_himself(site: Site) -> None:
    await site.server.put(DATA)
    (file,) = site.store.glob("data/*/*")
    for path in (f"/bytes{file}", f"/bytes{file.parent}/", f"/x/../bytes{file}", f"//bytes{file}", f"/%62ytes{file}"):
        assert (await ask(site.front, path, {}))[0] == 404, path


async def test_only_the_proxy_is_told_where_a_file_is(site: Site) -> None:
    await site.server.put(DATA)
    for headers in ({}, {"X-Proxy-Secret": "another long secret that is wrong"}, {"X-Forwarded-For": "127.0.0.1"}):
        status, told, body = await ask(site.server.url, "/files/get-1/x", headers)
        assert (status, body) == (200, DATA)
        assert "x-accel-redirect" not in told


async def test_a_damaged_file_is_a_fault(site: Site) -> None:
    await site.server.put(DATA)
    (file,) = site.store.glob("data/*/*")
    file.write_bytes(DATA[:-1])
    assert (await ask(site.front, "/files/get-1/x", {}))[0] == 500
