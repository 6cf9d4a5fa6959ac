"""Who may do what with which node: the table of the matrix, and what the rulings say of each of its cells.

Nothing here is taken from the policy of the server: what is expected follows from the few functions below.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from pyvospace.model.archives import TAR
from pyvospace.model.vocabulary import CORE, PACKAGE_VIEW
from pyvospace.wire.xml import UWS, V
from tests.support.agents import Agent, Answer, endpoints_of, node_document, transfer_document, uri_of
from tests.support.jobs import FORM, transfer

NAME, GOAL, ABSENT = "hidden-node", "hidden-goal", "absent-node"
"""Of the node that everything is about, of where it leads if it is a link, and of one that is not there."""
SECRET, GOAL_SECRET = "the-secret-title", "the-title-of-the-goal"
BYTES: Final = b"the-secret-bytes" * 4321
PUBLIC, TITLE, LOCKED, IMMUTABLE = (CORE + name for name in ("ispublic", "title", "islocked", "immutable"))
GET, PUT = CORE + "httpsget", CORE + "httpsput"

PEOPLE: Final = ("owner", "reader", "writer", "stranger", "nobody", "admin")
USERS: Final = (*PEOPLE, "limited", "elsewhere", "url")
"""limited: a token of the owner, to read where the nodes are; elsewhere: one that may all, in another place; url: who
has nothing but an endpoint that the owner has agreed on."""


@dataclass(frozen=True)
class State:
    """How a node is protected, and where it is."""

    node: str = "group"
    """private; group: both groups are named; public: and everybody may read."""
    box: str = "public"
    """The same of its container."""
    goal: str | None = None
    """It is a link; the same of the node that it leads to."""
    locked: bool = False
    fixed: bool = False
    box_locked: bool = False
    box_fixed: bool = False
    inherited: bool = False


STATES: Final = {
    "private": State("private"),
    "group": State(),
    "public": State("public"),
    "inherited": State("public", inherited=True),
    "locked": State(locked=True),
    "immutable": State(fixed=True),
    "in locked": State(box_locked=True),
    "in immutable": State(fixed=True, box_fixed=True),
    "hidden": State("public", box="private"),
    "link to private": State(goal="private"),
    "link to public": State(goal="public"),
}


@dataclass(frozen=True)
class Cell:
    """What somebody does to a node of his own for it."""

    user: str
    state: str
    operation: str
    top: str

    @property
    def box(self) -> str:
        """Path of the container."""
        return f"{self.top}/{self.user}/{quote(self.state)}/{quote(self.operation)}"

    @property
    def path(self) -> str:
        """Path of the node."""
        return f"{self.box}/{NAME}"


def cells(top: str) -> Iterator[Cell]:
    """Give all of them; with a URL one can do no more than it is for."""
    for user, state, operation in itertools.product(USERS, STATES, OPERATIONS):
        if user != "url" or (operation in BY_URL and expected("owner", state, operation) == "ok"):
            yield Cell(user, state, operation, top)


# ------------------------------------------------------------------------------------------------- what the rulings say


def reads(who: str, rights: str) -> bool:
    """Say whether somebody may read what is protected so."""
    return who in {"owner", "admin"} or rights == "public" or (rights == "group" and who in {"reader", "writer"})


def writes(who: str, rights: str) -> bool:
    """Say whether somebody may write to what is protected so."""
    return who in {"owner", "admin"} or (rights != "private" and who == "writer")


def person(user: str) -> str:
    """Say whose rights count."""
    return "owner" if user in {"limited", "url"} else user


def sees(user: str, state: str) -> bool:
    """Say whether somebody may know what is in the node."""
    of = STATES[state]
    return user != "elsewhere" and reads(person(user), of.box) and reads(person(user), of.node)


def sees_goal(user: str, state: str) -> bool:
    """Say whether somebody may know the bytes: of the node, or of the one that it leads to."""
    of = STATES[state]
    return user != "elsewhere" and reads(person(user), of.box) and reads(person(user), of.goal or of.node)


def expected(user: str, state: str, operation: str) -> str:
    """Say what comes of an operation: ok, denied or locked."""
    if (user == "elsewhere" and operation != "package") or (user == "limited" and operation not in READING):
        return "denied"
    return _RULINGS[operation](person(user), STATES[state])


def _ok(holds: bool) -> str:
    return "ok" if holds else "denied"


def _of_box(who: str, of: State) -> str:
    return _ok(reads(who, of.box))


def _read(who: str, of: State) -> str:
    return _ok(reads(who, of.box) and reads(who, of.node))


def _read_goal(who: str, of: State) -> str:
    return _ok(_read(who, of) == "ok" and reads(who, of.goal or of.node))


def _set(who: str, of: State) -> str:
    return _ok(reads(who, of.box) and writes(who, of.node))


def _share(who: str, of: State) -> str:
    return _ok(who in {"owner", "admin"})


def _fix(who: str, of: State) -> str:
    return _set(who, of) if of.fixed else _share(who, of)  # what it is already changes nothing


def _unfix(who: str, of: State) -> str:
    return _ok(who == "admin" and not of.box_fixed) if of.fixed else _set(who, of)


def _write(who: str, of: State) -> str:
    if not (_read(who, of) == "ok" and writes(who, of.goal or of.node)):
        return "denied"
    return _unlocked(fixed=of.fixed and of.goal is None, locked=of.locked and of.goal is None)


def _unlocked(*, fixed: bool, locked: bool) -> str:
    return "denied" if fixed else "locked" if locked else "ok"


def _create(who: str, of: State) -> str:
    return _unlocked(fixed=of.box_fixed, locked=of.box_locked) if _box_writable(who, of) else "denied"


def _box_writable(who: str, of: State) -> bool:
    return reads(who, of.box) and writes(who, of.box)


def _delete(who: str, of: State) -> str:
    if not _box_writable(who, of):
        return "denied"
    return _unlocked(fixed=of.fixed or of.box_fixed, locked=of.locked or of.box_locked)


def _copy(who: str, of: State) -> str:
    return _create(who, of) if _read(who, of) == "ok" else "denied"


def _delete_job(who: str, of: State) -> str:
    """A job of that kind needs to see the node, and tells of all that is in the way in the same words."""
    return _ok(_read(who, of) == "ok" and _delete(who, of) == "ok")


def _set_job(who: str, of: State) -> str:
    return _ok(_read(who, of) == "ok" and _set(who, of) == "ok")


def _anything(who: str, of: State) -> str:
    del who, of
    return "ok"


# -------------------------------------------------------------------------------------------------------- operations


@dataclass(frozen=True)
class Outcome:
    """What came of an operation, and all that was told meanwhile."""

    verdict: str
    told: str


def _outcome(agent: Agent, *answers: Answer) -> Outcome:
    """Judge by the last answer; the others led to it."""
    last, told = answers[-1], "\n".join(one.body.decode("latin-1") for one in answers)
    if last.status < 400:
        return Outcome("ok", told)
    if last.status in {401, 403}:
        right = last.status == 403 or agent.token is None
        return Outcome("denied" if right else f"{last.status} {last.text}", told)
    return Outcome("locked" if last.status == 423 else f"{last.status} {last.text}", told)


async def get(agent: Agent, path: str, detail: str | None = None) -> Outcome:
    return _outcome(agent, await agent.get(path, **({} if detail is None else {"detail": detail})))


async def head(agent: Agent, path: str) -> Outcome:
    return _outcome(agent, await agent.send("HEAD", f"/nodes{path}"))


async def protocols(agent: Agent, path: str) -> Outcome:
    return _outcome(agent, await agent.send("POST", f"/nodes{path}", f'<protocols xmlns="{V[1:-1]}"/>'))


async def list_box(agent: Agent, path: str) -> Outcome:
    return _outcome(agent, await agent.get(path.rpartition("/")[0], detail="max"))


async def entry(agent: Agent, path: str) -> Outcome:
    return _outcome(agent, await agent.send("GET", f"/entries{path}"))


async def entries(agent: Agent, path: str) -> Outcome:
    return _outcome(agent, await agent.send("GET", f"/entries{path.rpartition('/')[0]}"))


async def set_property(agent: Agent, path: str, name: str, value: str) -> Outcome:
    return _outcome(agent, await agent.post(path, "Node", properties={name: value}))


async def create(agent: Agent, path: str) -> Outcome:
    return _outcome(agent, await agent.put(f"{path.rpartition('/')[0]}/made"))


async def bytes_by_path(agent: Agent, path: str, method: str) -> Outcome:
    answer = await agent.send(method, f"/files{path}")
    return await _fetch(agent, answer, method)


async def _fetch(agent: Agent, answer: Answer, method: str = "GET") -> Outcome:
    if answer.status != 303:
        return _outcome(agent, answer)
    got = await agent.send(method, answer.location)
    assert got.status != 200 or method == "HEAD" or got.body == BYTES
    return _outcome(agent, answer, got)


async def put_by_path(agent: Agent, path: str) -> Outcome:
    answer = await agent.send("PUT", f"/files{path}", b"new")
    if answer.status != 307:
        return _outcome(agent, answer)
    return _outcome(agent, answer, await agent.send("PUT", answer.location, b"new"))


async def by_parameters(agent: Agent, path: str, direction: str, protocol: str) -> Outcome:
    query = urlencode({"TARGET": uri_of(path), "DIRECTION": direction, "PROTOCOL": protocol})
    answer = await agent.send("GET", f"/synctrans?{query}")
    if direction == "pullFromVoSpace":
        return await _fetch(agent, answer)
    if answer.status != 303:
        return _outcome(agent, answer)
    return _outcome(agent, answer, await agent.send("PUT", answer.location, b"new"))


async def by_document(
    agent: Agent, path: str, direction: str, protocol: str, view: str | None = None, method: str = "GET"
) -> Outcome:
    answer = await agent.send("POST", "/synctrans", transfer_document(path, direction, [protocol], view=view))
    if answer.status != 303:
        return _outcome(agent, answer)
    details = await agent.send("GET", answer.location)
    found = endpoints_of(details.xml)
    if not found:
        return await _job(agent, answer.location.removesuffix("/results/transferDetails"), details)
    got = await agent.send(method, found[0], b"new" if method == "PUT" else None)
    return _outcome(agent, details, got)


async def _job(agent: Agent, job: str, *before: Answer) -> Outcome:
    """Judge by how a job has ended."""
    while (told := await agent.send("GET", f"{job}?WAIT=10")).xml.findtext(f"{{{UWS}}}phase") in {
        "QUEUED",
        "EXECUTING",
    }:
        pass
    phase = told.xml.findtext(f"{{{UWS}}}phase")
    error = await agent.send("GET", f"{job}/error")
    text = "\n".join(one.body.decode("latin-1") for one in (*before, told, error))
    if phase == "COMPLETED":
        return Outcome("ok", text)
    fault = error.text if error.status == 200 else str(phase)
    refused = "PermissionDenied" if agent.token else "NotAuthenticated"
    return Outcome({refused: "denied", "NodeLocked": "locked"}.get(fault, fault), text)


async def relocate(agent: Agent, path: str, name: str, *, keep: bool) -> Outcome:
    document = transfer(path, f"{path.rpartition('/')[0]}/{name}", keep=keep)
    return await _run(agent, "transfers", document, None)


async def delete(agent: Agent, path: str) -> Outcome:
    return _outcome(agent, await agent.delete(path))


async def _run(agent: Agent, list_: str, body: str, headers: dict[str, str] | None) -> Outcome:
    """Make and run a job."""
    made = await agent.send("POST", f"/{list_}?PHASE=RUN", body, headers=headers)
    if made.status != 303:
        return _outcome(agent, made)
    job = await agent.send("GET", made.location)
    return _outcome(agent, job) if job.status != 200 else await _job(agent, made.location)


async def delete_job(agent: Agent, path: str) -> Outcome:
    return await _run(agent, "async-delete", urlencode({"target": uri_of(path)}), FORM)


async def set_job(agent: Agent, path: str) -> Outcome:
    return await _run(agent, "async-setprops", node_document(path, "Node", properties={"urn:x": "y"}), None)


async def search(agent: Agent, path: str) -> Outcome:
    query = urlencode({"target": uri_of(path.rpartition("/")[0]), "detail": "max"})
    return _outcome(agent, await agent.send("GET", f"/search?{query}"))


async def search_for(agent: Agent, path: str) -> Outcome:
    """Ask for what only the node fulfils: the number of answers is an answer."""
    asked = {"target": uri_of(path.rpartition("/")[0]), "property": f"{TITLE}={SECRET}", "minsize": "0"}
    return _outcome(agent, await agent.send("GET", f"/search?{urlencode(asked)}"))


async def pack(agent: Agent, path: str) -> Outcome:
    return await by_document(agent, path.rpartition("/")[0], "pullFromVoSpace", GET, TAR.view)


async def package(agent: Agent, path: str) -> Outcome:
    """Ask for a package of the node alone: what may not be read is left out of it, as what is not there."""
    document = (
        f'<transfer xmlns="{V[1:-1]}" version="2.1"><target>{uri_of(path)}</target>'
        f'<direction>pullFromVoSpace</direction><view uri="{PACKAGE_VIEW}"/><protocol uri="{GET}"/></transfer>'
    )
    answer = await agent.send("POST", "/synctrans", document)
    if answer.status != 303:
        return _outcome(agent, answer)
    place = await agent.send("GET", answer.location)
    return _outcome(agent, place) if place.status != 303 else _outcome(agent, await agent.send("GET", place.location))


async def search_job(agent: Agent, path: str) -> Outcome:
    body = urlencode({"target": uri_of(path.rpartition("/")[0])})
    made = await agent.send("POST", "/searches?PHASE=RUN", body, headers=FORM)
    if made.status != 303:
        return _outcome(agent, made)
    found = await _job(agent, made.location)
    if found.verdict != "ok":
        return found
    return _outcome(agent, await agent.send("GET", f"{made.location}/results/searchDetails?detail=max"))


async def permissions(agent: Agent, path: str) -> Outcome:
    answer = await agent.send("GET", f"/permissions?{urlencode({'target': uri_of(path), 'right': 'read'})}")
    if answer.status != 200:
        return _outcome(agent, answer)
    (one,) = json.loads(answer.body)["permissions"]
    return Outcome("ok" if one["allowed"] else "denied", answer.text)


Operation = Callable[[Agent, str], Awaitable[Outcome]]
Ruling = Callable[[str, State], str]

_TABLE: Final[dict[str, tuple[Ruling, Operation]]] = {
    "get": (_read, get),
    "get min": (_read, lambda agent, path: get(agent, path, "min")),
    "get properties": (_read, lambda agent, path: get(agent, path, "properties")),
    "get max": (_read, lambda agent, path: get(agent, path, "max")),
    "head": (_read, head),
    "entry": (_read, entry),
    "protocols": (_read, protocols),
    "permissions": (_read, permissions),
    "list": (_of_box, list_box),
    "list entries": (_of_box, entries),
    "search": (_of_box, search),
    "search for": (_of_box, search_for),
    "search job": (_of_box, search_job),
    "pack": (_of_box, pack),
    "package": (_anything, package),
    "get bytes": (_read_goal, lambda agent, path: bytes_by_path(agent, path, "GET")),
    "head bytes": (_read_goal, lambda agent, path: bytes_by_path(agent, path, "HEAD")),
    "pull": (_read_goal, lambda agent, path: by_document(agent, path, "pullFromVoSpace", GET)),
    "pull by parameters": (_read_goal, lambda agent, path: by_parameters(agent, path, "pullFromVoSpace", GET)),
    "put bytes": (_write, put_by_path),
    "push": (_write, lambda agent, path: by_document(agent, path, "pushToVoSpace", PUT, method="PUT")),
    "push by parameters": (_write, lambda agent, path: by_parameters(agent, path, "pushToVoSpace", PUT)),
    "set": (_set, lambda agent, path: set_property(agent, path, "urn:x", "y")),
    "lock": (_set, lambda agent, path: set_property(agent, path, LOCKED, "true")),
    "share": (_share, lambda agent, path: set_property(agent, path, CORE + "groupread", "ivo://x/y?z")),
    "fix": (_fix, lambda agent, path: set_property(agent, path, IMMUTABLE, "true")),
    "unfix": (_unfix, lambda agent, path: set_property(agent, path, IMMUTABLE, "false")),
    "create": (_create, create),
    "delete": (_delete, delete),
    "move": (_delete, lambda agent, path: relocate(agent, path, "moved", keep=False)),
    "copy": (_copy, lambda agent, path: relocate(agent, path, "copied", keep=True)),
    "delete job": (_delete_job, delete_job),
    "set job": (_set_job, set_job),
}
_RULINGS: Final = {name: ruling for name, (ruling, _) in _TABLE.items()}
OPERATIONS: Final = {name: operation for name, (_, operation) in _TABLE.items()}
READING: Final = set(itertools.takewhile(lambda name: name != "put bytes", OPERATIONS))
BY_URL: Final = {"get bytes": "pullFromVoSpace", "head bytes": "pullFromVoSpace", "put bytes": "pushToVoSpace"}
"""What can be done with a URL, and what its owner agrees on for it."""
