"""The commands of an NGAS server that we use: ARCHIVE or QARCHIVE, RETRIEVE, DISCARD, QUERY and STATUS."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final, Self
from urllib.parse import urlsplit

import aiohttp

from pyvospace.model.faults import InsufficientStorage, ServiceBusy
from pyvospace.model.ranges import ByteRange

log = logging.getLogger(__name__)

_PREFIX: Final = re.compile("[A-Za-z0-9.-]{0,64}")
"""Neither ``_`` nor ``%``, which mean something in the patterns of QUERY."""
_STATUS: Final = re.compile(r'\bStatus="(SUCCESS|FAILURE)"')
_MESSAGE: Final = re.compile(r'\bMessage="([^"]{0,500})')
_STATE: Final = re.compile(r'\bState="(\w+)"')
_BUSY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_CONNECTING: Final = 20.0
_PIECE: Final = 1 << 20
_TRIES: Final = 3
"""So often a reading that broke off is taken up again without a byte having come."""
_WORDS: Final = 64 * 1024
"""Bytes of a status document that are read."""
_MIB: Final = 1 << 20
_OPTIONS: Final = {
    "url": "",
    "prefix": "pyvospace-",
    "command": "ARCHIVE",
    "checksums": "true",
    "discard": "true",
    "list_digits": "1",
    "timeout": "300",
    "user": "",
    "password_file": "",
}
_MOST_DIGITS: Final = 4
_LONGEST_TIMEOUT: Final = 86_400


class NgasError(OSError):
    """The server refused something, or what it has is not what it should be."""


@dataclass(frozen=True, slots=True)
class NgasSettings:
    """What ``[storage.options]`` says."""

    url: str
    prefix: str
    command: str
    checksums: bool
    discard: bool
    list_digits: int
    timeout: int
    user: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Self:
        """Read the options.

        Raises
        ------
        ValueError
            One is wrong, or there are some that nobody knows; the text names it.
        """
        for option in options.keys() - _OPTIONS.keys():
            raise ValueError(f"storage.options.{option}: the ngas backend has no such option")
        given = {**_OPTIONS, **options}
        parts = urlsplit(given["url"])
        _require("url", parts.scheme in {"http", "https"} and bool(parts.hostname), "http://HOST:PORT of the server")
        _require("prefix", bool(_PREFIX.fullmatch(given["prefix"])), "up to 64 letters, digits, dots and hyphens")
        _require("command", given["command"] in {"ARCHIVE", "QARCHIVE"}, "ARCHIVE or QARCHIVE")
        return cls(
            url=given["url"].rstrip("/"),
            prefix=given["prefix"],
            command=given["command"],
            checksums=_truth("checksums", given),
            discard=_truth("discard", given),
            list_digits=_number("list_digits", given, 0, _MOST_DIGITS),
            timeout=_number("timeout", given, 1, _LONGEST_TIMEOUT),
            user=given["user"],
            password=_secret("password_file", given),
        )


def _require(name: str, fine: bool, words: str) -> None:  # noqa: FBT001 (what is required)
    if not fine:
        raise ValueError(f"storage.options.{name}: write {words}")


def _truth(name: str, given: Mapping[str, str]) -> bool:
    _require(name, given[name] in {"true", "false"}, '"true" or "false"')
    return given[name] == "true"


def _number(name: str, given: Mapping[str, str], least: int, most: int) -> int:
    text = given[name]
    fine = text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most
    _require(name, fine, f"a whole number from {least} to {most}")
    return int(text)


def _secret(name: str, given: Mapping[str, str]) -> str:
    if not given[name]:
        return ""
    try:
        return Path(given[name]).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"storage.options.{name}: {given[name]} cannot be read: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A row of ``ngas_files``: one version of one file on one volume."""

    id: str
    version: int
    volume: str
    size: int
    ingested: datetime


@dataclass(frozen=True, slots=True)
class Volume:
    """What a volume that takes files has left, and what it holds; bytes."""

    free: int
    used: int


@contextmanager
def _translated(command: str) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        log.warning("ngas: %s: %s", command, type(error).__name__)
        raise ServiceBusy("the archive does not answer") from None


class NgasServer:
    """One server, by HTTP."""

    def __init__(self, settings: NgasSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the connections possible."""
        settings = self._settings
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECTING, sock_read=settings.timeout),
            headers={"Authorization": aiohttp.encode_basic_auth(settings.user, settings.password)}
            if settings.user
            else None,
            auto_decompress=False,
            read_bufsize=_PIECE,
        )

    async def close(self) -> None:
        """Close them."""
        if self._session is not None:
            await self._session.close()
        self._session = None

    def _ask(self, command: str, parameters: Mapping[str, str], method: str = "GET", **more: Any) -> Any:
        if self._session is None:
            raise RuntimeError("the backend was not started")
        return self._session.request(method, f"{self._settings.url}/{command}", params=parameters, **more)

    async def _command(self, command: str, parameters: Mapping[str, str], method: str = "GET", **more: Any) -> str:
        """Send a command that is answered by a status document, and give that document.

        Raises
        ------
        NgasError
            It says that it failed, and why.
        """
        with _translated(command):
            async with self._ask(command, parameters, method, **more) as answer:
                document: str = (await answer.content.read(_WORDS)).decode(errors="replace")
                _require_success(command, answer.status, document)
        return document

    async def archive(self, file_id: str, file: BinaryIO, size: int, checksum: int | None) -> None:
        """Archive a file, which is closed then; the server compares the checksum (CRC-32)."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        parameters = {"filename": file_id, "file_id": file_id, "mime_type": "application/octet-stream"}
        if checksum is not None:
            headers["NGAS-File-CRC"] = str(checksum)
            parameters["crc_variant"] = "crc32z"
        await self._command(self._settings.command, parameters, "POST", data=file, headers=headers)

    async def discard(self, file: ArchivedFile) -> None:
        """Delete one copy of one version, and the row about it."""
        parameters = {"disk_id": file.volume, "file_id": file.id, "file_version": str(file.version), "execute": "1"}
        try:
            await self._command("DISCARD", parameters)
        except NgasError as error:
            if "NGAMS_ER_DISCARD_NOT_FOUND" not in str(error):
                raise

    async def files(self, file_id: str, *, whole: bool = True) -> list[ArchivedFile]:
        """Give the rows of a file, of its first version first; or of all whose ids begin like that."""
        rows = await self._query("files_like", like=file_id if whole else f"{file_id}%")
        found = [
            ArchivedFile(
                id=row["file_id"],
                version=int(row["file_version"]),
                volume=row["disk_id"],
                size=int(row["file_size"]),
                ingested=_time(row["ingestion_date"]),
            )
            for row in rows
        ]
        return sorted(found, key=lambda file: (file.id, file.version))

    async def volumes(self) -> list[Volume]:
        """Give the volumes that are mounted and not full."""
        rows = await self._query("disks_list")
        return [
            Volume(int(row["available_mb"]) * _MIB, int(row["bytes_stored"]))
            for row in rows
            if int(row["mounted"] or 0) and not int(row["completed"] or 0)
        ]

    async def _query(self, query: str, **parameters: str) -> list[dict[str, Any]]:
        with _translated("QUERY"):
            async with self._ask("QUERY", {"query": query, "format": "json", **parameters}) as answer:
                document = await answer.read()
                if answer.status != HTTPStatus.OK:
                    _require_success("QUERY", answer.status, document[:_WORDS].decode(errors="replace"))
        rows: list[dict[str, Any]] = await asyncio.to_thread(json.loads, document)
        return rows

    async def require_online(self) -> None:
        """Return if it is."""
        state = _STATE.search(await self._command("STATUS", {}))
        if state is None or state[1] != "ONLINE":
            raise ServiceBusy("the archive is not online")

    async def read(self, file_id: str, span: ByteRange | None) -> AsyncIterator[bytes]:
        """Give the bytes of a file or of a part; what breaks off is taken up at the byte where it broke."""
        position, tries = (span.start if span else 0), 0
        while span is None or position < span.stop:
            before = position
            try:
                async with aclosing(self._read_from(file_id, position)) as pieces:
                    async for piece in pieces:
                        wanted = piece if span is None else piece[: span.stop - position]
                        position += len(wanted)
                        yield wanted
                        if span is not None and position == span.stop:
                            return
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("ngas: RETRIEVE broke off: %s", type(error).__name__)
            else:
                if span is None:
                    return
            tries = 1 if position > before else tries + 1
            if tries > _TRIES:
                raise ServiceBusy("the archive does not answer")

    async def _read_from(self, file_id: str, position: int) -> AsyncGenerator[bytes, None]:
        """Give the bytes from a position; the protocol knows no end of a range, so who has enough hangs up."""
        headers = {"Range": f"bytes={position}-"} if position else {}
        async with self._ask("RETRIEVE", {"file_id": file_id, "file_version": "1"}, headers=headers) as answer:
            if answer.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                words = (await answer.content.read(_WORDS)).decode(errors="replace")
                _require_success("RETRIEVE", answer.status, words)
            skip = position if position and "Content-Range" not in answer.headers else 0
            async for piece in answer.content.iter_chunked(_PIECE):
                if len(piece) > skip:
                    yield piece[skip:]
                skip = max(skip - len(piece), 0)


def _require_success(command: str, status: int, document: str) -> None:
    """Tell from status and document whether a command failed: some failures of DISCARD come with status 200."""
    said = _STATUS.search(document)
    if status == HTTPStatus.OK and (said is None or said[1] == "SUCCESS"):
        return
    message = _MESSAGE.search(document)
    words = message[1] if message else "no message"
    log.warning("ngas: %s: status %s: %s", command, status, words)
    if status in _BUSY or "NGAMS_ER_IMPROPER_STATE" in words:
        raise ServiceBusy("the archive cannot answer now")
    if "NGAMS_AL_NO_STO_SETS" in words:
        raise InsufficientStorage("the archive has no volume for these bytes")
    raise NgasError(f"{command}: status {status}: {words}")


def _time(text: str) -> datetime:
    """Read a time, UTC if it has no zone; what cannot be read is now: the latest that it may be."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return datetime.now(UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
