import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pyvospace.config import ConfigError
from pyvospace.supervisor.data import Access, DataDirectory
from pyvospace.supervisor.pair import Options, settings_of_pair
from tests.support.ordinary import NOBODY, libraries, ordinary_python
from tests.support.pair import free_ports
from tests.support.postgres import reachable_directory
from tests.support.up import PATIENCE, Up, running_up

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can run something as another user")


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The data of a space that has stopped."""
    with reachable_directory(quick=True) as directory:
        with running_up(directory / "data", "--port", str(free_ports(2)[0])) as up:
            up.wait_ready()
            assert up.stop() == 0
        yield directory / "data"


@pytest.fixture
def data(reachable_path: Path, made: Path) -> Path:
    """Such data: to make a database takes longer than to start it."""
    subprocess.run(["cp", "-a", made, reachable_path], check=True)
    return reachable_path / "data"


@pytest.fixture
def nowhere(reachable_path: Path) -> Path:
    """Where no data are yet."""
    return reachable_path / "data"


@pytest.fixture
def port() -> int:
    """A free port whose neighbour is free too."""
    return free_ports(2)[0]


@pytest.fixture
def options(port: int) -> list[str]:
    return ["--port", str(port)]


@pytest.fixture(scope="module")
def standing(made: Path) -> Iterator[Up]:
    """A space for tests that leave it running."""
    with reachable_directory() as directory:
        subprocess.run(["cp", "-a", made, directory], check=True)
        with running_up(directory / "data", "--port", str(free_ports(2)[0])) as running:
            running.wait_ready()
            yield running


@pytest.fixture
def up(data: Path, options: list[str]) -> Iterator[Up]:
    with running_up(data, *options) as running:
        running.wait_ready()
        yield running


def get(access: Access, path: str) -> int:
    """Ask for something as the user; give the status."""
    request = urllib.request.Request(access.url + path, headers={"Authorization": f"Bearer {access.token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    return not alive


def test_it_runs_until_ctrl_c(nowhere: Path, port: int) -> None:
    with running_up(nowhere, "--port", str(port)) as up:
        up.wait_ready()
        runs_until_ctrl_c(up, port)


def runs_until_ctrl_c(up: Up, port: int) -> None:
    access = up.access
    assert access.url == f"http://127.0.0.1:{port}"
    assert (access.authority, access.user, access.home) == ("localhost~space", "user", "/home/user")
    assert get(access, f"/nodes{access.home}") == 200
    assert up.data.access_file.stat().st_mode & 0o777 == 0o600
    tree = up.tree()
    assert not any(access.token in word for process in tree for word in process.cmdline())
    assert up.stop(signal.SIGINT) == 0
    assert all_gone(tree)
    shown = up.output.decode()
    for wanted in (access.url, access.authority, access.user, access.token, "access.env", " cp ", " ls ", "curl "):
        assert wanted in shown


def test_the_same_data_again(up: Up, data: Path, options: list[str]) -> None:
    before = up.access
    assert up.stop(signal.SIGTERM) == 0
    with running_up(data, *options) as again:
        again.wait_ready()
        assert again.access == before
        assert get(before, f"/nodes{before.home}") == 200
        again.stop()
        again.data.access_file.unlink()
    with running_up(data, *options) as third:
        third.wait_ready()
        assert third.access.token != before.token
        assert get(third.access, f"/nodes{before.home}") == 200


def test_its_death_takes_everything_along(up: Up, data: Path, options: list[str]) -> None:
    before = up.access
    tree = up.tree()
    up.process.kill()
    with running_up(data, *options) as again:  # at once, while the old ones die
        again.wait_ready()
        assert get(before, f"/nodes{before.home}") == 200
    assert all_gone(tree)


def test_the_death_of_all_at_once(up: Up, data: Path, options: list[str]) -> None:
    before = up.access
    for process in up.tree():
        with contextlib.suppress(psutil.NoSuchProcess):  # it followed its parent
            process.kill()
    with running_up(data, *options) as again:
        again.wait_ready()
        assert get(before, f"/nodes{before.home}") == 200


@pytest.mark.parametrize("word", ["metadata", "storage", "-D"])
def test_a_part_that_dies_comes_back(standing: Up, word: str) -> None:
    [part] = standing.named(word)
    part.kill()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(0.1)
        try:
            if standing.named(word) and get(standing.access, f"/nodes{standing.access.home}") == 200:
                break
        except (OSError, psutil.Error):
            continue
    else:
        pytest.fail(standing.errors())


def test_one_more_storage_server_beside_it(standing: Up, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    program = [sys.executable, "-P", "-m", "pyvospace"]
    options = ["--data", str(standing.data.path), "--path", str(tmp_path / "second"), "--port", url.rpartition(":")[2]]
    with subprocess.Popen([*program, "storage", *options]) as server:
        deadline = time.monotonic() + PATIENCE
        shown = ""
        while url not in shown:
            assert time.monotonic() < deadline, shown
            variables = {**os.environ, "PYVOSPACE_DATA": str(standing.data.path)}
            listed = subprocess.run(
                [*program, "storages", "list"], env=variables, capture_output=True, text=True, check=True
            )
            shown = listed.stdout
        server.terminate()
    assert server.returncode == 0
    assert standing.process.poll() is None


def test_workers(data: Path, options: list[str]) -> None:
    with running_up(data, *options, "--workers", "2") as up:
        up.wait_ready()
        assert [len(up.named(word)) for word in ("metadata", "storage")] == [2, 2]
        tree = up.tree()
        assert {get(up.access, f"/nodes{up.access.home}") for _ in range(10)} == {200}
        assert up.stop() == 0
        assert all_gone(tree)


def test_a_second_one_on_the_same_data_is_refused(standing: Up) -> None:
    with running_up(data := standing.data.path, "--port", "1") as second:
        assert second.finish() == 1
        assert (
            second.errors() == f"pyvospace: {data} is in use by process {standing.process.pid}, another pyvospace up\n"
        )
    assert get(standing.access, "/capabilities") == 200


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_in_use_is_named_before_anything_starts(nowhere: Path, port: int, offset: int) -> None:
    with socket.create_server(("127.0.0.1", port + offset)), running_up(nowhere, "--port", str(port)) as up:
        assert up.finish() == 1
        assert up.errors() == f"pyvospace: port {port + offset} of 127.0.0.1: in use; --port takes another one\n"
    assert [path.name for path in nowhere.iterdir()] == ["lock"]


def test_a_database_of_ones_own_is_not_for_it(nowhere: Path) -> None:
    with running_up(nowhere, environment={"PYVOSPACE_DATABASE__DSN": "postgresql://joe:hunter2@host/db"}) as up:
        assert up.finish() == 2
        assert up.errors().startswith("pyvospace: database.dsn: `pyvospace up` brings a database of its own")
        assert "hunter2" not in up.errors()
    assert not nowhere.exists()


def test_another_user(up: Up, data: Path, options: list[str]) -> None:
    up.stop()
    with running_up(data, *options, "--user", "bob") as again:
        again.wait_ready()
        assert again.access.home == "/home/bob"
        assert get(again.access, "/nodes/home/bob") == 200
        assert get(again.access, "/nodes/home/user") == 403


def test_another_authority_is_refused(up: Up, data: Path, options: list[str]) -> None:
    up.stop()
    with running_up(data, *options, environment={"PYVOSPACE_AUTHORITY": "example.org~vault"}) as again:
        assert again.finish() == 1
        assert "the database belongs to the space 'localhost~space', not 'example.org~vault'" in again.errors()


def test_a_server_that_does_not_start_ends_it(data: Path, options: list[str]) -> None:
    with running_up(data, *options, environment={"PYVOSPACE_STORAGE__BACKEND": "tape"}) as up:
        assert up.finish() == 1
        assert "no backend 'tape'" in up.errors()
        assert up.errors().endswith("pyvospace: the storage server does not start; its last lines above say why\n")
        assert "Traceback" not in up.errors()


@pytest.fixture
def ordinary() -> str:
    """A Python that an ordinary user may run."""
    return ordinary_python()


@pytest.fixture
def home(reachable_path: Path) -> Path:
    """A directory of an ordinary user."""
    home = reachable_path / "home"
    home.mkdir()
    shutil.chown(home, NOBODY.uid, NOBODY.gid)
    return home


@as_root
def test_an_ordinary_user_may(home: Path, options: list[str], ordinary: str) -> None:
    environment = {**libraries(ordinary), "HOME": str(home)}
    for _ in range(2):
        with running_up(home / "data", *options, environment=environment, python=ordinary, account=NOBODY) as up:
            up.wait_ready()
            assert {process.uids().effective for process in up.tree()} == {NOBODY.uid}
            assert get(up.access, f"/nodes{up.access.home}") == 200
            assert up.stop() == 0


@as_root
def test_root_becomes_the_owner_of_the_data(home: Path, options: list[str], ordinary: str) -> None:
    with running_up(home, *options, environment=libraries(ordinary), python=ordinary) as up:
        up.wait_ready()
        assert {process.uids().effective for process in up.tree()} == {NOBODY.uid}
        assert up.stop() == 0
    assert {path.stat().st_uid for path in home.rglob("*")} == {NOBODY.uid}


def test_data_may_be_moved(up: Up, data: Path, options: list[str]) -> None:
    before = up.access
    up.stop()
    with running_up(data.rename(data.with_name("moved")), *options) as again:
        again.wait_ready()
        assert get(before, f"/nodes{before.home}") == 200


def test_interrupted_while_it_starts(nowhere: Path, options: list[str]) -> None:
    with running_up(nowhere, *options) as up:
        while not list(nowhere.glob("database/pg*/postmaster.pid")):
            time.sleep(0.01)
        assert up.stop() == 0
        assert b"ready" not in up.output
    with running_up(nowhere, *options) as again:
        again.wait_ready()


def test_settings_of_the_pair(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    settings, _ = settings_of_pair(Options(data=tmp_path, port=9000, host="::1", workers=3), data)
    assert (settings.metadata.port, settings.storage.port) == (9000, 9001)
    assert (settings.metadata.host, settings.storage.host) == ("::1", "::1")
    assert (settings.metadata.workers, settings.storage.workers) == (3, 3)
    assert settings.storage.path == tmp_path / "storage"


def test_settings_of_the_pair_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pyvospace.toml"
    file.write_text("[metadata]\nport = 9000\n[storage]\nport = 7000\npath = '/srv/bytes'\n")
    data = DataDirectory(tmp_path)
    settings, _ = settings_of_pair(Options(data=tmp_path, config=file), data)
    assert (settings.metadata.port, settings.storage.port) == (9000, 7000)
    assert settings.storage.path == Path("/srv/bytes")
    settings, _ = settings_of_pair(Options(data=tmp_path, config=file, port=9100), data)
    assert (settings.metadata.port, settings.storage.port) == (9100, 9101)
    with pytest.raises(ConfigError, match=r"storage\.port: Input should be less than or equal to 65535"):
        settings_of_pair(Options(data=tmp_path, port=65535), data)


def test_both_servers_write_the_log(data: Path, options: list[str]) -> None:
    variables = {"PYVOSPACE_LOG__FORMAT": "json", "PYVOSPACE_METADATA_PORT": "1"}
    with running_up(data, *options, environment=variables) as up:
        up.wait_ready()
        up.stop()
        lines = [json.loads(line) for line in up.errors().splitlines() if line.startswith("{")]
    assert len([line for line in lines if line.get("message", "").startswith("listening at")]) == 2
    odd = [text for line in lines if "PYVOSPACE_METADATA_PORT" in (text := line.get("message", ""))]
    assert odd == ["PYVOSPACE_METADATA_PORT: unknown variable, did you mean PYVOSPACE_METADATA__PORT?"]
