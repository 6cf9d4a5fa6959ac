"""What an NGAS server says to the commands that we use: a double, made after its documentation and source code.

Nothing of NGAS itself runs here. What is imitated, oddities included: a file id gets a new version each time; a file of
no bytes is refused; a part is answered with status 200 and reaches from a byte to the end, never less; DISCARD
wants volume, id and version, says with status 200 that there is no such file, and may be forbidden altogether; QUERY
takes patterns of SQL and gives all rows at once, times without a zone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

VOLUME = "d41d8cd98f00b204e9800998ecf8427e"
PIECE = 65_536
STATUS = (
    '<?xml version="1.0"?>\n<NgamsStatus><Status Date="{date}" HostId="ngas:7777" Message="{message}" '
    'State="{state}" Status="{status}" SubState="IDLE" Version="v11.0-TEST"/></NgamsStatus>'
)


class Ngas:
    """The state of the archive; tests change what it does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = threading.Lock()
        self.rows: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.state = "ONLINE"
        self.removal_allowed = True
        self.ranges = True
        self.full = False
        self.cut_after: list[int] = []
        """Bytes after which the next answers to RETRIEVE break off."""
        self.busy = 0
        """So many of the next requests are answered with 503."""
        self.authorization: set[str | None] = set()
        """What came with the requests."""
        self.url = ""

    def path(self, row: dict[str, Any]) -> Path:
        return self.directory / str(row["file_name"])

    def select(self, pattern: str) -> list[dict[str, Any]]:
        like = re.compile(re.escape(pattern).replace("%", ".*").replace("_", "."))
        with self.lock:
            return [row for row in self.rows if like.fullmatch(row["file_id"])]

    def add(self, file_id: str, path: Path, size: int, checksum: int) -> None:
        with self.lock:
            version = 1 + sum(row["file_id"] == file_id for row in self.rows)
            self.rows.append(
                {
                    "disk_id": VOLUME,
                    "file_name": path.name,
                    "file_id": file_id,
                    "file_version": version,
                    "format": "application/octet-stream",
                    "file_size": size,
                    "uncompressed_file_size": size,
                    "compression": "NONE",
                    "ingestion_date": datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00"),
                    "ignore": None,
                    "checksum": str(checksum),
                    "checksum_plugin": "crc32z",
                }
            )

    def discard(self, wanted: dict[str, str]) -> bool:
        with self.lock:
            for row in self.rows:
                if all(str(row[name]) == wanted[name] for name in ("disk_id", "file_id", "file_version")):
                    if wanted.get("execute") == "1":
                        self.rows.remove(row)
                        self.path(row).unlink()
                    return True
        return False

    def disks(self) -> list[dict[str, Any]]:
        used = sum(row["file_size"] for row in self.rows)
        disk = {"disk_id": VOLUME, "available_mb": 1000, "bytes_stored": used, "mounted": 1, "completed": 0}
        return [disk, {**disk, "disk_id": "full", "available_mb": 3, "completed": 1}]


class Handler(BaseHTTPRequestHandler):
    ngas: ClassVar[Ngas]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a small answer waits 40 ms for the one before it

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.parameters = dict(parse_qsl(parts.query))
        command = parts.path.strip("/")
        self.ngas.asked.append(command)
        self.ngas.authorization.add(self.headers["Authorization"])
        if self.ngas.busy:
            self.ngas.busy -= 1
            self.close_connection = True  # a body may still come
            self.status("NGAMS_ER_MAX_REQ_EXCEEDED:4012:ERROR: too many requests.", 503)
        elif self.ngas.state != "ONLINE" and command != "STATUS":
            self.close_connection = True
            self.status("NGAMS_ER_IMPROPER_STATE:4015:ERROR: the server is in state OFFLINE.", 400)
        else:
            commands = {"ARCHIVE": self.archive, "QARCHIVE": self.archive, "RETRIEVE": self.retrieve}
            commands |= {"DISCARD": self.discard, "QUERY": self.query, "STATUS": self.tell}
            commands[command]()

    def do_POST(self) -> None:
        self.do_GET()

    def archive(self) -> None:
        if self.ngas.full:
            self.close_connection = True
            self.status("NGAMS_AL_NO_STO_SETS:4009:ALERT: no storage set is available.", 400)
            return
        size = int(self.headers.get("Content-Length", 0))
        if size <= 0:
            self.status("NGAMS_ER_ARCHIVE_PUSH_REQ:4010:ERROR: Content-Length is 0", 400)
            return
        path, left, checksum = self.ngas.directory / uuid4().hex, size, 0
        with path.open("wb") as file:
            while left and (piece := self.rfile.read(min(PIECE, left))):
                file.write(piece)
                left -= len(piece)
                checksum = zlib.crc32(piece, checksum)
        wanted = self.headers.get("NGAS-File-CRC", str(checksum))
        if left or wanted != str(checksum):
            path.unlink()
            self.close_connection = True
            self.status("NGAMS_ER_ARCHIVE_PUSH_REQ:4010:ERROR: Only part of the file, or a checksum error", 400)
            return
        self.ngas.add(self.parameters.get("file_id") or self.parameters["filename"], path, size, checksum)
        self.status("Successfully handled Archive Push Request")

    def retrieve(self) -> None:
        rows = self.ngas.select(self.parameters["file_id"])
        version = self.parameters.get("file_version") or str(len(rows))
        found = [row for row in rows if str(row["file_version"]) == version]
        if not found:
            self.status("NGAMS_ER_UNAVAIL_FILE:4019:ERROR: File appears not to be available.", 400)
            return
        start, size = 0, found[0]["file_size"]
        headers = {}
        if "Range" in self.headers and self.ngas.ranges:
            start = int(self.headers["Range"][6:-1])  # of the form bytes=start-
            headers = {"Accept-Ranges": "bytes", "Content-Range": f"bytes {start}-{size - 1}/{size}"}
        self.begin(200, size - start, "application/octet-stream", headers)
        cut = bool(self.ngas.cut_after)
        stop = self.ngas.cut_after.pop(0) if cut else size - start
        with self.ngas.path(found[0]).open("rb") as file:
            file.seek(start)
            while stop > 0 and (piece := file.read(min(PIECE, stop))):
                self.wfile.write(piece)
                stop -= len(piece)
        self.close_connection = self.close_connection or cut

    def discard(self) -> None:
        if not self.ngas.removal_allowed:
            self.status("NGAMS_ER_ILL_REQ:4009:ERROR: Discard File: not accepted by this server.", 400)
        elif self.ngas.discard(self.parameters):
            self.status("NGAMS_INFO_DISCARD_OK:4066:INFO: File discarded")
        else:
            self.status("NGAMS_ER_DISCARD_NOT_FOUND:4063:ERROR: not found", 200, "FAILURE")

    def query(self) -> None:
        files = self.parameters["query"] == "files_like"
        rows = self.ngas.select(self.parameters["like"]) if files else self.ngas.disks()
        self.answer(200, json.dumps(rows).encode(), "application/json")

    def tell(self) -> None:
        self.status("Successfully handled command STATUS")

    def status(self, message: str, code: int = 200, status: str = "") -> None:
        status = status or ("SUCCESS" if code == 200 else "FAILURE")
        text = STATUS.format(date="2026-01-01T00:00:00.000", message=message, state=self.ngas.state, status=status)
        self.answer(code, text.encode(), "text/xml")

    def answer(self, code: int, body: bytes, kind: str) -> None:
        self.begin(code, len(body), kind, {})
        self.wfile.write(body)

    def begin(self, code: int, length: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(length), "Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # who has enough hangs up

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_ngas(directory: Path) -> Iterator[Ngas]:
    """Run the double with its files in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    ngas = Ngas(directory)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("NgasHandler", (Handler,), {"ngas": ngas}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    ngas.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield ngas
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def separate_ngas(directory: Path) -> Iterator[str]:
    """Run the double in a process of its own, and give its URL: its files and threads are none of the test's."""
    command = [sys.executable, "-m", __name__, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()


if __name__ == "__main__":
    with running_ngas(Path(sys.argv[1])) as running:
        print(running.url, flush=True)  # noqa: T201 (for whoever started it)
        sys.stdin.read()
