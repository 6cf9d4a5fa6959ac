"""Time and mode of a file come with its bytes, are stored with them, and go with them."""

from __future__ import annotations

import asyncio
import base64

import pytest
from yarl import URL

from pyvospace.model.entries import MODE_HEADER, MTIME_HEADER
from pyvospace.model.vocabulary import CORE, FILE_MODE, FILE_TIME, TUS, Direction
from tests.server.test_admin import told as set_policy
from tests.support.agents import Agent, Answer, properties_of

WHEN, SECONDS = "2023-11-14T22:13:20.123456789Z", "1700000000.123456789"
BOTH = {MTIME_HEADER: SECONDS, MODE_HEADER: "640"}
WRONG = [
    *(
        {MTIME_HEADER: value}
        for value in ("", "x", "1e9", "1.", "0x10", "1,5", "\u0661", "9" * 12, "-" + "9" * 12, "1 2")
    ),
    *({MODE_HEADER: value} for value in ("", "8", "rw", "00644", "-1", "0o644", "\u0667")),
]


async def kept(agent: Agent, path: str) -> tuple[str | None, str | None]:
    """Give time and mode as the node has them."""
    told = properties_of(await agent.node(path))
    return told.get(FILE_TIME), told.get(FILE_MODE)


async def bring(agent: Agent, path: str, body: bytes, headers: dict[str, str], *, by_path: bool = False) -> Answer:
    """Bring bytes to an endpoint that was agreed on, or to /files, which sends on."""
    if not by_path:
        _, endpoint = await agent.negotiate(path, Direction.PUSH_TO_VOSPACE)
        return await agent.send("PUT", endpoint, body, headers=headers)
    first = await agent.send("PUT", f"/files{path}", body, headers=headers)
    return first if first.status != 307 else await agent.send("PUT", first.location, body, headers=headers)


@pytest.mark.parametrize("by_path", [False, True])
async def test_they_come_and_go_with_bytes(alice: Agent, folder: str, by_path: bool) -> None:
    path = f"{folder}/a"
    answer = (await bring(alice, path, b"x", BOTH, by_path=by_path)).assert_status(201)
    assert answer.headers[MTIME_HEADER] == "accepted"
    assert await kept(alice, path) == (WHEN, "0640")
    answer = (await bring(alice, path, b"y", {MODE_HEADER: "7"}, by_path=by_path)).assert_status(201)
    assert MTIME_HEADER not in answer.headers
    assert await kept(alice, path) == (None, "0007")
    await bring(alice, path, b"z", {}, by_path=by_path)
    assert await kept(alice, path) == (None, None)


@pytest.mark.parametrize(
    ("seconds", "when"),
    [
        ("0", "1970-01-01T00:00:00Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        ("1700000000.5000", "2023-11-14T22:13:20.5Z"),
        ("1.0000000009", "1970-01-01T00:00:01Z"),
        ("-0.5", "1969-12-31T23:59:59.5Z"),
        ("-62135596800", "0001-01-01T00:00:00Z"),
    ],
)
async def test_times(alice: Agent, folder: str, seconds: str, when: str) -> None:
    (await bring(alice, f"{folder}/a", b"", {MTIME_HEADER: seconds})).assert_status(201)
    assert await kept(alice, f"{folder}/a") == (when, None)


async def test_wrong_values_are_refused_before_anything_is_stored(alice: Agent, folder: str) -> None:
    await bring(alice, f"{folder}/a", b"old", BOTH)
    _, endpoint = await alice.negotiate(f"{folder}/a", Direction.PUSH_TO_VOSPACE)
    for headers in WRONG:
        encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        (await alice.send("PUT", endpoint, b"new", headers=encoded)).assert_fault(400, "InvalidArgument")
        (await alice.send("PUT", f"/files{folder}/a", b"new", headers=encoded)).assert_fault(400, "InvalidArgument")
    assert await alice.pull(f"{folder}/a") == b"old"
    assert await kept(alice, f"{folder}/a") == (WHEN, "0640")
    (await alice.send("PUT", endpoint, b"new")).assert_status(201)


async def test_refused_and_broken_off_uploads_change_neither(alice: Agent, folder: str) -> None:
    path = f"{folder}/a"
    await bring(alice, path, b"old", BOTH)
    (await bring(alice, path, b"new", {MTIME_HEADER: "1", "If-None-Match": "*"})).assert_fault(
        412, "PreconditionFailed"
    )
    (await bring(alice, path, b"new", {MTIME_HEADER: "1", "If-Match": f'"{"0" * 64}"'})).assert_fault(
        412, "PreconditionFailed"
    )
    (await bring(alice, path, b"new", {MTIME_HEADER: "1", "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})).assert_status(
        412
    )
    _, endpoint = await alice.negotiate(path, Direction.PUSH_TO_VOSPACE)
    url = URL(endpoint)
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT {url.raw_path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n{MTIME_HEADER}: 1\r\n\r\nnew"
    writer.write(head.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await alice.pull(path) == b"old"
    assert await kept(alice, path) == (WHEN, "0640")


async def test_they_are_properties_as_any_other(alice: Agent, bea: Agent, folder: str) -> None:
    path = f"{folder}/a"
    await bring(alice, path, b"x", BOTH)
    (await bea.post(path, properties={FILE_TIME: "2000-01-01T00:00:00Z"})).assert_fault(403, "PermissionDenied")
    (await alice.post(path, properties={FILE_TIME: "2000-01-01T00:00:00Z", FILE_MODE: None})).assert_status(200)
    assert await kept(alice, path) == ("2000-01-01T00:00:00Z", None)
    assert await alice.pull(path) == b"x"


async def test_time_and_mode_of_resumable_uploads(alice: Agent, folder: str) -> None:
    def told(**values: str) -> str:
        return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())

    version = {"Tus-Resumable": "1.0.0"}
    _, endpoint = await alice.negotiate(f"{folder}/a", Direction.PUSH_TO_VOSPACE, TUS)
    for wrong in (told(mtime="x"), told(mode="999"), told(mtime="")):
        headers = {**version, "Upload-Length": "6", "Upload-Metadata": wrong}
        (await alice.send("POST", endpoint, headers=headers)).assert_fault(400, "InvalidArgument")
    metadata = told(mtime=SECONDS, mode="0640", filetype="text/x-y")
    headers = {**version, "Upload-Length": "6", "Upload-Metadata": metadata}
    upload = (await alice.send("POST", endpoint, headers=headers)).assert_status(201).location
    for offset, piece in ((0, b"abc"), (3, b"def")):
        headers = {**version, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        (await alice.send("PATCH", upload, piece, headers=headers)).assert_status(204)
    assert await alice.pull(f"{folder}/a") == b"abcdef"
    assert await kept(alice, f"{folder}/a") == (WHEN, "0640")
    assert properties_of(await alice.node(f"{folder}/a"))[CORE + "type"] == "text/x-y"


async def test_time_and_mode_of_put_transactions(alice: Agent, folder: str) -> None:
    _, endpoint = await alice.negotiate(f"{folder}/a", Direction.PUSH_TO_VOSPACE)
    wrong = {"x-put-txn-op": "start", MODE_HEADER: "x"}
    (await alice.send("PUT", endpoint, b"abc", headers=wrong)).assert_fault(400, "InvalidArgument")
    begun = await alice.send("PUT", endpoint, b"abc", headers={"x-put-txn-op": "start", **BOTH})
    name = {"x-put-txn-id": begun.assert_status(202).headers["x-put-txn-id"]}
    (await alice.send("PUT", endpoint, b"", headers={"x-put-txn-op": "commit", **name})).assert_status(201)
    assert await kept(alice, f"{folder}/a") == (WHEN, "0640")


async def test_versions_come_back_without(alice: Agent, folder: str) -> None:
    """A time that was told with other bytes says nothing of these."""
    await set_policy(alice, "PATCH", f"/policy?container={folder}", {"versions": 3})
    path = f"{folder}/a"
    await bring(alice, path, b"first", {})
    await bring(alice, path, b"second", BOTH)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await alice.send("POST", f"/versions{path}", b"number=1", headers=form)).status < 300
    assert await alice.pull(path) == b"first"
    assert await kept(alice, path) == (None, None)
