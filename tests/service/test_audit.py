"""What is gathered for the audit log: batches, what comes too fast, and that no secret is among it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.audit import Action, line
from pyvospace.model.callers import Caller, Origin
from pyvospace.model.faults import ServiceBusy
from pyvospace.service import audit
from pyvospace.service.audit import AuditWriter, Entry

CALLER = Caller(7, "alice", credential="token 1 laptop", origin=Origin("192.0.2.1", "r1"))
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLWl0"
SECRETS = (
    TOKEN,
    "0123456789abcdef" * 4,
    "https://alice:open-sesame@example.org/x",
    "Authorization: Bearer hunter2hunter2",
    "password=open-sesame",
)
SHOWN = ("eyJzdWIi", "0123456789abcdef" * 4, "open-sesame", "hunter2")


class Database:
    """Takes batches, unless it is told not to."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.away = False

    async def write(self, entries: str) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise ServiceBusy("the database is away")
        self.batches.append(json.loads(entries))

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for batch in self.batches for row in batch]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(audit, "_GATHERED", 0.001)
    monkeypatch.setattr(audit, "_AGAIN", 0.001)
    return Database()


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def entry(number: int) -> Entry:
    return Entry(CALLER, Action.READ_BYTES, node=number)


async def test_what_is_alike_is_one_row(database: Database) -> None:
    writer = AuditWriter(database.write)
    for _ in range(3):
        writer.add(entry(1))
    writer.add(entry(2))
    await end(asyncio.create_task(writer.run()))
    assert not database.batches, "it was cancelled before it began"
    task = asyncio.create_task(writer.run())
    while not database.batches:
        await asyncio.sleep(0.001)
    await end(task)
    assert [(row["node"], row["details"]) for row in database.rows] == [(1, {"times": 3}), (2, {})]


async def test_what_is_left_is_written_at_the_end(database: Database) -> None:
    writer = AuditWriter(database.write)
    task = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    for number in range(2500):
        writer.add(entry(number))
    await end(task)
    assert [row["node"] for row in database.rows] == list(range(2500))


async def test_nothing_is_dropped_in_silence(database: Database) -> None:
    """A database that is away for a while costs the oldest entries; a row says how many."""
    writer = AuditWriter(database.write)
    database.away = True
    task = asyncio.create_task(writer.run())
    for number in range(audit._MOST + 5):
        writer.add(entry(number))
    await asyncio.sleep(0.05)
    database.away = False
    while len(database.rows) < audit._MOST + 1:
        await asyncio.sleep(0.001)
    await end(task)
    (dropped,) = [row for row in database.rows if row["action"] == "dropAudit"]
    assert dropped["details"] == {"rows": 5}
    assert sorted(row["node"] for row in database.rows if row is not dropped) == list(range(5, audit._MOST + 5))


@given(st.lists(st.sampled_from(SECRETS) | st.text(max_size=20), max_size=5), st.sampled_from(" /\n\r\t,;"))
def test_no_secret_gets_in(parts: list[str], between: str) -> None:
    """Nor does a line end: whatever a stranger sends, a row is short, and one line."""
    text = between.join(parts)
    told = Entry(Caller(credential=text, origin=Origin(text, text)), Action.REQUEST, names=(text,), details={"x": text})
    packed = json.loads(json.dumps(told.pack(datetime.now(UTC), 2)))
    packed.pop("names")  # by which a node is looked for: it becomes a part of the row only if there is one
    written = line(packed)
    assert written.count(b"\n") == 1
    assert written.isascii()
    assert written[:-1].decode().isprintable()
    assert len(written) < 60_000
    for secret in SHOWN:
        if any(secret in part for part in parts if part in SECRETS):
            assert secret not in written.decode()
