"""Client certificates: by TLS, and in headers of proxies that are trusted (R-AUTH-014; T25)."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pyvospace.config import Settings
from pyvospace.model.faults import InvalidArgument, NotAuthenticated
from pyvospace.service.certificates import Certificates, canonical_name
from pyvospace.service.proxies import Proxies
from pyvospace.service.serving import tls_context
from tests.support.certificates import INDEPENDENT, LIMITED, Authority, Certificate

ALICE = "CN=alice example,O=vo,C=xx"
SECRET = "only the proxy knows this"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.clause("T25")
@pytest.mark.parametrize(
    "text",
    [
        ALICE,
        "CN=Alice Example,O=VO,C=XX",
        "C=XX, O=VO, CN=Alice Example",
        "/C=XX/O=VO/CN=Alice Example",
        ' cn = alice  example ;o="VO"; c=xx ',
        "2.5.4.3=Alice Example,2.5.4.10=VO,2.5.4.6=XX",
        "CN=\\41lice Example,O=VO,C=XX",
    ],
)  # fmt: skip
def test_a_name_has_one_form(text: str) -> None:
    assert canonical_name(text) == ALICE


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/DC=ch/DC=cern/OU=Users/CN=jd/CN=1234/CN=John Doe", "CN=john doe,CN=1234,CN=jd,OU=users,DC=cern,DC=ch"),
        ("DC=ch, DC=cern, OU=Users, CN=jd, CN=1234, CN=John Doe", "CN=john doe,CN=1234,CN=jd,OU=users,DC=cern,DC=ch"),
        ("/C=XX/CN=host/a.example.org", "CN=host/a.example.org,C=xx"),
        ("CN=Alice/CN=Bob,C=XX", "CN=alice/cn=bob,C=xx"),
        ('O="Foo, Inc.",C=US', "O=foo\\, inc.,C=us"),
        ("CN=José,C=XX", "CN=josé,C=xx"),
        ("/C=XX/CN=x/emailAddress=A@b.org", "EMAILADDRESS=a@b.org,CN=x,C=xx"),
        ("OU=b + CN=a, C=XX", "CN=a+OU=b,C=xx"),
    ],
)
def test_names_of_real_authorities(text: str, name: str) -> None:
    assert canonical_name(text) == canonical_name(name) == name


@pytest.mark.parametrize("text", ["", "/", "x", "CN=", "/CN", "FOO=x", "CN=a\0,C=x", "CN=a\nb\x1b", "CN=" + "a" * 3000])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidArgument):
        canonical_name(text)


@given(st.text(max_size=40))
def test_any_value_makes_a_name_or_none(value: str) -> None:
    for text in (f"/C=XX/CN={value}", f"CN={value},C=XX", value):
        try:
            name = canonical_name(text)
        except InvalidArgument:
            continue
        assert canonical_name(name) == name


# --------------------------------------------------------------------------------------------------------------- TLS


@asynccontextmanager
async def server(tmp_path: Path, authority: Authority, **metadata: Any) -> AsyncIterator[str]:
    """Run a server that tells who has come; give its URL."""
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    settings = Settings.model_validate(
        {
            "metadata": {
                "tls_cert": tmp_path / "server.pem",
                "tls_key": tmp_path / "server.pem",
                "tls_client_ca": authority.write(tmp_path / "ca.pem"),
                **metadata,
            }
        }
    )
    certificates = Certificates(settings)

    async def tell(request: web.Request) -> web.Response:
        try:
            return web.Response(text=str(certificates.name(request)))
        except NotAuthenticated as fault:
            return web.Response(status=401, text=fault.detail)

    app = web.Application()
    app.router.add_get("/", tell)
    running = TestServer(app, scheme="https", host="localhost")
    await running.start_server(ssl=tls_context(settings.metadata))
    yield str(running.make_url("/"))
    await running.close()


async def ask(url: str, certificate: Path | None = None) -> str:
    """Give what the server says of the certificate, or that it ends the connection."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is not the server that is on trial
    if certificate:
        context.load_cert_chain(certificate)
    try:
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
            return await response.text()
    except (aiohttp.ClientError, ssl.SSLError):
        return "refused"


@pytest.mark.clause("T25")
async def test_certificates_by_tls(tmp_path: Path, authority: Authority) -> None:
    alice = authority.user("Alice Example")
    day = timedelta(days=1)
    cases: dict[str, tuple[Certificate, str]] = {
        "good": (alice, ALICE),
        "expired": (authority.user("Alice Example", begins=-2 * day, ends=-day), "refused"),
        "early": (authority.user("Alice Example", begins=day, ends=2 * day), "refused"),
        "foreign": (Authority().user("Alice Example"), "refused"),
        "proxy": (alice.proxy(), "refused"),
        "self-made": (Certificate(alice.certificate, alice.key).proxy("x"), "refused"),
    }
    async with server(tmp_path, authority) as url:
        assert await ask(url) == "None"
        for name, (certificate, told) in cases.items():
            assert await ask(url, certificate.write(tmp_path / f"{name}.pem")) == told, name


async def test_proxy_certificates_act_as_who_made_them(tmp_path: Path, authority: Authority) -> None:
    alice, numbered = authority.user("Alice Example"), authority.user("Alice", names=["123456"])
    cases = [
        (alice.proxy(), ALICE),
        (alice.proxy().proxy("789"), ALICE),
        (alice.proxy(policy=LIMITED), ALICE),
        (numbered, "CN=123456,CN=alice,O=vo,C=xx"),
        (numbered.proxy("1"), "CN=123456,CN=alice,O=vo,C=xx"),
        (alice.proxy(policy=INDEPENDENT), "the proxy certificate is for something else"),
        (Authority().user("Alice Example").proxy(), "refused"),
    ]
    async with server(tmp_path, authority, tls_client_proxies=True) as url:
        for number, (certificate, told) in enumerate(cases):
            assert await ask(url, certificate.write(tmp_path / f"{number}.pem")) == told, number


@pytest.mark.parametrize("proxies", [False, True])
async def test_revoked_certificates(tmp_path: Path, authority: Authority, proxies: bool) -> None:
    alice, bea = authority.user("Alice Example"), authority.user("Bea")
    crl = authority.revoke(tmp_path / "crl.pem", bea)
    async with server(tmp_path, authority, tls_client_crl=crl, tls_client_proxies=proxies) as url:
        assert await ask(url, alice.write(tmp_path / "alice.pem")) == ALICE
        assert await ask(url, bea.write(tmp_path / "bea.pem")) == "refused"
        if proxies:
            assert await ask(url, alice.proxy().write(tmp_path / "proxy.pem")) == ALICE
            assert await ask(url, bea.proxy().write(tmp_path / "proxy.pem")) == "refused"


# ----------------------------------------------------------------------------------------------------------- headers


def told(headers: dict[str, str], remote: str = "127.0.0.1", **proxies: Any) -> str | None:
    """Give whom the headers of a request name."""
    settings = Settings.model_validate({"proxies": {"trusted": "127.0.0.1", "secret": SECRET, **proxies}})
    app = web.Application()
    Proxies.install(app, settings.proxies)
    transport = make_mocked_request("GET", "/").transport
    transport.get_extra_info.side_effect = lambda name, default=None: (remote, 1) if name == "peername" else default  # type: ignore[union-attr]
    return Certificates(settings).name(make_mocked_request("GET", "/", headers, app=app, transport=transport))


def test_a_certificate_in_a_header_of_a_trusted_proxy(authority: Authority) -> None:
    alice = authority.user("Alice Example")
    pem = alice.certificate.public_bytes(Encoding.PEM).decode()
    for text in (base64.b64encode(alice.der).decode(), quote(pem), " ".join(pem.splitlines())):
        headers = {"X-Client-Certificate": text, "X-Proxy-Secret": SECRET}
        assert told(headers, certificate_header="X-Client-Certificate") == ALICE
        for untrusted in (
            {"X-Client-Certificate": text},
            {**headers, "X-Proxy-Secret": "another one of that size"},
        ):
            assert told(untrusted, certificate_header="X-Client-Certificate") is None
        assert told(headers, remote="127.0.0.2", certificate_header="X-Client-Certificate") is None
        assert told(headers, certificate_header="X-Other") is None
        assert told(headers) is None


def test_bad_certificates_in_a_header(authority: Authority) -> None:
    over = authority.user("Alice", begins=-timedelta(days=2), ends=-timedelta(days=1))
    for text in ("x", "AAAA", "%ff", base64.b64encode(over.der).decode(),
                 base64.b64encode(authority.user("Alice").proxy().der).decode()):  # fmt: skip
        with pytest.raises(NotAuthenticated):
            told({"X-C": text, "X-Proxy-Secret": SECRET}, certificate_header="X-C")


def test_a_name_in_a_header_is_believed_if_it_was_verified() -> None:
    headers = {"X-Name": "CN=Alice Example,O=VO,C=XX", "X-Proxy-Secret": SECRET}
    names = {"certificate_name_header": "X-Name", "certificate_verified_header": "X-Verified"}
    assert told({**headers, "X-Verified": "SUCCESS"}, **names) == ALICE
    assert told({**headers, "X-Verified": "NONE"}, **names) is None
    assert told(headers, **names) is None
    for verified, name in (("FAILED:unable to verify", headers["X-Name"]), ("SUCCESS", "nobody")):
        with pytest.raises(NotAuthenticated):
            told({**headers, "X-Name": name, "X-Verified": verified}, **names)


@pytest.mark.parametrize(
    "proxies",
    [
        {"certificate_header": "X-C"},
        {"certificate_header": "X-C", "trusted": "127.0.0.1"},
        {"certificate_header": "X-C", "secret": SECRET},
        {"certificate_name_header": "X-N", "trusted": "127.0.0.1", "secret": SECRET},
    ],
)
def test_no_settings_believe_everybody(proxies: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"proxies": proxies})
