import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pyvospace.config import Settings
from pyvospace.supervisor import SupervisorError
from pyvospace.supervisor.workers import require_free_port
from tests.support.pair import Pair, free_ports

PATIENCE = 30.0


def listening(port: int, host: str = "127.0.0.1") -> Settings:
    return Settings.model_validate({"metadata": {"port": port, "host": host}})


def test_a_free_port() -> None:
    [port] = free_ports(1)
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        require_free_port(listening(port, host).metadata)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_even_by_one_who_would_share_it(host: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SupervisorError, match=f"port {port} of {host}: in use"):
            require_free_port(listening(port, host).metadata, patience=0.05)


@pytest.mark.parametrize(("host", "reason"), [("192.0.2.1", "Cannot assign"), ("no.such.invalid", "")])
def test_an_address_that_is_not_ours(host: str, reason: str) -> None:
    with pytest.raises(SupervisorError, match=f"port 8080 of {host}: {reason}"):
        require_free_port(listening(8080, host).metadata)


def test_workers_share_a_port(database_dsn: str, tmp_path: Path) -> None:
    pair = Pair(database_dsn, tmp_path, workers=3)
    try:
        pair.start()
        for name in ("metadata", "storage"):
            manager = psutil.Process(pair.processes[name].pid)
            workers = manager.children()
            assert len(workers) == 3
            manager.send_signal(signal.SIGTERM)
            assert pair.processes[name].wait(PATIENCE) == 0
            assert not any(worker.is_running() for worker in workers)
    finally:
        pair.stop()


def test_workers_that_do_not_start(database_dsn: str) -> None:
    [port] = free_ports(1)
    done = subprocess.run(
        [sys.executable, "-m", "pyvospace", "metadata", "--port", str(port), "--workers", "2"],
        env={"PYVOSPACE_DATABASE__DSN": database_dsn + "x"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "pyvospace: the metadata worker" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_reach_the_workers(database_dsn: str, tmp_path: Path) -> None:
    """Options of the command line, which the workers do not have, and the file."""
    file = tmp_path / "pyvospace.toml"
    file.write_text(f"[database]\ndsn = '{database_dsn}'\ncheck_durability = false\n")
    [port] = free_ports(1)
    pair = Pair(database_dsn, tmp_path)  # sets up the space
    with (
        (tmp_path / "metadata.log").open("wb") as log,
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pyvospace",
                "metadata",
                "--config",
                file.name,
                "--port",
                str(port),
                "--workers",
                "2",
            ],
            cwd=tmp_path,
            stderr=log,
        ) as process,
    ):
        pair.port = port
        pair.processes["metadata"] = process
        try:
            pair._wait("metadata")
        finally:
            process.terminate()
    assert process.returncode == 0
