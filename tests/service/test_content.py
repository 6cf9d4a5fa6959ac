"""Headers about bytes."""

import pytest

from pyvospace.service.content import DEFAULT_TYPE, content_disposition, content_type


@pytest.mark.parametrize(
    "stored", [None, "", "rubbish", "text/plain\x01", "text/plain\n", "téxt/plain", "a/" + "b" * 300]
)
def test_type_that_cannot_stand_in_a_header(stored: str | None) -> None:
    assert content_type(stored) == DEFAULT_TYPE


def test_type_that_can() -> None:
    assert content_type("text/plain; charset=utf-8") == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("a.fits", "application/fits", "inline; filename=\"a.fits\"; filename*=UTF-8''a.fits"),
        ("a.html", "text/html", "attachment; filename=\"a.html\"; filename*=UTF-8''a.html"),
        ("a.txt", "Text/Plain; charset=utf-8", "inline; filename=\"a.txt\"; filename*=UTF-8''a.txt"),
        ('q"\\.dat', "a/b", "attachment; filename=\"q__.dat\"; filename*=UTF-8''q%22%5C.dat"),
        ("é 日.x", "a/b", "attachment; filename=\"_ _.x\"; filename*=UTF-8''%C3%A9%20%E6%97%A5.x"),
        ("50%41.x", "a/b", "attachment; filename=\"50_41.x\"; filename*=UTF-8''50%2541.x"),
        ("a\r\nb", "a/b", "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"),
    ],
)
def test_content_disposition(name: str, content_type: str, expected: str) -> None:
    assert content_disposition(name, content_type) == expected
