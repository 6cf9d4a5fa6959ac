"""Clients that do whatever clients do, at random, and know what they may find."""

from __future__ import annotations

import asyncio
import base64
import io
import random
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from pyvospace.model.vocabulary import CORE, TUS, Direction
from pyvospace.wire.xml import VOSPACE, V
from tests.campaign.source import Source
from tests.campaign.worlds import Copy, Delete, LostError, Move, Names, Operation, Put, Worlds
from tests.support.agents import Agent, Answer, endpoints_of, properties_of, transfer_document, uri_of
from tests.support.jobs import FORM, transfer

FOLDERS: Final[Mapping[str, Mapping[str, int]]] = {
    "plain": {},
    "copies": {"replicas": 2},
    "versions": {"versions": 2},
    "trash": {"trash_days": 1},
}
"""Containers of each client, and their policies."""
EACH: Final = 2
"""Names in each."""
PATIENCE: Final = 90.0
_SIZES: Final = (0, 10, 4000, 70_000, 1_000_000, 3_000_000)
_LARGE: Final = 7_000_000
"""More than one part of an upload to S3."""
_PIECE: Final = 100_000
_MOST_WORLDS: Final = 500
_GONE: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)
_ENDED: Final = frozenset({"COMPLETED", "ERROR", "ABORTED"})
_TRIES: Final = 3
_UNKNOWN: Final = "it is not known whether"
"""What an upload is told whose commit nobody has heard of; the only answer of status 500 that there may be."""
_TAR: Final = "application/x-tar"


@dataclass
class Tally:
    """What happened."""

    done: Counter[str] = field(default_factory=Counter)
    """Operations that were acknowledged, or reads that were right."""
    answers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """Answers of status 500 that should not be."""


class Client:
    """Works on names of its own, whatever happens."""

    def __init__(self, agent: Agent, folder: str, seed: int, tally: Tally, source: Source) -> None:
        self._agent = agent
        self._source = source
        self._random = random.Random(seed)
        self._tally = tally
        self._folder = folder
        self.folders = [f"{folder}/{name}" for name in FOLDERS]
        self.paths = [f"{one}/n{number}" for one in self.folders for number in range(EACH)]
        self.worlds = Worlds(len(self.paths))

    async def prepare(self, admin: Agent) -> None:
        """Make the containers."""
        await self._agent.make(self._folder, "ContainerNode")
        for path, policy in zip(self.folders, FOLDERS.values(), strict=True):
            await self._agent.make(path, "ContainerNode")
            if policy:
                await set_policy(admin, path, policy)

    async def work(self, end: float) -> None:
        """Go on until the time is over."""
        kinds = {
            self._upload: 8,
            self._upload_by_document: 4,
            self._upload_in_parts: 5,
            self._upload_wrong: 1,
            self._fetch: 2,
            self._delete: 4,
            self._read: 8,
            self._move: 3,
            self._copy: 3,
            self._list: 3,
            self._archive: 2,
        }
        while time.monotonic() < end:
            kind = self._random.choices([*kinds], [*kinds.values()])[0]
            if len(self.worlds) > _MOST_WORLDS:
                kind = self._read
            try:
                await kind(self._random.randrange(len(self.paths)))
            except _GONE as error:
                self._tally.answers[type(error).__name__] += 1
                await asyncio.sleep(0.1)

    # What changes something

    async def _upload(self, name: int) -> None:
        content, data = self._bytes()
        agreed = await self._ask("PUT", f"/files{self.paths[name]}", b"")
        if agreed.status == HTTPStatus.TEMPORARY_REDIRECT:
            await self._send(Put(name, content), [agreed.location], data)

    async def _upload_by_document(self, name: int) -> None:
        """By an endpoint of a document, the length not announced."""
        content, data = self._bytes()
        if endpoints := await self._negotiate(name, CORE + "httpsput"):
            await self._send(Put(name, content), endpoints, data, chunked=True)

    async def _send(self, put: Put, endpoints: list[str], data: bytes, *, chunked: bool = False) -> None:
        """Send bytes, and once more if nobody says what became of them, as clients do."""
        for attempt in range(_TRIES):
            endpoint = endpoints[attempt % len(endpoints)]
            try:
                answer = await self._ask("PUT", endpoint, _pieces(data) if chunked else data)
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.1)
                continue
            except _GONE:
                self.worlds.lost(put)
                await asyncio.sleep(0.1)
                continue
            if self._settle(answer, put, "upload"):
                return

    async def _upload_wrong(self, name: int) -> None:
        """Announce another digest than that of the bytes: nothing may change."""
        _, data = self._bytes()
        agreed = await self._ask("PUT", f"/files{self.paths[name]}", b"")
        if agreed.status != HTTPStatus.TEMPORARY_REDIRECT:
            return
        wrong = base64.b64encode(bytes(16)).decode()
        answer = await self._ask("PUT", agreed.location, data, headers={"Content-MD5": wrong})
        if answer.status < HTTPStatus.BAD_REQUEST:
            raise LostError(f"bytes with a wrong digest were taken: {answer.status}")
        self._tally.done["wrong upload refused"] += 1

    async def _upload_in_parts(self, name: int) -> None:
        """By TUS, in several requests, gone on with where the server says."""
        content, data = self._bytes()
        endpoints = await self._negotiate(name, TUS) if data else []
        if not endpoints:
            return
        begun = await self._ask("POST", endpoints[0], b"", headers={**_TUS, "Upload-Length": str(len(data))})
        if begun.status != HTTPStatus.CREATED:
            return
        upload = _Parts(begun.location, data)
        end = time.monotonic() + PATIENCE / 2
        try:
            # Some are never gone on with.
            while not upload.over and time.monotonic() < end and self._random.random() > 0.02:
                try:
                    await self._next_part(upload)
                except _GONE:
                    await asyncio.sleep(0.1)
        finally:
            if upload.unclear:
                self.worlds.lost(Put(name, content))
        if upload.whole:
            self._acknowledge(Put(name, content), "upload in parts")

    async def _next_part(self, upload: _Parts) -> None:
        told = await self._ask("HEAD", upload.url, headers=_TUS)
        if told.status != HTTPStatus.OK:
            upload.refused = told.status < HTTPStatus.INTERNAL_SERVER_ERROR
            return
        offset, total = int(told.headers["Upload-Offset"]), len(upload.data)
        upload.whole = offset == total
        if upload.whole:
            return
        size = min(self._random.choice((_PIECE, total)), total - offset)
        upload.last_sent = upload.last_sent or offset + size == total
        headers = {**_TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        answer = await self._ask("PATCH", upload.url, upload.data[offset : offset + size], headers=headers)
        upload.whole = answer.status == HTTPStatus.NO_CONTENT and offset + size == total

    async def _delete(self, name: int) -> None:
        try:
            answer = await self._ask("DELETE", f"/nodes{self.paths[name]}")
        except aiohttp.ClientConnectorError:
            raise
        except _GONE:
            self.worlds.lost(Delete(name))
            raise
        if answer.status == HTTPStatus.NOT_FOUND:
            self._see_nothing(name)
        else:
            self._settle(answer, Delete(name), "delete")

    async def _move(self, name: int) -> None:
        goal = self._random.randrange(len(self.paths))
        if goal != name:
            await self._job(Move(name, goal), transfer(self.paths[name], self.paths[goal], keep=False), "move")

    async def _copy(self, name: int) -> None:
        goal = self._random.randrange(len(self.paths))
        if goal != name:
            await self._job(Copy(name, goal), transfer(self.paths[name], self.paths[goal], keep=True), "copy")

    async def _fetch(self, name: int) -> None:
        """Let the service fetch bytes from elsewhere."""
        content, data = self._bytes()
        url = self._source.offer(data)
        document = (
            f'<transfer xmlns="{VOSPACE}" version="2.1"><target>{uri_of(self.paths[name])}</target>'
            f'<direction>pullToVoSpace</direction><protocol uri="{CORE}httpget"><endpoint>{url}</endpoint></protocol>'
            "</transfer>"
        )
        await self._job(Put(name, content), document, "fetch from elsewhere")
        self._source.withdraw(url)

    async def _job(self, operation: Operation, document: str, what: str) -> None:
        """Make a job and wait until it has ended, whatever happens meanwhile."""
        made = await self._ask("POST", "/transfers", document.encode())
        if made.status != HTTPStatus.SEE_OTHER:
            return
        end = time.monotonic() + PATIENCE
        while (phase := await self._phase(made.location)) not in _ENDED:
            if time.monotonic() > end:
                raise LostError(f"{made.location} is {phase or 'unknown'} after {PATIENCE:.0f} s")
            await asyncio.sleep(0.05)
        if phase == "COMPLETED":
            self._acknowledge(operation, what)

    async def _phase(self, job: str) -> str:
        """Give the phase of a job, and run it if it waits for that."""
        try:
            told = await self._ask("GET", f"{job}/phase")
            phase = told.text if told.status == HTTPStatus.OK else ""
            if phase == "PENDING":
                await self._ask("POST", f"{job}/phase", b"PHASE=RUN", headers=FORM)
        except _GONE:
            return ""
        return phase

    def _settle(self, answer: Answer, operation: Operation, what: str) -> bool:
        """Take over what an answer says; False: it says nothing."""
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            if answer.status != HTTPStatus.INSUFFICIENT_STORAGE:
                self.worlds.lost(operation)
            return False
        if answer.status < HTTPStatus.BAD_REQUEST:
            self._acknowledge(operation, what)
        return True

    def _acknowledge(self, operation: Operation, what: str) -> None:
        self._tally.done[what] += 1
        self.worlds.done(operation)

    # What only looks

    async def _read(self, name: int) -> None:
        await self.read(name, part=self._random.random() < 0.5)

    async def read(self, name: int, *, part: bool = False) -> bool:
        """Read a node, or a part of it, and compare; False: nobody could say."""
        answer = await self._ask("GET", f"/files{self.paths[name]}")
        if answer.status == HTTPStatus.NOT_FOUND:
            self._see_nothing(name)
            return True
        if answer.status != HTTPStatus.SEE_OTHER:
            return False
        first = self._random.randrange(100_000)
        last = first + self._random.randrange(100_000)
        headers = {"Range": f"bytes={first}-{last}"} if part else {}
        answer = await self._ask("GET", answer.location, headers=headers)
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            self._see(name, answer.body, slice(first, last + 1))
        elif answer.status == HTTPStatus.OK:
            self._see(name, answer.body, slice(None), digest=answer.headers["Digest"])
        else:
            return answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return True

    def _see_nothing(self, name: int) -> None:
        self.worlds.see(lambda names: names[name] is None, f"{self.paths[name]}: no node")
        self._tally.done["nothing"] += 1

    def _see(self, name: int, found: bytes, part: slice, digest: str = "") -> None:
        contents = self.worlds.contents

        def fits(names: Names) -> bool:
            held = names[name]
            if held is None or contents[held].data[part] != found:
                return False
            return not digest or digest == f"md5={base64.b64encode(bytes.fromhex(contents[held].md5)).decode()}"

        self.worlds.see(fits, f"{self.paths[name]}: {len(found)} bytes of {part}, digest {digest}")
        self._tally.done["read" if digest else "range"] += 1

    async def _list(self, name: int) -> None:
        folder = name // EACH
        answer = await self._ask("GET", f"/nodes{self.folders[folder]}")
        if answer.status == HTTPStatus.OK:
            self._see_listing(folder, answer)

    async def list_all(self) -> None:
        """Compare all listings, in a time without faults."""
        for folder, path in enumerate(self.folders):
            answer = await self._ask("GET", f"/nodes{path}")
            if answer.status != HTTPStatus.OK:
                raise LostError(f"{path} cannot be listed: {answer.text}")
            self._see_listing(folder, answer)

    def _see_listing(self, folder: int, answer: Answer) -> None:
        """A listing is of one moment: all names in it are of one world, and so are lengths and digests."""
        found = {}
        for child in answer.xml.iterfind(f"{V}nodes/{V}node"):
            told = properties_of(child)
            found[(child.get("uri") or "").rsplit("/", 1)[-1]] = (told[CORE + "length"], told[CORE + "MD5"])
        contents = self.worlds.contents

        def fits(names: Names) -> bool:
            held = enumerate(names[folder * EACH : (folder + 1) * EACH])
            there = {f"n{at}": contents[one] for at, one in held if one is not None}
            return found == {at: (str(len(one.data)), one.md5) for at, one in there.items()}

        self.worlds.see(fits, f"{self.folders[folder]}: {found}")
        self._tally.done["listing"] += 1

    async def _archive(self, name: int) -> None:
        """Fetch a container as an archive: of each member, what it may be."""
        folder = name // EACH
        where = URL("/synctrans").with_query(
            TARGET=f"vos://{self._agent.pair.authority}{self.folders[folder]}",
            DIRECTION=Direction.PULL_FROM_VOSPACE,
            PROTOCOL=CORE + "httpsget",
            VIEW=_TAR,
        )
        before = self.worlds.states()
        answer = await self._ask("GET", str(where))
        if answer.status != HTTPStatus.SEE_OTHER:
            return
        answer = await self._ask("GET", answer.location)
        if answer.status != HTTPStatus.OK:
            return
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
            files = {one.name.rsplit("/", 1)[-1]: archive.extractfile(one) for one in archive if one.isfile()}
            found = {path: file.read() for path, file in files.items() if file is not None}
        states = before | self.worlds.states()
        for at in range(EACH):
            held = {names[folder * EACH + at] for names in states}
            possible = {None if one is None else self.worlds.contents[one].data for one in held}
            if found.get(f"n{at}") not in possible:
                raise LostError(f"{self.folders[folder]}/n{at} is other bytes in an archive")
        self._tally.done["archive"] += 1

    # How

    def _bytes(self) -> tuple[int, bytes]:
        size = _LARGE if self._random.random() < 0.03 else self._random.choice(_SIZES)
        data = self._random.randbytes(size)
        return self.worlds.new(data), data

    async def _negotiate(self, name: int, protocol: str) -> list[str]:
        """Agree by a document on endpoints for an upload; empty: nobody could."""
        document = transfer_document(self.paths[name], Direction.PUSH_TO_VOSPACE, [protocol])
        answer = await self._ask("POST", "/synctrans", document.encode())
        if answer.status != HTTPStatus.SEE_OTHER:
            return []
        details = await self._ask("GET", answer.location)
        return endpoints_of(details.xml) if details.status == HTTPStatus.OK else []

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        if body is None or isinstance(body, bytes):
            answer = await self._agent.send(method, path, body, headers=headers, checked=False)
        else:
            async with self._agent.session.request(method, path, data=body, headers=headers) as response:
                answer = Answer(response.status, response.headers, await response.read())
        self._count(method, answer)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            await asyncio.sleep(0.05)
        return answer

    def _count(self, method: str, answer: Answer) -> None:
        self._tally.answers[f"{method} {answer.status}"] += 1
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and _UNKNOWN not in answer.text:
            self._tally.faults[f"{method} {answer.text.strip()}"] += 1


_TUS: Final = {"Tus-Resumable": "1.0.0"}


@dataclass
class _Parts:
    """An upload in parts."""

    url: str
    data: bytes
    last_sent: bool = False
    """Its last byte was sent at least once."""
    whole: bool = False
    """All bytes are there, says the server."""
    refused: bool = False

    @property
    def over(self) -> bool:
        return self.whole or self.refused

    @property
    def unclear(self) -> bool:
        return self.last_sent and not self.whole


async def set_policy(admin: Agent, path: str, policy: Mapping[str, int]) -> None:
    """Say what is done with the bytes of a container."""
    answer = await admin.session.patch(
        f"{admin.pair.url}/policy",
        params={"container": path},
        json=dict(policy),
        headers={"Authorization": f"Bearer {admin.token}"},
    )
    if answer.status != HTTPStatus.OK:
        raise RuntimeError(await answer.text())


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]
