"""The directory of `pyvospace up`: who owns it, where its database is, how a user gets in."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pyvospace.config import Settings
from pyvospace.db.provision import Login
from pyvospace.supervisor.errors import SupervisorError

DEFAULT = Path("~/.local/share/pyvospace")
"""Where data are if nobody says where."""
VARIABLE = "PYVOSPACE_DATA"
"""Environment variable that names the directory."""
DATABASE = "pyvospace"
"""Name of the database and of the role that owns it."""
STORAGE_ROLE = "pyvospace_storage_1"
"""Role of the storage server."""
SUPERUSER = "postgres"

_LOCK = "lock"
_PLAIN = re.compile(r"(?!~|.*:~)[\w@%+=:,./~-]+", re.ASCII)


@dataclass(frozen=True)
class Access:
    """How the ordinary user reaches the space: the content of ``access.env``."""

    url: str
    authority: str
    user: str
    token: str = field(repr=False)

    @property
    def home(self) -> str:
        """Path of his container."""
        return f"/home/{self.user}"

    def render(self) -> str:
        """Write it for a shell to source."""
        values = {
            "VOSPACE_URL": self.url,
            "VOSPACE_AUTHORITY": self.authority,
            "VOSPACE_USER": self.user,
            "VOSPACE_TOKEN": self.token,
            "VOSPACE_HOME": self.home,
        }
        lines = [f"{name}={value if _PLAIN.fullmatch(value) else shlex.quote(value)}" for name, value in values.items()]
        return "\n".join([*lines, f"export {' '.join(values)}", ""])

    @classmethod
    def parse(cls, text: str) -> Access | None:
        """Read what `render` wrote; None if something is missing."""
        words = [line.partition("=") for line in text.splitlines()]
        values = {name: "".join(shlex.split(value)) for name, _, value in words if value}
        names = ("VOSPACE_URL", "VOSPACE_AUTHORITY", "VOSPACE_USER", "VOSPACE_TOKEN")
        found = [values.get(name, "") for name in names]
        return cls(*found) if all(found) else None


@dataclass(frozen=True)
class ClusterFile:
    """What is known about the embedded PostgreSQL: the content of ``database.json``."""

    home: str = ""
    """Directory of its data if it is not in the directory of `pyvospace up`."""
    socket: str = ""
    """Directory of its socket; empty while it does not run."""
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    """Password of each role."""

    def login(self, role: str) -> Login:
        """Give a role with its password."""
        return Login(role, self.passwords[role])

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """Give the DSN of a role. The port names the socket: left out, the environment might say another."""
        where = urlencode({"host": self.socket, "port": 5432}, quote_via=quote)
        return f"postgresql://{role}:{quote(self.passwords[role], safe='')}@/{quote(database)}?{where}"


@dataclass(frozen=True)
class DataDirectory:
    """The directory and its files."""

    path: Path

    @property
    def database(self) -> Path:
        """Where PostgreSQL keeps its data, unless its account cannot go there."""
        return self.path / "database"

    @property
    def storage(self) -> Path:
        """Where the storage server keeps bytes."""
        return self.path / "storage"

    @property
    def log(self) -> Path:
        """Where PostgreSQL writes what happens."""
        return self.path / "postgres.log"

    @property
    def access_file(self) -> Path:
        """What the user sources."""
        return self.path / "access.env"

    @property
    def cluster_file(self) -> Path:
        """What we keep about PostgreSQL."""
        return self.path / "database.json"

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Be the only `pyvospace up` on these data; the directory is made if it is missing.

        The kernel gives the lock back however this process ends.

        Raises
        ------
        SupervisorError
            Another one runs on them, or we may not write there.
        """
        try:
            # Others may pass, not look: PostgreSQL may run as another account and has to reach its part.
            self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SupervisorError(f"{self.path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode().strip()
            os.close(descriptor)
            raise SupervisorError(f"{self.path} is in use by process {holder}, another pyvospace up") from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def in_use(self) -> bool:
        """Tell whether a `pyvospace up` runs on these data."""
        try:
            descriptor = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def access(self) -> Access | None:
        """Read ``access.env``; None if it is missing or broken."""
        try:
            return Access.parse(self.access_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write_access(self, access: Access) -> None:
        """Write ``access.env``."""
        write_secret(self.access_file, access.render())

    def cluster(self) -> ClusterFile | None:
        """Read what is known about PostgreSQL; None on a first start."""
        try:
            return ClusterFile(**json.loads(self.cluster_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise SupervisorError(f"{self.cluster_file}: {error}") from None

    def write_cluster(self, cluster: ClusterFile) -> None:
        """Keep what is known about PostgreSQL."""
        write_secret(self.cluster_file, json.dumps(asdict(cluster), indent=1) + "\n")


def new_passwords() -> dict[str, str]:
    """Make a password for each role."""
    return {role: secrets.token_urlsafe(24) for role in (SUPERUSER, DATABASE, STORAGE_ROLE)}


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner reads: the whole of it or the old one, also after a power cut."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
        sync_directory(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_dsn(settings: Settings, directory: Path | None = None) -> str:
    """Give the DSN of administrators, past a pooler: the one of the settings, or of a running `pyvospace up`.

    Parameters
    ----------
    directory
        Data of `pyvospace up`; by default PYVOSPACE_DATA or the usual place. It is not looked at if the settings
        name a database.

    Raises
    ------
    SupervisorError
        The settings name none and none runs on these data.
    """
    if (dsn := settings.database.direct_dsn or settings.database.dsn) is not None:
        return dsn.get_secret_value()
    path = directory_of(directory)
    cluster = _running(path)
    if cluster is None:
        raise SupervisorError(
            f"no database: `pyvospace up` does not run on {path} (--data names another directory), "
            "and the setting database.dsn is not given"
        )
    return cluster.dsn(DATABASE)


def settings_beside(directory: Path | None) -> dict[str, Any]:
    """Give the settings with which one more server works beside a running `pyvospace up`; none without a directory.

    Raises
    ------
    SupervisorError
        None runs on these data.
    """
    if directory is None:
        return {}
    path = directory_of(directory)
    cluster = _running(path)
    if cluster is None:
        raise SupervisorError(f"`pyvospace up` does not run on {path}")
    found: dict[str, Any] = {
        "database": {"dsn": cluster.dsn(DATABASE), "storage_dsn": cluster.dsn(STORAGE_ROLE)},
    }
    if access := DataDirectory(path).access():
        found["metadata"] = {"public_url": access.url}
    return found


def _running(path: Path) -> ClusterFile | None:
    data = DataDirectory(path)
    cluster = data.cluster() if data.in_use() else None
    return cluster if cluster and cluster.socket else None


def directory_of(given: Path | None) -> Path:
    """Give the directory of the data: the one given, the one that PYVOSPACE_DATA names, or the usual one."""
    return (given or Path(os.environ.get(VARIABLE) or DEFAULT)).expanduser().absolute()
