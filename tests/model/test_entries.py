from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.entries import (
    Entry,
    nanoseconds_of,
    read_file_time,
    read_mode,
    write_file_time,
    write_mode,
    write_seconds,
)
from pyvospace.model.vocabulary import NodeType

FIRST = nanoseconds_of(datetime(1, 1, 1, tzinfo=UTC))
LAST = nanoseconds_of(datetime(9999, 12, 31, tzinfo=UTC))


@given(st.integers(FIRST, LAST))
def test_a_time_comes_back_to_the_nanosecond(nanoseconds: int) -> None:
    read = read_file_time(write_file_time(nanoseconds))
    assert read is not None
    entry = Entry(name="x", type=NodeType.DATA, mtime=read[0], below_microsecond=read[1], changed=read[0])
    assert entry.mtime_ns == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "seconds"),
    [(0, "0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (10_000_000_000, "10"), (-1_500_000_000, "-1.5")],
)
def test_seconds(nanoseconds: int, seconds: str) -> None:
    assert write_seconds(nanoseconds) == seconds


def test_instants() -> None:
    assert nanoseconds_of(7) == 7
    assert nanoseconds_of(datetime(1970, 1, 1, 1)) == 3600 * 10**9  # noqa: DTZ001
    assert nanoseconds_of(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


@pytest.mark.parametrize("text", [None, "", "soon", "2026-13-01T00:00:00Z"])
def test_what_is_no_time(text: str | None) -> None:
    assert read_file_time(text) is None


@given(st.integers(0, 0o7777))
def test_modes(mode: int) -> None:
    assert read_mode(write_mode(0o100000 | mode)) == mode


@pytest.mark.parametrize("text", [None, "", "8", "-1", "0x1", "77777", "u+x", "٣"])
def test_what_is_no_mode(text: str | None) -> None:
    assert read_mode(text) is None
