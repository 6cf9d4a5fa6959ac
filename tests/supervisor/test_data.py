import subprocess
from pathlib import Path

import pytest

from pyvospace.config import Settings
from pyvospace.supervisor import SupervisorError
from pyvospace.supervisor.data import (
    DATABASE,
    STORAGE_ROLE,
    Access,
    ClusterFile,
    DataDirectory,
    directory_of,
    find_dsn,
    new_passwords,
    settings_beside,
    write_secret,
)

ACCESS = Access("http://127.0.0.1:8080", "localhost~space", "alice", "s3cr3t")


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path / "data")


def test_one_owner_at_a_time(data: DataDirectory) -> None:
    with data.owned():
        assert data.in_use()
        with pytest.raises(SupervisorError, match=r"data is in use by process \d+, another pyvospace up"), data.owned():
            pass
    assert not data.in_use()
    with data.owned():
        pass


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SupervisorError, match="file/data: Not a directory"),
        DataDirectory(tmp_path / "file/data").owned(),
    ):
        pass


def test_access_is_for_a_shell_and_for_its_owner(data: DataDirectory) -> None:
    data.path.mkdir()
    data.write_access(ACCESS)
    assert data.access_file.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(
        ["sh", "-c", f". {data.access_file}; env | grep ^VOSPACE_ | sort"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [
        "VOSPACE_AUTHORITY=localhost~space",
        "VOSPACE_HOME=/home/alice",
        "VOSPACE_TOKEN=s3cr3t",
        "VOSPACE_URL=http://127.0.0.1:8080",
        "VOSPACE_USER=alice",
    ]
    assert data.access() == ACCESS
    assert "s3cr3t" not in repr(ACCESS)


@pytest.mark.parametrize("value", ['it\'s $HOME `id` "x"', "a b", "~root"])
def test_access_is_quoted_where_a_shell_needs_it(value: str) -> None:
    text = Access("http://h", "a", "alice", value).render()
    shown = subprocess.run(
        ["sh", "-c", f'{text}\nprintf %s "$VOSPACE_TOKEN"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == value
    parsed = Access.parse(text)
    assert parsed is not None
    assert parsed.token == value


@pytest.mark.parametrize("text", ["", "VOSPACE_URL=x\n", "VOSPACE_URL='x\n", "\n\n="])
def test_broken_access_counts_as_missing(data: DataDirectory, text: str) -> None:
    assert data.access() is None
    data.path.mkdir()
    data.access_file.write_text(text)
    assert data.access() is None


def test_a_secret_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_secret(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_dsn_names_socket_and_port() -> None:
    cluster = ClusterFile(socket="/a dir/b", passwords=new_passwords())
    assert cluster.passwords[DATABASE] not in repr(cluster)
    assert cluster.dsn(DATABASE).endswith("@/pyvospace?host=%2Fa%20dir%2Fb&port=5432")


def test_find_dsn(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    named = Settings.model_validate({"database": {"dsn": "postgresql://host/db"}})
    assert find_dsn(named) == "postgresql://host/db"
    with pytest.raises(SupervisorError, match=r"no database: `pyvospace up` does not run on .*data "):
        find_dsn(Settings(), data.path)
    monkeypatch.setenv("PYVOSPACE_DATA", str(data.path))
    cluster = ClusterFile(socket="/socket", passwords=new_passwords())
    with data.owned():
        with pytest.raises(SupervisorError, match="no database"):
            find_dsn(Settings())
        data.write_cluster(cluster)
        assert find_dsn(Settings()) == cluster.dsn(DATABASE)
    with pytest.raises(SupervisorError, match="no database"):
        find_dsn(Settings())


def test_settings_of_a_server_beside_a_space(data: DataDirectory) -> None:
    assert settings_beside(None) == {}
    with pytest.raises(SupervisorError, match=r"`pyvospace up` does not run on .*data"):
        settings_beside(data.path)
    cluster = ClusterFile(socket="/socket", passwords=new_passwords())
    with data.owned():
        data.write_cluster(cluster)
        databases = {"dsn": cluster.dsn(DATABASE), "storage_dsn": cluster.dsn(STORAGE_ROLE)}
        assert settings_beside(data.path) == {"database": databases}
        data.write_access(ACCESS)
        assert settings_beside(data.path) == {"database": databases, "metadata": {"public_url": ACCESS.url}}


def test_a_broken_file_is_named(data: DataDirectory) -> None:
    data.path.mkdir()
    assert data.cluster() is None
    data.cluster_file.write_text("{")
    with pytest.raises(SupervisorError, match=r"database\.json: "):
        data.cluster()


def test_the_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYVOSPACE_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert directory_of(None) == tmp_path / ".local/share/pyvospace"
    assert directory_of(Path("var")) == tmp_path / "var"
    monkeypatch.setenv("PYVOSPACE_DATA", "/srv/space")
    assert directory_of(None) == Path("/srv/space")
