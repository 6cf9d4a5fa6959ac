"""`pyvospace login` at a real provider, for a real pair, and nobody at the browser but us."""

from __future__ import annotations

import json
import re
import stat
import threading
import urllib.parse
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import PasswordDeleteError

from pyvospace.cli import login_actions
from pyvospace.client.oidc import Enter
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.commands import Done, run_here
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.provider import AUDIENCE, Browser, Provider, new_key, running_provider


class Memory(KeyringBackend):
    """A keyring that forgets when the tests end."""

    priority = 5
    name = "the keyring of the tests"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        self._require_open()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._require_open()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError

    def _require_open(self) -> None:
        if self.locked:
            raise RuntimeError("nobody is there to unlock it")


@pytest.fixture(scope="module")
def both(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Provider]]:
    directory = tmp_path_factory.mktemp("login")
    with running_provider(directory, [new_key("one")]) as provider, postgres_server.clone() as name:
        told = {"issuer": provider.url, "audience": [AUDIENCE], "plain_http": True, "provision": True}
        told |= {"login_client": "native", "login_scopes": ["openid", "offline_access", "vos.read", "vos.write"]}
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_OIDC": json.dumps([told])}
        with running_pair(dsn, directory, storage_dsn=storage_dsn, environment=environment) as pair:
            yield pair, provider


@pytest.fixture
def environment(both: tuple[Pair, Provider], tmp_path: Path) -> dict[str, str]:
    """Of somebody who knows nothing but where the space is."""
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "conf"), "VOSPACE_URL": both[0].url}


@pytest.fixture(autouse=True)
def _no_keyring() -> None:
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]


@pytest.fixture
def at_browser(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], object]], None]:
    """Let somebody else be what the command line opens pages in."""

    def be(page: Callable[[str], object]) -> None:
        monkeypatch.setattr(webbrowser, "open", page)

    return be


def run(environment: dict[str, str], *arguments: str) -> Done:
    return run_here(*arguments, environment=environment)


def log_in_elsewhere(environment: dict[str, str], account: str, monkeypatch: pytest.MonkeyPatch) -> Done:
    """Run the command, and do in a browser what it says."""
    show = login_actions._show

    def read(enter: Enter) -> None:
        show(enter)
        threading.Thread(target=Browser().sign_in, args=(enter.complete_url, account)).start()

    monkeypatch.setattr(login_actions, "_show", read)
    return run(environment, "login", "--oidc")


def test_login_keeps_itself_and_ends(
    both: tuple[Pair, Provider], environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, provider = both
    provider.know("lena", preferred_username="lena")
    told = log_in_elsewhere(environment, "lena", monkeypatch)
    assert told.returncode == 0, told
    assert re.search(r"open \S+ in a browser, compare the code", told.stderr)
    assert f"logged in at {pair.url} as lena" in told.stderr
    kept = tmp_path / "conf" / "pyvospace" / "logins.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert run(environment, "ls", "vos:/home/lena").returncode == 0
    assert "hint: pyvospace why" in run(environment, "mkdir", "vos:/elsewhere").stderr  # not: log in
    # The token has ended: the next command gets another one, and everything that it needs for the one after.
    logins = json.loads(kept.read_text())
    for _ in range(2):
        logins = json.loads(kept.read_text())
        old = dict(logins[pair.url])
        logins[pair.url] |= {"token": "not.any.more", "expires": 1}
        kept.write_text(json.dumps(logins))
        assert run(environment, "ls", "vos:/home/lena").returncode == 0
        new = json.loads(kept.read_text())[pair.url]
        assert new["token"] not in {"not.any.more", old["token"]}
        assert new["refresh_token"] != old["refresh_token"]
    # A credential of the environment comes first, and the login is not shown to another service.
    assert run({**environment, "VOSPACE_TOKEN": "wrong"}, "ls", "vos:/home/lena").returncode == 5
    assert run(environment, "ls", "--url", pair.url + "/other", "vos:/").returncode != 0
    logins[pair.url] |= {"expires": 1, "refresh_token": "spent"}
    kept.write_text(json.dumps(logins))
    ended = run(environment, "ls", "vos:/home/lena")
    assert (ended.returncode, "has ended: pyvospace login" in ended.stderr) == (5, True)
    assert run(environment, "logout").returncode == 0
    assert "no login is kept" in run(environment, "logout").stderr
    assert pair.url not in kept.read_text()
    assert run(environment, "ls", "vos:/home/lena").returncode == 5


def test_a_browser_of_this_machine_logs_in_and_the_keyring_keeps_it(
    both: tuple[Pair, Provider],
    environment: dict[str, str],
    tmp_path: Path,
    memory: Memory,
    at_browser: Callable[[Callable[[str], object]], None],
) -> None:
    pair, provider = both
    provider.know("olga", preferred_username="olga")
    seen: list[str] = []

    def page(url: str) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        assert asked["code_challenge_method"] == "S256"
        # Somebody else who finds the port is sent away, and we are waited for.
        assert Browser().ask(f"{asked['redirect_uri']}?code=stolen&state=guessed")[0] == 400
        seen.append(Browser().sign_in(url, "olga"))

    at_browser(page)
    told = run(environment, "login", "--browser")
    assert told.returncode == 0, told
    assert f"logged in at {pair.url} as olga; the keyring of the tests keeps it" in told.stderr
    assert "You can close this window" in seen[0]
    kept = tmp_path / "conf" / "pyvospace" / "logins.json"
    login = json.loads(kept.read_text())[pair.url]
    assert (login["token"], login["refresh_token"], login["in_keyring"]) == ("", None, True)
    secret = memory.kept["pyvospace", pair.url]
    assert run(environment, "ls", "vos:/home/olga").returncode == 0
    # When the token ends the next one goes to the keyring too.
    kept.write_text(json.dumps({pair.url: login | {"expires": 1}}))
    assert run(environment, "ls", "vos:/home/olga").returncode == 0
    assert memory.kept["pyvospace", pair.url] != secret
    assert "token" not in json.loads(run(environment, "config", "client", "--json").stdout)
    memory.locked = True
    assert "has ended: pyvospace login" in run(environment, "ls", "vos:/home/olga").stderr
    memory.locked = False
    assert run(environment, "logout").returncode == 0
    assert not memory.kept
    assert pair.url not in kept.read_text()


@pytest.mark.parametrize(
    ("parameter", "words"), [("nonce", "the answer to another question"), ("code_challenge", "invalid_grant")]
)
def test_an_answer_to_another_question_is_none(
    environment: dict[str, str],
    at_browser: Callable[[Callable[[str], object]], None],
    parameter: str,
    words: str,
) -> None:
    other = "A" * 43
    at_browser(lambda url: Browser().sign_in(re.sub(rf"\b{parameter}=[\w-]+", f"{parameter}={other}", url), "olga"))
    told = run(environment, "login", "--browser")
    assert (told.returncode, words in told.stderr) == (5, True), told.stderr
    assert run(environment, "ls", "vos:/home/olga").returncode == 5


def test_who_refuses_is_not_logged_in(
    environment: dict[str, str], at_browser: Callable[[Callable[[str], object]], None]
) -> None:
    def refuse(url: str) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        Browser().ask(f"{asked['redirect_uri']}?error=access_denied&state={asked['state']}")

    at_browser(refuse)
    told = run(environment, "login", "--browser")
    assert (told.returncode, "access_denied" in told.stderr) == (5, True)
    assert run(environment, "login", "--browser", "--device").returncode == 2


def test_who_gives_no_provider_hears_it(pair: Pair, environment: dict[str, str]) -> None:
    told = run({**environment, "VOSPACE_URL": pair.url}, "login")
    assert told.returncode != 0
    assert "names no OpenID provider: log in with --user NAME" in told.stderr
