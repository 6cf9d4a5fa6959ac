"""Instants."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import read_instant, write_instant
from tests.support.strategies import instants


@given(instants)
def test_round_trip(instant: datetime) -> None:
    text = write_instant(instant)
    assert len(text) == len("2026-03-01T09:00:00.000Z")
    assert read_instant(text) == read_instant(text.removesuffix("Z")) == instant


@given(st.text())
def test_any_text_is_an_instant_or_a_fault(text: str) -> None:
    try:
        read_instant(text)
    except InvalidArgument:
        pass
    else:
        assert read_instant(text).tzinfo is UTC


def test_other_zones_and_finer_clocks() -> None:
    east = datetime(2026, 3, 1, 11, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert write_instant(east) == "2026-03-01T09:00:00.999Z"
    assert write_instant(datetime(2026, 3, 1, 9)) == "2026-03-01T09:00:00.000Z"  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-03-01T09:00:00Z", 0),
        ("2026-03-01T09:00:00", 0),
        (" 2026-03-01T09:00:00.5Z\n", 500_000),
        ("2026-03-01T09:00:00.123456789", 123_456),
        ("2026-03-01T11:00:00.25+02:00", 250_000),
        ("2026-03-01T04:30:00-04:30", 0),
        ("2026-03-01 09:00:00", 0),
    ],
)
def test_other_writings(text: str, microsecond: int) -> None:
    assert read_instant(text) == datetime(2026, 3, 1, 9, 0, 0, microsecond, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-01",
        "2026-03-01T09:00",
        "2026-13-01T09:00:00Z",
        "2026-02-30T09:00:00Z",
        "2026-03-01T25:00:00",
        "2026-03-01T09:00:60Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+12:00",
        "2026-03-01T09:00:00+99:00",
        "2026-03-01T09:00:00.Z",
        "2026-03-01T09:00:00z",
        "٢٠٢٦-03-01T09:00:00Z",
        "2026-03-01T09:00:00Z" * 100,
    ],
)
def test_instants_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_instant(text)
    assert len(str(caught.value)) < 300
