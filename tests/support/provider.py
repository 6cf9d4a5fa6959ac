"""OpenID providers for tests: a real one (npm oidc-provider), and one whose answers a test makes up."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwk, jws

from tests.support.pair import free_ports

MODULES = Path(__file__).parents[2] / ".venv" / "oidc"
"""Where `./dev test` has put it."""
SCRIPT = Path(__file__).parent / "oidc" / "provider.mjs"
AUDIENCE = "urn:vos"
REDIRECT = "http://127.0.0.1/callback"
Jwk = dict[str, Any]


def new_key(kid: str, algorithm: str = "RS256") -> Jwk:
    """Make a private key."""
    made = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = {name: _text(value) for name, value in jwk.construct(pem.decode(), algorithm).to_dict().items()}
    return {**key, "kid": kid, "use": "sig"}


def public(key: Jwk) -> Jwk:
    """Give what everybody may know of a key."""
    return {name: value for name, value in key.items() if name not in {"d", "p", "q", "dp", "dq", "qi"}}


def public_pem(key: Jwk) -> str:
    """Give that as it stands in files."""
    return _text(jwk.construct(public(key), key["alg"]).to_pem())


def sign(key: Jwk, claims: Mapping[str, Any], **header: Any) -> str:
    """Make a token, good or bad."""
    return jws.sign(claims, key, headers={"kid": key["kid"], "typ": "at+jwt", **header}, algorithm=key["alg"])


def claims(issuer: str, subject: str = "alice", **changes: Any) -> dict[str, Any]:
    """Give claims with which a token is good; what is None is left out."""
    now = int(time.time())
    good = {"iss": issuer, "sub": subject, "aud": AUDIENCE, "exp": now + 300, "iat": now}
    return {name: value for name, value in (good | changes).items() if value is not None}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class Browser:
    """Keeps cookies and follows no redirect by itself."""

    def __init__(self) -> None:
        jar = CookieJar(DefaultCookiePolicy(rfc2965=False, strict_ns_domain=0))
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar), _NoRedirect())

    def ask(self, url: str, form: Mapping[str, str] | None = None, **headers: str) -> tuple[int, str, str]:
        """Give status, Location and body of an answer."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            answer = self._opener.open(urllib.request.Request(url, data, headers), timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            where = urllib.parse.urljoin(url, answer.headers.get("Location") or "")
            return answer.status or 0, where, answer.read().decode()

    def sign_in(self, url: str, account: str) -> str:
        """Go through the pages of the provider until it sends us elsewhere or is done; give where, or the page."""
        form: Mapping[str, str] | None = None
        for _ in range(20):
            status, where, page = self.ask(url, form)
            form = None
            if status in {302, 303}:
                if where.startswith(REDIRECT):
                    return where
                url = where
            elif fields := dict(re.findall(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', page)):
                action = re.search(r'<form[^>]*action="([^"]+)"', page)
                assert action, page
                url = urllib.parse.urljoin(url, html.unescape(action[1]))
                form = fields | ({"login": account, "password": "any"} if fields.get("prompt") == "login" else {})
            else:
                return page
        raise AssertionError(f"no end at {url}")


class Provider:
    """The real one; its state is lost when it stops."""

    def __init__(self, directory: Path, keys: list[Jwk]) -> None:
        self._run = directory / "run.json"
        self._log = directory / "provider.log"
        self._port = free_ports(1)[0]
        self.keys = keys
        self.people: dict[str, dict[str, Any]] = {}
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def know(self, account: str, **claims: Any) -> None:
        """Put claims into the tokens of somebody."""
        self.people[account] = claims
        self._run.write_text(json.dumps({"port": self._port, "keys": self.keys, "people": self.people}))

    def start(self) -> None:
        """Run it, and wait until it answers."""
        self.know("nobody")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["node", str(SCRIPT), str(MODULES)],
                env={**os.environ, "RUN": str(self._run)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.url}/jwks", timeout=5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"the provider does not answer:\n{self._log.read_text()}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def robot(self, scope: str = "vos.read vos.write") -> str:
        """Get a token by client credentials."""
        form = {"grant_type": "client_credentials", "scope": scope}
        return str(self.tokens(form, "robot", "robot-secret")["access_token"])

    def person(self, account: str, *, resource: str = AUDIENCE) -> dict[str, Any]:
        """Get the tokens of somebody who logs in: authorization code with PKCE."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = urllib.parse.urlencode(
            {
                "client_id": "native",
                "response_type": "code",
                "scope": "openid offline_access vos.read vos.write",
                "prompt": "consent",
                "redirect_uri": REDIRECT,
                "resource": resource,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        back = Browser().sign_in(f"{self.url}/auth?{query}", account)
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(back).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "resource": resource}
        return self.tokens({**form, "client_id": "native", "code_verifier": verifier})

    def tokens(self, form: Mapping[str, str], client: str = "", secret: str = "") -> dict[str, Any]:
        """Ask the token endpoint."""
        login = base64.b64encode(f"{client}:{secret}".encode()).decode()
        status, _, body = Browser().ask(
            f"{self.url}/token", form, **({"Authorization": f"Basic {login}"} if client else {})
        )
        assert status == 200, body
        return dict(json.loads(body))


@contextmanager
def running_provider(directory: Path, keys: list[Jwk]) -> Iterator[Provider]:
    """Run the real one for the time of a test; the test is left out where it is not installed."""
    if not (MODULES / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("no OpenID provider is installed: ./dev test does that if there is npm and Node.js 20 or later")
    made = Provider(directory, keys)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class MadeUpIssuer:
    """A provider whose answers a test makes up; it counts who asks for what."""

    def __init__(self, keys: list[Jwk]) -> None:
        issuer = self
        self.asked: list[str] = []
        self.active: dict[str, dict[str, Any]] = {}
        """What introspection says, by token."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                self.answer(*issuer.answers.get(self.path, (404, b"", {})))

            def do_POST(self) -> None:
                issuer.asked.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                token = urllib.parse.parse_qs(body)["token"][0]
                self.answer(200, json.dumps(issuer.active.get(token, {"active": False})).encode(), {})

            def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", "introspection_endpoint": f"{self.url}/tell"}
        self.answers: dict[str, tuple[int, bytes, Mapping[str, str]]] = {
            "/.well-known/openid-configuration": (200, json.dumps(document).encode(), {})
        }
        self.publish(*keys)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def publish(self, *keys: Jwk) -> None:
        """Let these be the keys."""
        self.answers["/keys"] = (200, json.dumps({"keys": [public(one) for one in keys]}).encode(), {})

    def close(self) -> None:
        """Answer nobody."""
        self._server.shutdown()
        self._server.server_close()
