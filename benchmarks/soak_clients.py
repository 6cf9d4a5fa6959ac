"""The clients of the soak: each knows what its names hold, and finds out what does not fit."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode, urlsplit

from benchmarks.http import Answer, Connection, request
from benchmarks.measures import Setting

PATIENCE: Final = 15.0
"""Seconds that a client gives to an operation."""
_IDLE: Final = 15.0
"""Seconds after which a connection is not used again: the server is about to close it."""
_BLOCK: Final = os.urandom(1 << 20)
_STAMP: Final = 16
_SIZES: Final = (0, 1, 1000, 1000, 1000, 1000, 20_000, 20_000, 200_000, 1_000_000)
_FEWEST, _MOST = 8, 30
_SETTLED: Final = 60.0
"""Seconds after which all that a failure left behind has ended: jobs of dead workers, uploads to frozen ones."""
_HURRY: Final = 0.25
"""How often a client with a name in doubt looks at it, in place of what it would do."""
_ROOM: Final = 507
_TITLE: Final = b"ivo://ivoa.net/vospace/core#title"
_NAMES: Final = re.compile(rb"<(?:vos:)?node [^>]*uri=\"[^\"]*/([^\"/]+)\"")
_ENDPOINT: Final = re.compile(rb"<vos:endpoint>([^<]+)</vos:endpoint>")
_MOVE: Final = (
    "<vos:transfer xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' version='2.1'><vos:target>{source}</vos:target>"
    "<vos:direction>{target}</vos:direction><vos:keepBytes>{keep}</vos:keepBytes></vos:transfer>"
)
_SUMMARY: Final = re.compile(r"<uws:message>([^<]*)")
_FORM: Final = "application/x-www-form-urlencoded"


class WrongError(Exception):
    """An answer that breaks a promise, whatever else is wrong at the moment."""


class FailedError(Exception):
    """An operation that was not done, or perhaps was.

    Parameters
    ----------
    part
        The server that was asked.
    kind
        ``connection``, ``timeout``, or the status of the answer.
    """

    def __init__(self, part: str, kind: str, words: str) -> None:
        super().__init__(f"{kind} by the {part} server: {words}")
        self.part = part
        self.kind = kind
        summary = _SUMMARY.search(words)
        self.fault = summary[1].split(":")[0] if summary else words.split(" ", 1)[0].strip()
        """What the server calls it."""

    @property
    def refused(self) -> bool:
        """It was not done: everything is as it was."""
        return self.kind.startswith("4") or self.kind == str(_ROOM)


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that no other upload has."""

    stamp: bytes
    size: int

    @classmethod
    def new(cls, chance: random.Random) -> Content:
        """Make some of a size by the lot."""
        return cls(os.urandom(_STAMP), chance.choice(_SIZES))

    def whole(self) -> bytes:
        """Give them."""
        return (self.stamp + _BLOCK[: max(0, self.size - _STAMP)])[: self.size]


@dataclass(frozen=True, slots=True)
class Known:
    """A data node of which is known what it holds."""

    content: Content | None = None
    """None: no bytes."""
    title: bytes = b""
    unread: bool = False
    """What was stored has not been read back yet."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A name of which is not known what it holds."""

    before: Known | None
    after: Known | None
    since: float

    def allows(self, found: bytes | None) -> bool:
        """Say whether bytes (None: no node) are of one of the two."""
        return found in {_bytes(self.before), _bytes(self.after)}


class Client:
    """One client, with a folder of its own and one operation at a time.

    What fails without a clear answer makes a name doubtful: it may be as before or as it should be, and is left alone
    until that can be said. Then it is read and deleted: else each fault would leave bytes, and fill the disk.
    """

    def __init__(self, setting: Setting, folder: str, place: str, number: int) -> None:
        self.place = place
        self.known: dict[str, Known] = {}
        self.doubtful: dict[str, Doubt] = {}
        self.acknowledged = 0
        """Writes of bytes."""
        self.read_back = 0
        self.undone = 0
        """Acknowledged writes that an operation without a clear answer has done away with, before they were read."""
        self._setting = setting
        self._token = setting.space.token
        self._folder = f"{folder}/client-{number}"
        self._chance = random.Random(number)
        self._connections: dict[int, Connection] = {}
        self._used: dict[int, float] = {}
        self._part = "metadata"
        self._made = 0
        self._trees: set[str] = set()
        """Containers that were left in an unknown state."""

    async def begin(self) -> None:
        """Make the folder, with as many files as are in it most of the time."""
        await self.make(self._folder)
        for _ in range(_FEWEST):
            await self.push()

    async def make(self, path: str) -> None:
        """Make a container."""
        document = self._setting.node(path, "ContainerNode")
        await self._meta(self._message("PUT", f"/nodes{path}", document), 201)

    def kept(self) -> tuple[int, int]:
        """Count the files that there may be, and their bytes."""
        held = [*self.known.values(), *(one.before or one.after for one in self.doubtful.values())]
        return len(held), sum(one.content.size for one in held if one and one.content)

    def unread_in_doubt(self) -> int:
        """Count acknowledged writes that are not known to be there any more, and may be."""
        return self.undone + sum(1 for one in self.doubtful.values() if one.before is not None and one.before.unread)

    def choose(self) -> str:
        """Draw an operation; how many names there are stays about the same."""
        if self._settled() and self._chance.random() < _HURRY:
            return "resolve"
        operation = self._chance.choices(_NAMES_OF_OPERATIONS, _WEIGHTS)[0]
        if len(self.known) > _MOST and operation in {"create", "push", "copy"}:
            return "delete"
        if len(self.known) < _FEWEST and operation not in {"list", "entries"}:
            return "push"
        return operation

    async def perform(self, operation: str) -> None:
        """Do it.

        Raises
        ------
        FailedError
            It failed, which may be the fault of somebody else.
        WrongError
            A promise is broken.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await OPERATIONS[operation][1](self)
        except TimeoutError:
            self.close()
            raise FailedError(self._part, "timeout", operation) from None

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()

    async def settle(self) -> list[str]:
        """Read everything; say what is not as it should be."""
        wrong = []
        for name, known in [*self.known.items(), *((name, None) for name in self.doubtful)]:
            allowed = self.doubtful.get(name) or Doubt(known, known, 0.0)
            try:
                found = await self._read(name)
            except (FailedError, WrongError) as error:
                wrong.append(f"{self._folder}/{name}: {error}")
                continue
            if not allowed.allows(found):
                wrong.append(f"{self._folder}/{name} holds {'nothing' if found is None else f'{len(found)} bytes'}")
            elif known is not None and known.unread:
                self.read_back += 1
                self.known[name] = replace(known, unread=False)
        try:
            await self.list_folder()
        except (FailedError, WrongError) as error:
            wrong.append(str(error))
        return wrong

    async def create(self) -> None:
        """Make a node without bytes."""
        name = self._new()
        document = self._setting.node(f"{self._folder}/{name}", "DataNode")
        await self._change(
            {name: Known(title=b"a title")}, self._meta(self._message("PUT", self._node(name), document), 201)
        )

    async def get(self) -> None:
        """Read the node document."""
        name, known = self._some()
        answer = await self._meta(self._message("GET", self._node(name)), 200)
        if (known.title not in answer.body) if known.title else (_TITLE in answer.body):
            raise WrongError(f"{name} has another title than {known.title!r}")

    async def set_title(self) -> None:
        """Give a node another title."""
        name, known = self._some()
        title = f"title {self._chance.random()}".encode()
        document = self._setting.node(f"{self._folder}/{name}", "DataNode").replace(b"a title", title)
        await self._change(
            {name: replace(known, title=title)}, self._meta(self._message("POST", self._node(name), document), 200)
        )

    async def list_folder(self) -> None:
        """List the folder."""
        answer = await self._meta(self._message("GET", f"/nodes{self._folder}"), 200)
        self._compare({name.decode() for name in _NAMES.findall(answer.body)[1:]})

    async def entries(self) -> None:
        """List the folder as a mount does."""
        answer = await self._meta(self._message("GET", f"/entries{self._folder}"), 200)
        self._compare({json.loads(line)["name"] for line in answer.body.splitlines()[1:]})

    async def search(self) -> None:
        """Search below the folder."""
        query = urlencode({"target": self._uri(""), "name": "*"})
        answer = await self._meta(self._message("GET", f"/search?{query}"), 200)
        found = {name.decode() for name in _NAMES.findall(answer.body)}
        if extra := found - {*self.known, *self.doubtful, *self._trees, "child"}:
            raise WrongError(f"the search found {extra}")

    async def push(self) -> None:
        """Push a new file, negotiated by document."""
        await self._store(self._new(), self._document_endpoint)

    async def overwrite(self) -> None:
        """Replace the bytes of a file that has been read since it was written, negotiated by path."""
        name = next((name for name, known in self._shuffled() if not known.unread), None)
        await self._store(name or self._new(), self._path_endpoint)

    async def pull(self) -> None:
        """Fetch a file, of those that were never read if there are any."""
        name, known = next((pair for pair in self._shuffled() if pair[1].unread), None) or self._some()
        found = await self._read(name)
        if found != _bytes(known):
            raise WrongError(f"other bytes came back from {self._folder}/{name}")
        if known.unread:
            self.read_back += 1
            self.known[name] = replace(known, unread=False)

    async def delete(self) -> None:
        """Delete a file that has been read."""
        name = next((name for name, known in self._shuffled() if not known.unread), None)
        if name is None:
            await self.pull()
            return
        await self._change({name: None}, self._meta(self._message("DELETE", self._node(name)), 204))

    async def move(self) -> None:
        """Rename a file."""
        (name, known), target = self._some(), self._new()
        await self._change({name: None, target: known}, self._moved("/synctrans", name, target, keep="false"))

    async def copy(self) -> None:
        """Copy a file by a job, and wait for its end."""
        (name, known), target = self._some(), self._new()
        await self._change(
            {target: replace(known, unread=False)},
            self._moved("/transfers?PHASE=RUN", name, target, keep="true"),
        )

    async def tree(self) -> None:
        """Make a container with a child, rename it and delete it by a job."""
        name, target = self._new(), self._new()
        self._trees |= {name, target}
        for path, kind in ((name, "ContainerNode"), (f"{name}/child", "DataNode")):
            document = self._setting.node(f"{self._folder}/{path}", kind)
            await self._meta(self._message("PUT", self._node(path), document), 201)
        await self._moved("/synctrans", name, target, keep="false")
        form = urlencode({"target": self._uri(target), "PHASE": "RUN"}).encode()
        answer = await self._meta(self._message("POST", "/async-delete", form, _FORM), 303)
        await self._ended(_path(answer))
        self._trees -= {name, target}

    async def resolve(self) -> None:
        """Read the name that has been doubtful for longest, and delete it."""
        name = self._settled()
        doubt = self.doubtful[name]
        self.doubtful[name] = replace(doubt, since=time.monotonic())  # should this fail it is left alone for as long
        found = await self._read(name)
        if not doubt.allows(found):
            raise WrongError(f"{self._folder}/{name} holds {'nothing' if found is None else f'{len(found)} bytes'}")
        if doubt.before is not None and doubt.before.unread:
            same = found == _bytes(doubt.before)
            self.read_back, self.undone = self.read_back + same, self.undone + (not same)
        del self.doubtful[name]
        held = doubt.before if found == _bytes(doubt.before) else doubt.after
        if held is not None:
            self.known[name] = replace(held, unread=False)
            await self._change({name: None}, self._meta(self._message("DELETE", self._node(name)), 204))

    def _settled(self) -> str:
        """Name what has been doubtful for long enough; empty: nothing."""
        name = min(self.doubtful, key=lambda one: self.doubtful[one].since, default="")
        return name if name and time.monotonic() - self.doubtful[name].since > _SETTLED else ""

    async def _change(self, after: Mapping[str, Known | None], action: Awaitable[object]) -> None:
        """Remember what an action makes of names, or that it is not known."""
        before = {name: self.known.pop(name, None) for name in after}
        try:
            await action
        except BaseException as error:
            if isinstance(error, FailedError) and error.refused:
                self.known |= {name: known for name, known in before.items() if known is not None}
            else:
                moment = time.monotonic()
                self.doubtful |= {name: Doubt(before[name], known, moment) for name, known in after.items()}
            raise
        self.known |= {name: known for name, known in after.items() if known is not None}

    async def _store(self, name: str, negotiate: Callable[[str], Awaitable[str]]) -> None:
        content = Content.new(self._chance)
        await self._change({name: Known(content, unread=True)}, self._put(name, content, negotiate))
        self.acknowledged += 1

    async def _put(self, name: str, content: Content, negotiate: Callable[[str], Awaitable[str]]) -> None:
        endpoint = await negotiate(name)
        await self._storage(endpoint, "PUT", 201, content.whole())

    async def _path_endpoint(self, name: str) -> str:
        answer = await self._meta(self._message("PUT", f"/files{self._folder}/{name}"), 307)
        return answer.headers["location"]

    async def _document_endpoint(self, name: str) -> str:
        document = self._setting.transfer(f"{self._folder}/{name}", "pushToVoSpace", "httpput")
        answer = await self._meta(self._message("POST", "/synctrans", document), 303)
        details = await self._meta(self._message("GET", _path(answer)), 200)
        match = _ENDPOINT.search(details.body)
        if match is None:
            raise FailedError("metadata", "no endpoint", details.body[:300].decode())
        return match[1].decode()

    async def _read(self, name: str) -> bytes | None:
        """Fetch a file by its path; None: there is none."""
        answer = await self._meta(self._message("GET", f"/files{self._folder}/{name}"), 200, 303, 404)
        if answer.status != 303:  # noqa: PLR2004 (see other)
            return None if answer.status != 200 else answer.body  # noqa: PLR2004 (fine)
        return (await self._storage(answer.headers["location"], "GET", 200)).body

    async def _moved(self, where: str, name: str, target: str, *, keep: str) -> None:
        document = _MOVE.format(source=self._uri(name), target=self._uri(target), keep=keep).encode()
        answer = await self._meta(self._message("POST", where, document), 303)
        await self._ended(_path(answer).removesuffix("/results/transferDetails"))

    async def _ended(self, job: str) -> None:
        while True:
            answer = await self._meta(self._message("GET", f"{job}/phase"), 200)
            phase = answer.body.decode()
            if phase == "COMPLETED":
                return
            if phase not in {"PENDING", "QUEUED", "EXECUTING"}:
                words = await self._meta(self._message("GET", job), 200)
                raise FailedError("metadata", phase, words.body[-500:].decode())
            await self._meta(self._message("GET", f"{job}?WAIT=10"), 200)

    async def _meta(self, message: bytes, *expected: int) -> Answer:
        return await self._ask("metadata", self._setting.space.port, message, expected)

    async def _storage(self, endpoint: str, method: str, expected: int, content: bytes = b"") -> Answer:
        parts = urlsplit(endpoint)
        message = request(method, parts.path, body=content, kind="application/fits")
        return await self._ask("storage", parts.port or 80, message, (expected,))

    async def _ask(self, part: str, port: int, message: bytes, expected: tuple[int, ...]) -> Answer:
        self._part = part
        connection = self._connections.setdefault(port, Connection("127.0.0.1", port))
        if time.monotonic() - self._used.get(port, 0.0) > _IDLE:
            connection.close()
        try:
            answer = await connection.ask(message)
        except (OSError, asyncio.IncompleteReadError) as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise
            raise FailedError(part, "connection", repr(error)) from None
        self._used[port] = time.monotonic()
        if answer.status not in expected:
            raise FailedError(part, str(answer.status), answer.body[:300].decode(errors="replace"))
        return answer

    def _message(self, method: str, path: str, body: bytes = b"", kind: str = "text/xml") -> bytes:
        return request(method, path, token=self._token, body=body, kind=kind)

    def _compare(self, found: set[str]) -> None:
        missing, extra = self.known.keys() - found, found - {*self.known, *self.doubtful, *self._trees}
        if missing or extra:
            raise WrongError(f"the listing of {self._folder} lacks {missing} and has {extra}")

    def _shuffled(self) -> list[tuple[str, Known]]:
        return self._chance.sample(list(self.known.items()), len(self.known))

    def _some(self) -> tuple[str, Known]:
        return self._chance.choice(list(self.known.items()))

    def _new(self) -> str:
        self._made += 1
        return f"file-{self._made}.fits"

    def _node(self, name: str) -> str:
        return f"/nodes{self._folder}/{name}"

    def _uri(self, name: str) -> str:
        return f"vos://{self._setting.space.authority}{self._folder}/{name}".rstrip("/")


def _bytes(known: Known | None) -> bytes | None:
    """Give what a file holds; None: there is none."""
    return None if known is None else (known.content or Content(b"", 0)).whole()


def _path(answer: Answer) -> str:
    return urlsplit(answer.headers["location"]).path


OPERATIONS: Final[Mapping[str, tuple[int, Callable[[Client], Awaitable[None]]]]] = {
    "get": (14, Client.get),
    "list": (8, Client.list_folder),
    "entries": (6, Client.entries),
    "search": (2, Client.search),
    "create": (8, Client.create),
    "set": (6, Client.set_title),
    "push": (16, Client.push),
    "pull": (20, Client.pull),
    "overwrite": (6, Client.overwrite),
    "delete": (8, Client.delete),
    "move": (3, Client.move),
    "copy": (2, Client.copy),
    "tree": (1, Client.tree),
    "resolve": (0, Client.resolve),
}
"""How often each is drawn, of a hundred."""
_NAMES_OF_OPERATIONS: Final = tuple(OPERATIONS)
_WEIGHTS: Final = tuple(weight for weight, _ in OPERATIONS.values())
BYTES: Final = frozenset({"push", "pull", "overwrite"})
