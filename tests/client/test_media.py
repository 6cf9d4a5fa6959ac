from __future__ import annotations

import pytest

from pyvospace.client.media import content_type_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.fits", "application/fits"),
        ("A.FITS", "application/fits"),
        ("a.fits.fz", "application/fits"),
        ("a.fits.gz", "application/gzip"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.txt", "text/plain"),
        ("a.xml", "text/xml"),
        ("a.vot", "application/x-votable+xml"),
        ("a", None),
        ("", None),
        ("a.unknown", None),
        ("data:text/plain,x", None),
        ("http:x.txt", "text/plain"),
    ],
)
def test_guesses(name: str, kind: str | None) -> None:
    assert content_type_of(name) == kind
