"""Ranges and conditions against an independent reading of RFC 9110."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyvospace.model.ranges import (
    UNSATISFIABLE,
    ByteRange,
    Conditions,
    Version,
    parse_date,
    parse_etags,
    parse_range,
)

NOON = datetime(2026, 5, 4, 12, 0, 0, 250_000, tzinfo=UTC)
VERSION = Version("abc", NOON)
EARLIER, SAME, LATER = (
    format_datetime(NOON.replace(microsecond=0) + timedelta(seconds=shift), usegmt=True) for shift in (-1, 0, 1)
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", ByteRange(0, 10)),
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=9-9", ByteRange(9, 10)),
        ("bytes=2-100", ByteRange(2, 10)),
        ("BYTES=2-3", ByteRange(2, 4)),
        ("bytes= 2-3 ", ByteRange(2, 4)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-100", ByteRange(0, 10)),
        ("bytes=00000000000000000000000000-1", ByteRange(0, 2)),
        ("bytes=0-" + "9" * 5000, ByteRange(0, 10)),
        ("bytes=10-", UNSATISFIABLE),
        ("bytes=10-20", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=" + "9" * 5000 + "-", UNSATISFIABLE),
        (None, None),
        ("", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=3", None),
        ("bytes=5-3", None),
        ("bytes=0-1,3-4", None),
        ("bytes=0-1,", None),
        ("bytes=0x1-", None),
        ("bytes=+1-2", None),
        ("bytes=1 - 2", None),
        ("bytes=1--2", None),
        ("bytes=²-3", None),
        ("items=0-1", None),
        (" bytes =0-1", None),
    ],
)
def test_range_header(header: str | None, expected: object) -> None:
    assert parse_range(header, 10) == expected


def test_ranges_of_an_empty_file() -> None:
    assert parse_range("bytes=0-", 0) is UNSATISFIABLE
    assert parse_range("bytes=-5", 0) is None


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_range_selects_what_python_slices(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    answer = parse_range(f"bytes={first}-{last}", size)
    if isinstance(answer, ByteRange):
        assert data[answer.start : answer.stop] == data[first : last + 1]
        assert answer.content_range(size) == f"bytes {answer.start}-{answer.stop - 1}/{size}"
    else:
        assert answer is (None if last < first else UNSATISFIABLE)


@given(st.integers(0, 50), st.integers(1, 60))
def test_suffix_selects_the_end(size: int, length: int) -> None:
    data = bytes(range(size))
    answer = parse_range(f"bytes=-{length}", size)
    selected = data[answer.start : answer.stop] if isinstance(answer, ByteRange) else b""
    assert selected == data[-length:]


@given(st.text(max_size=30) | st.text(alphabet="bytes=-,0129 \t", max_size=30), st.integers(0, 1 << 62))
@example("bytes=" + "0-0," * 2000, 100)
def test_any_text_is_a_range_or_not(text: str, size: int) -> None:
    answer = parse_range(text, size)
    if isinstance(answer, ByteRange):
        assert 0 <= answer.start < answer.stop <= size
        assert re.fullmatch(r"\s*bytes=\s*(\d+-\d*|-\d+)\s*", text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('"a"', ((False, "a"),)),
        ('W/"a", "b"', ((True, "a"), (False, "b"))),
        (' ,, "a" ,\t"" ', ((False, "a"), (False, ""))),
        ('"with, comma"', ((False, "with, comma"),)),
        ("", ()),
        ("a", None),
        ('"a', None),
        ('"a""b"', None),
        ('w/"a"', None),
        ("W/a", None),
        ('W/"', None),
    ],
)
def test_etag_list(header: str, expected: object) -> None:
    assert parse_etags(header) == expected


@given(st.text(alphabet='W/", ab', max_size=40))
def test_any_text_is_an_etag_list_or_not(text: str) -> None:
    tags = parse_etags(text)
    if tags is not None:
        again = ", ".join(f'{"W/" * weak}"{tag}"' for weak, tag in tags)
        assert parse_etags(again) == tags


@given(st.text(max_size=60))
def test_any_text_is_a_date_or_not(text: str) -> None:
    assert parse_date(text) is None or isinstance(parse_date(text), int)


def test_all_formats_of_http_dates() -> None:
    expected = int(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp())
    assert parse_date("Sun, 06 Nov 1994 08:49:37 GMT") == expected
    assert parse_date("Sunday, 06-Nov-94 08:49:37 GMT") == expected
    assert parse_date("Sun Nov  6 08:49:37 1994") == expected


OK = None
CHANGED = HTTPStatus.NOT_MODIFIED
FAILED = HTTPStatus.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("conditions", "version", "reading", "writing"),
    [
        ({}, VERSION, OK, OK),
        ({"if_match": '"abc"'}, VERSION, OK, OK),
        ({"if_match": '"x", "abc"'}, VERSION, OK, OK),
        ({"if_match": 'W/"abc"'}, VERSION, FAILED, FAILED),
        ({"if_match": "*"}, VERSION, OK, OK),
        ({"if_match": "*"}, None, FAILED, FAILED),
        ({"if_match": '"abc"'}, None, FAILED, FAILED),
        ({"if_match": "rubbish"}, VERSION, FAILED, FAILED),
        ({"if_none_match": '"abc"'}, VERSION, CHANGED, FAILED),
        ({"if_none_match": 'W/"abc"'}, VERSION, CHANGED, FAILED),
        ({"if_none_match": '"x"'}, VERSION, OK, OK),
        ({"if_none_match": "*"}, VERSION, CHANGED, FAILED),
        ({"if_none_match": "*"}, None, OK, OK),
        ({"if_modified_since": SAME}, VERSION, CHANGED, OK),
        ({"if_modified_since": LATER}, VERSION, CHANGED, OK),
        ({"if_modified_since": EARLIER}, VERSION, OK, OK),
        ({"if_modified_since": "yesterday"}, VERSION, OK, OK),
        ({"if_modified_since": SAME}, None, OK, OK),
        ({"if_unmodified_since": SAME}, VERSION, OK, OK),
        ({"if_unmodified_since": EARLIER}, VERSION, FAILED, FAILED),
        ({"if_unmodified_since": "yesterday"}, VERSION, OK, OK),
        ({"if_match": '"abc"', "if_unmodified_since": EARLIER}, VERSION, OK, OK),
        ({"if_none_match": '"x"', "if_modified_since": SAME}, VERSION, OK, OK),
    ],
)
def test_conditions(
    conditions: dict[str, str], version: Version | None, reading: HTTPStatus | None, writing: HTTPStatus | None
) -> None:
    assert Conditions(**conditions).evaluate(version, reading=True) is reading
    assert Conditions(**conditions).evaluate(version, reading=False) is writing


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        (None, True),
        ('"abc"', True),
        ('"x"', False),
        ('W/"abc"', False),
        ('"abc", "x"', False),
        (SAME, True),
        (EARLIER, False),
        (LATER, False),
        ("rubbish", False),
    ],
)
def test_if_range(if_range: str | None, expected: bool) -> None:
    assert Conditions(if_range=if_range).allows_range(VERSION) is expected
