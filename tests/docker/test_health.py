from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import pytest

from tests.docker.conftest import DOCKER

PYTHON = "/opt/pyvospace/bin/python3"
PYVOSPACE = "/opt/pyvospace/bin/pyvospace"


class Living(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Ailing(Living):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()


@pytest.fixture(scope="module")
def health() -> ModuleType:
    spec = importlib.util.spec_from_file_location("health", DOCKER / "health.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Port of a server of the class that the test names."""
    with ThreadingHTTPServer(("127.0.0.1", 0), request.param) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("command", "environment", "expected"),
    [
        ([PYTHON, PYVOSPACE, "metadata", ""], {}, {"metadata": 8080}),
        ([PYTHON, PYVOSPACE, "storage", "--port", "9000", ""], {}, {"storage": 9000}),
        ([PYTHON, PYVOSPACE, "storage"], {"PYVOSPACE_STORAGE__PORT": "9001"}, {"storage": 9001}),
        ([PYTHON, PYVOSPACE, "metadata"], {"PYVOSPACE_METADATA__PORT": ""}, {"metadata": 8080}),
        (["/sbin/docker-init", "--", "pyvospace", "metadata", "--port=9000"], {}, {"metadata": 9000}),
        ([PYTHON, PYVOSPACE, "up"], {}, {"metadata": 8080, "storage": 8081}),
        ([PYTHON, PYVOSPACE, "up", "--port", "9000"], {}, {"metadata": 9000, "storage": 9001}),
        (
            [PYTHON, PYVOSPACE, "up", "--port", "9000"],
            {"PYVOSPACE_STORAGE__PORT": "9005"},
            {"metadata": 9000, "storage": 9001},
        ),
        ([PYTHON, PYVOSPACE, "up"], {"PYVOSPACE_STORAGE__PORT": "9005"}, {"metadata": 8080, "storage": 9005}),
        ([PYTHON, PYVOSPACE, "migrate"], {}, {}),
        ([PYTHON, PYVOSPACE, "ls", "metadata"], {}, {}),
        ([PYTHON, PYVOSPACE], {}, {}),
        (["sh"], {}, {}),
    ],
)
def test_what_is_asked(
    health: ModuleType, command: list[str], environment: dict[str, str], expected: dict[str, int]
) -> None:
    assert health.targets(command, environment) == expected


@pytest.mark.parametrize(("port", "expected"), [(Living, True), (Ailing, False)], indirect=["port"])
def test_what_counts_as_an_answer(health: ModuleType, port: int, *, expected: bool) -> None:
    assert health.answers(port) is expected


@pytest.mark.parametrize("port", [Living], indirect=True)
def test_plain_http_is_no_answer_of_a_server_with_tls(health: ModuleType, port: int) -> None:
    assert not health.answers(port, tls=True)


def test_silence_is_no_answer(health: ModuleType) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Living) as server:
        free = server.server_port
    assert not health.answers(free)
